# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is foretold, shown and found wrong of snapshots by LVM: classic and thin, filling, full, and forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.tests.hypervisor.harness import RemoteRunner
from ansible_collections.disksnap.libvirt.tests.hypervisor.lvm import Patient, task
from disksnap_lab.hypervisor import Hypervisor, HypervisorGuest

# each module call takes half a minute where all cores are busy
pytestmark = pytest.mark.timeout(3600)

MIB = 1024**2
JOURNAL = 'urn:disksnap:libvirt:journal:1'


@pytest.fixture(name='run_module')
def patient_run_module(run_module: RemoteRunner) -> Patient:
    return Patient(run_module)


def look(run_module: Patient) -> tuple[dict[str, Any], list[tuple[str | None, str, str | None]]]:
    """The domains of the hypervisor by name; and domain, code and path of each problem."""
    host = run_module('disk_snapshot_info', {'uri': 'qemu:///system'})
    found = [(domain['name'], one['code'], one['path']) for domain in host['domains'] for one in domain['problems']]
    found += [(None, one['code'], one['path']) for one in host['problems']]
    return {domain['name']: domain for domain in host['domains']}, found


def sizes_of(hv: Hypervisor) -> dict[str, int]:
    """LV -> bytes."""
    command = ['lvs', '--noheadings', '--nosuffix', '--units', 'b', '--separator', ' ', '-o', 'lv_name,lv_size', 'vg0']
    pairs = [line.split() for line in hv.run(command).stdout.splitlines()]
    return {name: int(size) for name, size in pairs}


def fill(hv: Hypervisor, mebibytes: int, *, at: int) -> None:
    hv.run(['dd', 'if=/dev/urandom', 'of=/dev/vg0/spare', 'bs=1M', f'count={mebibytes}', f'seek={at}', 'oflag=direct'])


def test_forecast_sizes_and_faults(hv: Hypervisor, inner: HypervisorGuest, run_module: Patient) -> None:
    both = task('vdb', {'target': 'vdc'}, quiesce='none')
    foretold = {one['needed'] for one in run_module('disk_snapshot', both, check=True)['space']}
    free = hv.run(['vgs', '--noheadings', '--nosuffix', '--units', 'b', '-o', 'vg_free', 'vg0']).stdout.strip()
    refused = run_module.fails('disk_snapshot', {**both, 'min_free': free}, check=True)['msg']
    assert 'The volume group vg0' in refused
    assert 'min_free' in refused

    taken = run_module('disk_snapshot', both)
    sizes = sizes_of(hv)
    by_group, by_pool = sorted(taken['space'], key=lambda one: one['needed'] != sizes['classic.s1'])
    assert by_group['needed'] == sizes['classic.s1']
    assert by_group['capacity'] > by_group['available'] >= by_group['needed']
    assert by_pool['capacity'] == sizes['tpool']
    assert foretold == {by_group['needed'], by_pool['needed']}

    domains, problems = look(run_module)
    assert problems == []
    [shown] = domains['inner']['snapshots']
    parts = {disk['target']: disk for disk in shown['disks']}
    assert parts['vdb']['allocation'] == sizes['classic.s1']
    assert 0 <= parts['vdc']['allocation'] <= sizes['thin']
    assert [parts[target]['fault'] for target in ('vdb', 'vdc')] == [None, None]
    assert shown['needed_by'] == []

    small = {'name': 'spare', 'snapshot_name': 's1', 'disks': [{'target': 'vda', 'size': '8M', 'method': 'lvm'}]}
    run_module('disk_snapshot', small)
    fill(hv, 7, at=10)
    snapshot = '/dev/vg0/spare.s1'
    assert look(run_module)[1] == [('spare', 'snapshot_filling', snapshot)]
    fill(hv, 7, at=30)
    domains, problems = look(run_module)
    assert problems == [('spare', 'snapshot_unusable', snapshot)]
    assert 'overflowed' in domains['spare']['snapshots'][0]['disks'][0]['fault']
    hv.run(['virsh', 'metadata', 'spare', JOURNAL, '--remove', '--config'])
    assert look(run_module)[1] == [('spare', 'orphaned_copy', snapshot)]
