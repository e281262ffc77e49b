# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The method btrfs on real guests, and one snapshot by several methods."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _subvolume
from ansible_collections.disksnap.libvirt.tests.live import copies
from ansible_collections.disksnap.libvirt.tests.live.harness import (
    Guests,
    Runner,
    chain,
    frozen,
    journal,
    put_back,
    ready,
    until,
    untouched,
)
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab, view

BTRFS = {'method': 'btrfs', 'quiesce': 'required'}


def subvolume(path: Path) -> Path:
    """A new subvolume."""
    subprocess.run(['btrfs', 'subvolume', 'create', path], check=True, timeout=60, capture_output=True)
    return path


def tree(directory: Path) -> list[str]:
    """Subvolumes of the file system, and what is in the directory."""
    listed = subprocess.run(['btrfs', 'subvolume', 'list', directory], check=True, capture_output=True, text=True)
    subvolumes = sorted(line.rpartition(' ')[2] for line in listed.stdout.splitlines())
    return subvolumes + sorted(path.name for path in directory.iterdir())


@pytest.fixture(scope='module')
def volume(lab: Lab) -> Iterator[Path]:
    """A btrfs with the subvolumes images and more."""
    directory = lab.filesystem('pond', 'btrfs', size_mib=900)
    for name in ('images', 'more'):
        subvolume(directory / name)
    yield directory
    lab.remove_filesystem('pond')


@pytest.fixture(scope='module')
def running(volume: Path, shared: Guests) -> Iterator[Guest]:
    """A guest with a raw and a qcow2 disk in one subvolume, and a raw one in another."""
    images, more = volume / 'images', volume / 'more'
    subprocess.run(['chattr', '+C', more], check=True, timeout=60)  # new files there are nodatacow
    disks = [DiskSpec(format='raw'), DiskSpec(), DiskSpec(format='raw', directory=more / 'deep')]
    yield shared(GuestSpec('swan', disks=disks, directory=images))
    shared.remove()


@pytest.fixture
def web(running: Guest, run_module: Runner) -> Iterator[Guest]:
    """The same; each test leaves it running, without a snapshot."""
    yield running
    if running.state == 'shutoff':
        running.start()
    ready(running)
    run_module('disk_snapshot', copies.task_of(running, state='absent'))
    assert {target: len(chain(running, target)) for target in running.disks} == dict.fromkeys(running.disks, 1)


def test_a_running_guest(web: Guest, volume: Path, lab: Lab, run_module: Runner, tmp_path: Path) -> None:
    """Two disks share a snapshot, and the third has one of its own."""
    acked, before = web.acked(), tree(volume)

    domain = copies.take(run_module, lab, web, **BTRFS)

    assert domain['consistency'] == 'filesystem'
    assert domain['warnings'] == []
    raw, qcow2, other = domain['disks']
    shared_one, own = volume / 'images.swan.s1', volume / 'more.swan.s1'
    assert raw['volumes'] == qcow2['volumes']
    assert raw['volumes'][0]['path'] == str(shared_one)
    assert raw['volumes'][0]['format'] == 'subvolume'
    assert other['volumes'][0]['path'] == str(own)
    assert qcow2['backup_source']['path'] == str(shared_one / 'swan-vdb.qcow2')
    assert other['backup_source']['path'] == str(own / 'deep' / 'swan-vdc.img')
    assert tree(volume) == sorted([*tree_subvolumes(before), shared_one.name, own.name]) + sorted(
        ['images', 'more', shared_one.name, own.name]
    )
    with pytest.raises(OSError, match='Read-only'):
        (shared_one / 'x').touch()
    web.wait_acked(copies.LATER)
    copies.judge(web, domain, acked, tmp_path)
    copies.remove(run_module, web, domain)
    assert tree(volume) == before


