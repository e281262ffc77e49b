# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The forecast of space, on file systems that are nearly full: a warning, or an error before anything is done."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.disksnap.libvirt.tests.live.harness import Guests, Runner, chain, untouched
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab

MIB = 1 << 20


@pytest.fixture(scope='module')
def place(lab: Lab) -> Iterator[Path]:
    """A small file system with two pools."""
    directory = lab.filesystem('space', 'xfs', size_mib=320)
    for name in ('one', 'two'):
        lab.pool(f'space-{name}', directory / name)
    yield directory
    for name in ('one', 'two'):
        lab.remove_pool(f'space-{name}')
    lab.remove_filesystem('space')


@pytest.fixture
def pair(place: Path, guest: Guests) -> Iterator[list[Guest]]:
    """Two guests that are shut off, with 40 MiB in each of their disks, in the two pools."""
    made = [
        guest(GuestSpec(f'space-{name}', disks=[DiskSpec(size_mib=96)], directory=place / name, state='shutoff'))
        for name in ('one', 'two')
    ]
    for one in made:
        argv = ['qemu-io', '-c', 'write 32M 40M', chain(one, 'vda')[0]]
        subprocess.run(argv, check=True, timeout=60, capture_output=True)
    yield made
    guest.remove()


def filled(place: Path, left: int) -> Path:
    """A file that leaves so many bytes of the file system."""
    filler = place / 'filler'
    found = os.statvfs(place)
    handle = os.open(filler, os.O_WRONLY | os.O_CREAT)
    os.posix_fallocate(handle, 0, found.f_bavail * found.f_frsize - left)
    os.close(handle)
    return filler


@pytest.mark.parametrize('method', ['qemu', 'reflink'])
def test_a_snapshot(method: str, pair: list[Guest], place: Path, lab: Lab, run_module: Runner) -> None:
    task = {'domains': [{'name': one.name} for one in pair], 'snapshot_name': 's1', 'method': method}
    roomy = run_module('disk_snapshot', task, check=True)
    [space] = roomy['space']
    assert space['needed'] >= 80 * MIB
    assert space['available'] > 80 * MIB
    assert roomy['warnings'] == []
    filler = filled(place, 60 * MIB)
    try:
        with untouched(lab, *pair):
            for check in (True, False):
                refused = run_module.fails('disk_snapshot', {**task, 'min_free': '1M'}, check=check)
                assert 'min_free wants 1 MiB left' in refused['msg']
                assert 'Nothing was changed.' in refused['msg']
            checked = run_module('disk_snapshot', task, check=True)
        taken = run_module('disk_snapshot', task)
        for result in (checked, taken):
            [warning] = result['warnings']
            assert 'may come to need' in warning
            assert 'space-one' in warning or 'space-two' in warning
        assert taken['space'][0]['needed'] == checked['space'][0]['needed'] == space['needed']
        assert run_module('disk_snapshot', task)['warnings'] == []
    finally:
        filler.unlink()
    run_module('disk_snapshot', {**task, 'state': 'absent'})


def test_one_guest_after_the_other(pair: list[Guest], place: Path, run_module: Runner) -> None:
    """The one that fits is taken, with what it may come to need in mind for the other."""
    task = {'domains': [{'name': one.name} for one in pair], 'snapshot_name': 's1', 'instant': 'domain'}
    [space] = run_module('disk_snapshot', task, check=True)['space']
    filler = filled(place, space['needed'] * 3 // 4 + 5 * MIB)
    try:
        predicted = run_module.fails('disk_snapshot', {**task, 'min_free': '5M'}, check=True)
        assert [one['name'] for one in predicted['domains']] == [pair[0].name]
        refused = run_module.fails('disk_snapshot', {**task, 'min_free': '5M'})
    finally:
        filler.unlink()
    assert f'domain {pair[1].name}' in refused['msg']
    assert [one['name'] for one in refused['domains']] == [pair[0].name]
    assert predicted['msg'] == refused['msg']
    assert [Path(chain(one, 'vda')[0]).name for one in pair] == ['space-one-vda.s1.qcow2', 'space-two-vda.qcow2']
    run_module('disk_snapshot', {**task, 'domains': [{'name': pair[0].name}], 'state': 'absent'})


def test_a_merge(pair: list[Guest], place: Path, lab: Lab, run_module: Runner) -> None:
    one = pair[0]
    run_module('disk_snapshot', {'name': one.name, 'snapshot_name': 's1'})
    argv = ['qemu-io', '-c', 'write 32M 20M', chain(one, 'vda')[0]]
    subprocess.run(argv, check=True, timeout=60, capture_output=True)
    filler = filled(place, 30 * MIB)
    try:
        with untouched(lab, *pair):
            for name, task in (
                ('snapshot_merge', {'name': one.name, 'snapshot_name': 's1'}),
                ('disk_snapshot', {'name': one.name, 'snapshot_name': 's1', 'state': 'absent'}),
            ):
                refused = run_module.fails(name, {**task, 'min_free': '5%'})
                assert 'min_free wants' in refused['msg']
        merged = run_module('snapshot_merge', {'name': one.name, 'snapshot_name': 's1', 'min_free': '1M'})
    finally:
        filler.unlink()
    [space] = merged['space']
    assert 20 * MIB <= space['needed'] < 30 * MIB
    assert space['pool'] == 'space-one'


def test_what_is_no_amount(pair: list[Guest], lab: Lab, run_module: Runner) -> None:
    with untouched(lab, *pair):
        for name in ('disk_snapshot', 'snapshot_merge'):
            error = run_module.fails(name, {'name': pair[0].name, 'snapshot_name': 's1', 'min_free': 'much'})
            assert 'min_free' in error['msg']


def test_subvolumes_of_one_btrfs_are_one_storage(lab: Lab, guest: Guests, run_module: Runner) -> None:
    """Each has a device number of its own, and all of them the same free bytes."""
    directory = lab.filesystem('space-btrfs', 'btrfs', size_mib=400)
    try:
        made = []
        for name in ('one', 'two'):
            argv = ['btrfs', '-q', 'subvolume', 'create', str(directory / name)]
            subprocess.run(argv, check=True, timeout=60, capture_output=True)
            spec = GuestSpec(f'sub-{name}', disks=[DiskSpec(size_mib=32)], directory=directory / name, state='shutoff')
            made.append(guest(spec))
        assert len({os.stat(directory / name).st_dev for name in ('one', 'two')}) == 2
        task = {'domains': [{'name': one.name} for one in made], 'snapshot_name': 's1', 'method': 'qemu'}
        [space] = run_module('disk_snapshot', task, check=True)['space']
        alone = run_module('disk_snapshot', {**task, 'domains': task['domains'][:1]}, check=True)['space'][0]
        assert space['needed'] > alone['needed'] > 0
    finally:
        guest.remove()
        lab.remove_filesystem('space-btrfs')
