# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The method lvm on a running guest: a classic LV of a logical pool, a thin one, and one that holds the image."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ansible_collections.disksnap.libvirt.tests.hypervisor.harness import RemoteRunner, check_remote
from ansible_collections.disksnap.libvirt.tests.hypervisor.lvm import (
    FRESH,
    Patient,
    denials,
    disks_of,
    judge,
    task,
    volumes,
)
from disksnap_lab.hypervisor import Hypervisor, HypervisorGuest

# each module call takes half a minute where all cores are busy
pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(name='run_module')
def patient_run_module(run_module: RemoteRunner) -> Patient:
    return Patient(run_module)


@pytest.mark.parametrize(
    ('target', 'origin', 'attr'), [('vdb', 'classic', 'sri-a-s---'), ('vdc', 'thin', 'Vri-a-tz--')]
)
def test_taken_and_removed(
    hv: Hypervisor,
    inner: HypervisorGuest,
    run_module: Patient,
    tmp_path: Path,
    target: str,
    origin: str,
    attr: str,
) -> None:
    wanted = task(target, quiesce='required')
    predicted = run_module('disk_snapshot', wanted, check=True)
    assert predicted['changed'] is True
    assert set(volumes(hv)) == FRESH
    acked = inner.wait_acked()

    taken = run_module('disk_snapshot', wanted)

    disk = disks_of(taken)[target]
    assert disk == disks_of(predicted)[target]
    assert (disk['method'], disk['modified_disk']) == ('lvm', None)
    assert disk['backup_source']['path'] == f'/dev/vg0/{origin}.s1'
    assert volumes(hv)[f'{origin}.s1'] == attr
    assert taken['domains'][0]['consistency'] == 'filesystem'
    assert not inner.frozen()
    judge(hv, disk['backup_source']['path'], tmp_path, acked[target])

    again = run_module('disk_snapshot', wanted)
    assert (again['changed'], disks_of(again)[target]) == (False, disk)

    inner.wait_acked()
    removed = run_module('disk_snapshot', {**wanted, 'state': 'absent'})
    assert removed['changed'] is True
    assert set(volumes(hv)) == FRESH
    inner.wait_acked()
    assert denials(hv) == []


def test_the_volume_that_holds_the_image(
    hv: Hypervisor, inner: HypervisorGuest, run_module: Patient, tmp_path: Path
) -> None:
    wanted = task({'target': 'vdf', 'method': 'lvm', 'device': '/dev/vg0/images'}, quiesce='required')
    acked = inner.wait_acked()

    source = disks_of(run_module('disk_snapshot', wanted))['vdf']['backup_source']

    assert (source['type'], source['path'], source['format']) == ('block', '/dev/vg0/images-inner.s1', 'raw')
    hv.run(['mount', '-o', 'ro', source['path'], '/mnt'])
    judge(hv, '/mnt/inner-vdf.img', tmp_path, acked['vdf'])
    refused = run_module.fails('disk_snapshot', {**wanted, 'state': 'reverted', 'force': True})
    assert 'holds more than this disk' in refused['msg']
    in_use = run_module.fails('disk_snapshot', {**wanted, 'state': 'absent'})
    assert 'something has it open' in in_use['msg']

    hv.run(['umount', '/mnt'])
    run_module('disk_snapshot', {**wanted, 'state': 'absent'})
    assert set(volumes(hv)) == FRESH
    inner.wait_acked()


def test_there_and_back_again(hv: Hypervisor, inner: HypervisorGuest, run_module: Patient, tmp_path: Path) -> None:
    """To the first of two snapshots, then to the second, and again with the guest running; classic and thin."""
    both = {'vdb': 'classic', 'vdc': 'thin'}
    last: dict[str, dict[str, int | None]] = {}
    for name in ('s1', 's2'):
        acked = inner.wait_acked()
        run_module('disk_snapshot', task(*both, snapshot_name=name, quiesce='required'))
        last[name] = {
            target: judge(hv, f'/dev/vg0/{origin}.{name}', tmp_path, acked[target]).last
            for target, origin in both.items()
        }
        inner.wait_acked(3)
    assert all((last['s2'][target] or 0) > (last['s1'][target] or 0) for target in both)
    hv.run(['virsh', 'destroy', 'inner'])

    for name in ('s1', 's2'):
        run_module('disk_snapshot', {'name': 'inner', 'snapshot_name': name, 'state': 'reverted'})
        for origin in both.values():  # what the snapshot holds was judged when it was taken
            hv.run(['cmp', f'/dev/vg0/{origin}', f'/dev/vg0/{origin}.{name}'], timeout=300)
        assert set(volumes(hv)) == FRESH | {f'{one}.{snapshot}' for one in both.values() for snapshot in ('s1', 's2')}

    hv.run(['virsh', 'start', 'inner'])
    inner.wait_agent(300)
    refused = run_module.fails('disk_snapshot', {'name': 'inner', 'snapshot_name': 's2', 'state': 'reverted'})
    assert 'force: true' in refused['msg']
    run_module('disk_snapshot', {'name': 'inner', 'snapshot_name': 's2', 'state': 'reverted', 'force': True})
    assert inner.running()
    inner.wait_agent(300)
    assert denials(hv) == []


