# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs of the method lvm that are killed on the way back to a snapshot, and the runs that go on from there."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import pytest

from ansible_collections.disksnap.libvirt.tests.hypervisor.harness import RemoteRunner, check_remote
from ansible_collections.disksnap.libvirt.tests.hypervisor.lvm import FRESH, Patient, denials, judge, task, volumes
from disksnap_lab.hypervisor import Hypervisor, HypervisorGuest

# each module call takes half a minute where all cores are busy
pytestmark = pytest.mark.timeout(3600)

ORIGINS = {'vdb': 'classic', 'vdc': 'thin'}
BACK = {'name': 'inner', 'snapshot_name': 's1', 'state': 'reverted'}


@pytest.fixture(name='run_module')
def patient_run_module(run_module: RemoteRunner) -> Patient:
    return Patient(run_module)


def killed_at(hv: Hypervisor, run_module: Patient, program: str, *, done: bool) -> None:
    """Begin to go back, and kill the module while it waits for one of LVM's programs: the first call of it.

    Args:
        done: that program has done its work by then; else it was about to begin.
    """
    work = f'lvm {program} "$@" || exit' if done else ':'
    script = f'#!/bin/sh\n{work}\ntouch /root/held\nexec sleep 600\n'
    path = f'/sbin/{program}'
    hv.run(['sh', '-c', f'rm -f /root/held {path}; printf %s {shlex.quote(script)} > {path}; chmod +x {path}'])
    started = run_module.start('disk_snapshot', BACK)
    end = time.monotonic() + 300
    while hv.run(['test', '-e', '/root/held'], check=False).returncode:
        assert started.process.poll() is None, started.wait()
        assert time.monotonic() < end
    hv.run(['pkill', '-9', '-o', '-x', 'python3'])
    started.process.communicate(timeout=120)
    hv.run(['ln', '-sf', 'lvm', path])


def test_killed_on_the_way_back(hv: Hypervisor, inner: HypervisorGuest, run_module: Patient, tmp_path: Path) -> None:
    """Three times in a row: as the merge has begun, as the classic snapshot was to be taken anew, and as the thin LV
    had lost its name.
    """
    acked = inner.wait_acked()
    run_module('disk_snapshot', task(*ORIGINS, quiesce='required'))
    last = {
        target: judge(hv, f'/dev/vg0/{origin}.s1', tmp_path, acked[target]).last for target, origin in ORIGINS.items()
    }
    later = inner.wait_acked(3)
    assert all(later[target] > (last[target] or 0) for target in ORIGINS)
    hv.run(['virsh', 'destroy', 'inner'])

    killed_at(hv, run_module, 'lvconvert', done=True)
    killed_at(hv, run_module, 'lvcreate', done=False)
    assert 'classic.s1' not in volumes(hv)
    killed_at(hv, run_module, 'lvrename', done=True)
    assert {'thin', 'thin.disksnap-old', 'thin.disksnap-new'} & set(volumes(hv)) == {
        'thin.disksnap-old',
        'thin.disksnap-new',
    }
    ended = run_module('disk_snapshot', BACK)

    assert any('on its way back' in warning for warning in ended['warnings'])
    assert set(volumes(hv)) == FRESH | {'classic.s1', 'thin.s1'}
    for target, origin in ORIGINS.items():
        report = check_remote(hv, f'/dev/vg0/{origin}', tmp_path)
        assert (report.clean, report.last) == (True, last[target])
        hv.run(['cmp', f'/dev/vg0/{origin}', f'/dev/vg0/{origin}.s1'], timeout=300)
    assert denials(hv) == []