def tree_subvolumes(names: list[str]) -> list[str]:
    """The first half of ``tree``."""
    return names[: len(names) // 2]


def test_back_to_the_snapshot_twice(web: Guest, volume: Path, lab: Lab, run_module: Runner, tmp_path: Path) -> None:
    domain = copies.take(run_module, lab, web, **BTRFS)
    at = copies.judge(web, domain, dict.fromkeys(web.disks, 0), tmp_path)
    before = tree(volume)
    for _turn in range(2):
        later = copies.write_on(web)
        copies.revert(run_module, web)
        copies.went_back(web, at, later)
        assert tree(volume) == before
        assert run_module('disk_snapshot', copies.task_of(web, **BTRFS))['changed'] is False
    copies.remove(run_module, web, domain)


def test_a_domain_that_is_shut_off(web: Guest, lab: Lab, run_module: Runner, tmp_path: Path) -> None:
    web.shutdown(timeout=60)
    acked = web.acked()

    domain = copies.take(run_module, lab, web, **BTRFS)

    assert (domain['consistency'], domain['freeze']) == ('offline', None)
    copies.judge(web, domain, acked, tmp_path)
    run_module('disk_snapshot', copies.task_of(web, state='reverted'))
    assert web.state == 'shutoff'
    copies.remove(run_module, web, domain)


def test_a_guest_that_is_not_frozen(web: Guest, lab: Lab, run_module: Runner, tmp_path: Path) -> None:
    copies.churn(web)
    acked = web.wait_acked(2)

    domain = copies.take(run_module, lab, web, method='btrfs', quiesce='none')

    assert domain['consistency'] == 'crash'
    assert web.state == 'running'
    copies.judge(web, domain, acked, tmp_path)
    copies.remove(run_module, web, domain)


def test_named_places(web: Guest, volume: Path, lab: Lab, run_module: Runner) -> None:
    elsewhere = volume / 'elsewhere'
    elsewhere.mkdir()
    disks = [
        {'target': 'vda', 'file': 'mine'},
        {'target': 'vdb', 'file': str(elsewhere / 'mine')},
        {'target': 'vdc', 'method_xml': "<diskSnapshot method='btrfs'><target file='theirs'/></diskSnapshot>"},
    ]
    domain = copies.take(run_module, lab, web, method='btrfs', quiesce='none', disks=disks)

    paths = [disk['volumes'][0]['path'] for disk in domain['disks']]
    assert paths == [str(volume / 'mine'), str(elsewhere / 'mine'), str(volume / 'theirs')]
    copies.remove(run_module, web, domain)
    elsewhere.rmdir()


def test_the_root_of_the_mount(lab: Lab, guest: Guests, run_module: Runner, tmp_path: Path) -> None:
    """Nothing is beside it; and the image is reached by a link."""
    root = lab.filesystem('lake', 'btrfs', size_mib=400)
    link = lab.paths.scratch / 'link'
    link.symlink_to(root)
    try:
        duck = guest(GuestSpec('duck', directory=link))
        acked = duck.acked()
        domain = copies.take(run_module, lab, duck, **BTRFS)
        assert domain['disks'][0]['volumes'][0]['path'] == f'{root}/.disksnap/duck.s1'
        copies.judge(duck, domain, acked, tmp_path)
        copies.remove(run_module, duck, domain)
        assert not (root / '.disksnap').exists()
    finally:
        guest.remove()
        link.unlink()
        lab.remove_filesystem('lake')


# -- what it refuses ----------------------------------------------------------------------------------------------


def refused(lab: Lab, guest: Guest, run_module: Runner, options: dict[str, Any], *words: str) -> None:
    """See copies.refused."""
    task = copies.task_of(guest, **{'quiesce': 'none', 'disks': [{'target': 'vda', 'method': 'btrfs', **options}]})
    copies.refused(lab, guest, run_module, task, *words)


def test_bad_places(web: Guest, volume: Path, lab: Lab, run_module: Runner) -> None:
    before = tree(volume)
    refused(lab, web, run_module, {'file': 'more'}, f'{volume}/more already exists')
    refused(lab, web, run_module, {'file': '/not/there/it'}, 'there is no directory /not/there')
    refused(lab, web, run_module, {'file': f'{lab.paths.scratch}/it'}, 'is not on the file system of')
    task = copies.task_of(web, snapshot_name='y' * 64, **BTRFS)
    task['disks'] = [{'target': 'vda', 'file': 'x' * 256}]
    with untouched(lab, web):
        pool = {'target': 'vda', 'pool': 'images'}
        assert 'takes no pool' in run_module.fails('disk_snapshot', {**task, 'disks': [pool]})['msg']
        assert '255 bytes' in run_module.fails('disk_snapshot', task)['msg']
    assert tree(volume) == before


def test_images_elsewhere(lab: Lab, guest: Guests, run_module: Runner) -> None:
    ford = guest(GuestSpec('ford', state='shutoff', disks=[DiskSpec(), DiskSpec(kind='network')]), wait=False)
    kind = subprocess.run(['stat', '-f', '-c', '%T', ford.images], check=True, capture_output=True, text=True).stdout
    if kind.strip() != 'btrfs':
        refused(lab, ford, run_module, {}, 'not on btrfs', 'Methods that can take it: qemu')
    failure = run_module.fails('disk_snapshot', copies.task_of(ford, disks=[{'target': 'vdb', 'method': 'btrfs'}]))
    assert 'takes no disk of type network' in failure['msg']


def test_read_only_and_hidden_subvolumes(volume: Path, lab: Lab, guest: Guests, run_module: Runner) -> None:
    still = subvolume(volume / 'still')
    (still / 'inside').mkdir()
    ice = guest(GuestSpec('ice', state='shutoff', directory=still / 'inside'), wait=False)
    point = lab.paths.mnt / 'bound'
    point.mkdir()
    subprocess.run(['mount', '--bind', still / 'inside', point], check=True, timeout=60)
    try:
        hidden = GuestSpec('hidden', state='shutoff', disks=[DiskSpec(image=point / 'ice-vda.qcow2')])
        refused(lab, guest(hidden, wait=False), run_module, {}, 'outside any subvolume')
    finally:
        subprocess.run(['umount', point], check=True, timeout=60)
        point.rmdir()
    mount = view.inside(volume, lab.top)
    subprocess.run(['mount', '-o', 'remount,ro,bind', mount], check=True, timeout=60)
    try:
        refused(lab, ice, run_module, {}, 'read-only')
    finally:
        subprocess.run(['mount', '-o', 'remount,rw,bind', mount], check=True, timeout=60)
    guest.remove()
    subprocess.run(['btrfs', 'subvolume', 'delete', still], check=True, timeout=60, capture_output=True)


def test_lazy_refcounts(volume: Path, lab: Lab, guest: Guests, run_module: Runner) -> None:
    """A copy of such an image in use has to be repaired, and a read-only snapshot takes no repair."""
    image = copies.image_in(lab, volume / 'images', 'lazy.qcow2', 'lazy_refcounts=on')
    try:
        lazy = guest(GuestSpec('lazy', disks=[DiskSpec(image=image)]))
        refused(lab, lazy, run_module, {}, 'lazy_refcounts', 'Use the method reflink')
        lazy.shutdown(timeout=60)
        run_module('disk_snapshot', copies.task_of(lazy, method='btrfs'))
        run_module('disk_snapshot', copies.task_of(lazy, state='absent'))
    finally:
        guest.remove()
        image.unlink()


def test_a_snapshot_that_is_gone_or_writable(web: Guest, volume: Path, lab: Lab, run_module: Runner) -> None:
    copies.take(run_module, lab, web, **BTRFS)
    snapshot = volume / 'images.swan.s1'
    for value, words in (('false', 'made writable'), (None, 'is not there any more')):
        if value:
            subprocess.run(['btrfs', 'property', 'set', snapshot, 'ro', value], check=True, timeout=60)
        else:
            subprocess.run(['btrfs', 'property', 'set', snapshot, 'ro', 'true'], check=True, timeout=60)
            _subvolume.delete(str(snapshot))
        for state in ('present', 'reverted'):
            with untouched(lab, web):
                failure = run_module.fails('disk_snapshot', copies.task_of(web, state=state, **BTRFS, force=True))
            assert words in failure['msg']
    assert run_module('disk_snapshot', copies.task_of(web, state='absent'))['changed'] is True
    assert journal(web) is None


# -- failures half way --------------------------------------------------------------------------------------------


def test_the_next_run_undoes_what_a_killed_one_left(web: Guest, volume: Path, lab: Lab, run_module: Runner) -> None:
    before = tree(volume)
    copies.kill_half_way(run_module, web, lambda: tree(volume) != before, **BTRFS)
    until('a guest that is thawed', lambda: not frozen(web))
    copies.settled_by_the_next_run(run_module, web)
    assert tree(volume) == before
    web.wait_acked(2)
    copies.take(run_module, lab, web, **BTRFS)
    copies.half_taken(web)
    copies.settled_by_the_next_run(run_module, web)
    assert tree(volume) == before


def test_a_disk_of_another_method_fails_in_the_commit(web: Guest, volume: Path, lab: Lab, run_module: Runner) -> None:
    """The overlay goes away as soon as it is there, so that libvirt refuses it; clone and snapshot are made by then."""
    disks = [
        {'target': 'vda', 'method': 'btrfs'},
        {'target': 'vdc', 'method': 'reflink'},
        {'target': 'vdb', 'method': 'qemu', 'file': 'over.qcow2'},
    ]
    overlay, before = volume / 'images' / 'over.qcow2', tree(volume)
    over, seen = threading.Event(), threading.Event()

    def spoil() -> None:
        while not over.is_set():
            try:
                os.truncate(overlay, 0)
                seen.set()
            except OSError:
                time.sleep(0.001)

    thread = threading.Thread(target=spoil)
    with untouched(lab, web):
        thread.start()
        try:
            failure = run_module.fails('disk_snapshot', copies.task_of(web, quiesce='required', disks=disks))
        finally:
            over.set()
            thread.join(30)
        assert seen.is_set()
    assert 'domain swan' in failure['msg']
    assert tree(volume) == before
    assert journal(web) is None
    web.wait_acked(2)


def test_three_methods_in_one_snapshot(web: Guest, lab: Lab, run_module: Runner, tmp_path: Path) -> None:
    disks = [
        {'target': 'vda', 'method': 'reflink'},
        {'target': 'vdb', 'method': 'qemu'},
        {'target': 'vdc', 'method': 'btrfs'},
    ]
    acked = web.acked()

    task = copies.task_of(web, quiesce='required', disks=disks)
    domain = run_module('disk_snapshot', task)['domains'][0]

    assert [disk['method'] for disk in domain['disks']] == ['reflink', 'qemu', 'btrfs']
    assert [bool(disk['modified_disk']) for disk in domain['disks']] == [False, True, False]
    assert run_module('disk_snapshot', task)['changed'] is False
    at = {disk['target']: disk for disk in domain['disks']}
    copied = {**domain, 'disks': [at['vda'], at['vdc']]}
    last = copies.judge(web, copied, acked, tmp_path)
    later = copies.write_on(web)
    copies.revert(run_module, web)
    ready(web)
    assert all(web.acked()[target] >= last[target] for target in last)
    assert later['vda'] > last['vda']
    run_module('disk_snapshot', copies.task_of(web, state='absent'))
    assert not [v for disk in domain['disks'] for v in disk['volumes'] if Path(v['path']).exists()]
    put_back(web)