def test_two_disks_of_a_guest_that_is_not_frozen(
    hv: Hypervisor, inner: HypervisorGuest, run_module: Patient, tmp_path: Path
) -> None:
    acked = inner.wait_acked()
    taken = run_module('disk_snapshot', task('vdb', 'vdc', quiesce='none'))
    assert taken['domains'][0]['consistency'] == 'crash'
    assert inner.running()
    for target, path in (('vdb', '/dev/vg0/classic.s1'), ('vdc', '/dev/vg0/thin.s1')):
        report = check_remote(hv, path, tmp_path)
        assert report.consistent, report.problem
        assert report.holds(acked[target])
    inner.wait_acked()


def test_one_window_for_three_methods(
    hv: Hypervisor, inner: HypervisorGuest, run_module: Patient, tmp_path: Path
) -> None:
    acked = inner.wait_acked()
    taken = run_module('disk_snapshot', task('vda', 'vdb', {'target': 'vdd', 'method': 'btrfs'}, quiesce='required'))
    assert [disk['method'] for disk in disks_of(taken).values()] == ['qemu', 'lvm', 'btrfs']
    judge(hv, '/dev/vg0/classic.s1', tmp_path, acked['vdb'])
    judge(hv, disks_of(taken)['vdd']['backup_source']['path'], tmp_path, acked['vdd'])

    run_module('disk_snapshot', task('vda', 'vdb', 'vdd', state='absent'))
    assert set(volumes(hv)) == FRESH
    assert len(inner.chain('vda')) == 1


def test_the_third_fails_and_two_are_undone(hv: Hypervisor, inner: HypervisorGuest, run_module: RemoteRunner) -> None:
    """The thin snapshot is the last, and LVM refuses it within the window."""
    hv.run(['rm', '/sbin/lvcreate'])
    script = '#!/bin/sh\\ncase "$*" in *--test*) ;; *vg0/thin) echo "No thin one today." >&2; exit 5;; esac\\n'
    hv.run(['sh', '-c', f"printf '{script}' > /sbin/lvcreate; echo 'exec lvm lvcreate \"$@\"' >> /sbin/lvcreate"])
    hv.run(['chmod', '+x', '/sbin/lvcreate'])

    failed = run_module.fails('disk_snapshot', task('vda', 'vdb', 'vdc', quiesce='required'))

    assert 'No thin one today' in failed['msg']
    assert 'disk vdc' in failed['msg']
    assert set(volumes(hv)) == FRESH
    assert len(inner.chain('vda')) == 1
    assert hv.run(['virsh', 'metadata', 'inner', 'urn:disksnap:libvirt:journal:1'], check=False).returncode != 0
    inner.wait_acked()


def test_killed_in_the_window(hv: Hypervisor, inner: HypervisorGuest, run_module: Patient) -> None:
    started = run_module.start('disk_snapshot', task('vdb', quiesce='required'))
    end = time.monotonic() + 300
    while hv.run(['test', '-e', '/dev/vg0/classic.s1'], check=False).returncode:
        assert time.monotonic() < end
    hv.run(['pkill', '-9', '-o', '-x', 'python3'])  # the module, not the watchdog that it forked
    started.process.communicate(timeout=120)

    again = run_module('disk_snapshot', task('vdc', snapshot_name='s2', quiesce='required'))

    assert any('half taken' in warning for warning in again['warnings'])
    assert set(volumes(hv)) == FRESH | {'thin.s2'}
    assert not inner.frozen()
    inner.wait_acked()
