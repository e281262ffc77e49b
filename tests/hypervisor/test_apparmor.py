# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The methods that need no LVM, and merges of every kind, where AppArmor confines each guest to its files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.tests.hypervisor.harness import RemoteRunner, check_remote
from disksnap_lab.hypervisor import Hypervisor, HypervisorGuest
from disksnap_lab.waiting import wait_for

IMAGE = '/var/lib/libvirt/images/inner-vda.qcow2'
DISKS = [{'target': 'vda'}, {'target': 'vdd', 'method': 'btrfs'}, {'target': 'vde', 'method': 'reflink'}]
# emulated in an emulated machine, each step takes seconds
TASK: dict[str, Any] = {'name': 'inner', 'snapshot_name': 's1', 'max_frozen': 120, 'agent_timeout': 60}


@pytest.fixture(autouse=True)
def nothing_denied(hv: Hypervisor) -> Iterator[None]:
    """AppArmor is on, and nothing that the tests do is against its rules."""
    profiles = hv.run(['aa-status', '--verbose'], check=False).stdout
    assert 'libvirt-' in profiles, profiles
    yield
    denied = [line for line in hv.run(['dmesg']).stdout.splitlines() if 'apparmor="DENIED"' in line]
    assert denied == []


def last_of(hv: Hypervisor, source: dict[str, Any], scratch: Path) -> int:
    """Number of the last record in a backup source."""
    path = source['path']
    if source['format'] == 'qcow2':
        hv.run(['qemu-img', 'convert', '-U', '-f', 'qcow2', '-O', 'raw', path, '/srv/images/copy.raw'], timeout=300)
        path = '/srv/images/copy.raw'
    report = check_remote(hv, path, scratch)
    assert report.clean, report.problem
    assert report.last is not None
    return report.last


def went_on(guest: HypervisorGuest) -> dict[str, int]:
    """Target -> number of the first record since the start, of the disks that went back."""
    first = guest.first_of_this_boot()
    return {disk['target']: first[disk['target']] for disk in DISKS}


def test_there_and_back_by_three_methods(
    hv: Hypervisor, inner: HypervisorGuest, run_module: RemoteRunner, tmp_path: Path
) -> None:
    acked = inner.wait_acked()
    taken = run_module('disk_snapshot', {**TASK, 'disks': DISKS, 'quiesce': 'required'}, timeout=600)
    [domain] = taken['domains']
    assert domain['consistency'] == 'filesystem'
    last = {disk['target']: last_of(hv, disk['backup_source'], tmp_path) for disk in domain['disks']}
    assert all(last[target] >= acked[target] for target in last)
    later = inner.wait_acked(5)

    run_module('disk_snapshot', {**TASK, 'state': 'reverted', 'force': True}, timeout=600)

    assert inner.running()
    inner.wait_agent(300)
    expected = {target: number + 1 for target, number in last.items()}
    wait_for('records that follow those of the snapshot', lambda: went_on(inner) == expected, 120)
    assert all(expected[target] <= later[target] for target in expected)
    run_module('disk_snapshot', {**TASK, 'state': 'absent'}, timeout=600)
    assert inner.chain('vda') == [IMAGE]
    for disk in domain['disks']:
        for volume in disk['volumes']:
            assert hv.run(['test', '-e', volume['path']], check=False).returncode == 1
    inner.wait_acked()


def test_merges_of_every_kind(hv: Hypervisor, inner: HypervisorGuest, run_module: RemoteRunner) -> None:
    vda = [{'target': 'vda'}]
    for name in ('s1', 's2', 's3'):
        run_module('disk_snapshot', {**TASK, 'snapshot_name': name, 'disks': vda}, timeout=600)
    third, second, first, base = inner.chain('vda')
    merge = {'name': 'inner', 'disks': vda}

    run_module(
        'snapshot_merge', {**merge, 'top': second, 'base': first}, timeout=600
    )  # a commit below the active layer
    assert inner.chain('vda') == [third, first, base]
    run_module('snapshot_merge', {**merge, 'base': base, 'direction': 'pull'}, timeout=600)
    assert inner.chain('vda') == [third, base]
    run_module('snapshot_merge', {**merge, 'top': third, 'base': base}, timeout=600)  # of the active layer
    assert inner.chain('vda') == [IMAGE] == [base]
    for path in (third, second, first):
        assert hv.run(['test', '-e', path], check=False).returncode == 1
    inner.wait_acked()


def test_a_domain_that_is_shut_off(hv: Hypervisor, run_module: RemoteRunner) -> None:
    spare = hv.guest('spare')
    task = {'name': 'spare', 'snapshot_name': 's1', 'disks': [{'target': 'vdb'}]}
    [image] = spare.chain('vdb', inactive=True)
    hv.run(['cp', image, '/srv/images/before.qcow2'])
    [domain] = run_module('disk_snapshot', task)['domains']
    overlay = domain['disks'][0]['volumes'][0]['path']
    hv.run(['qemu-io', '-f', 'qcow2', '-c', 'write -P 0xaa 1M 1M', overlay])

    run_module('disk_snapshot', {**task, 'state': 'reverted'})
    run_module('disk_snapshot', {**task, 'state': 'absent'})

    assert spare.chain('vdb', inactive=True) == [image]
    assert hv.run(['test', '-e', overlay], check=False).returncode == 1
    hv.run(['qemu-img', 'compare', '-f', 'qcow2', '-F', 'qcow2', image, '/srv/images/before.qcow2'])
