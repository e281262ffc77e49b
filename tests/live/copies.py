# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the live tests of the methods that copy share: take and judge a snapshot, revert to it, and remove it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _journal, _records
from ansible_collections.disksnap.libvirt.tests.live.harness import (
    Runner,
    copy_out,
    disk_element,
    journal,
    plain,
    predicts,
    ready,
    until,
    untouched,
)
from disksnap_lab import Guest, Lab, acks, check_copy

LATER = 20  # records that a guest writes after the snapshot


def task_of(guest: Guest, **options: Any) -> dict[str, Any]:
    """The task that all others are like."""
    return {'name': guest.name, 'snapshot_name': 's1', **options}


def take(run_module: Runner, lab: Lab, guest: Guest, **options: Any) -> dict[str, Any]:
    """Predict a snapshot, which changes nothing; take it, and compare; do so again, which changes nothing either.

    The one domain of the result, and its warnings.
    """
    task = task_of(guest, **options)
    with untouched(lab, guest):
        run_module('disk_snapshot', task, check=True)
    definition = disks_of(guest)
    result = predicts(run_module, 'disk_snapshot', task)
    assert result['changed'] is True
    [domain] = result['domains']
    assert [disk['modified_disk'] for disk in domain['disks']] == [None] * len(domain['disks'])
    assert disks_of(guest) == definition
    with untouched(lab, guest):
        again = run_module('disk_snapshot', task)
    assert again['changed'] is False
    assert again['domains'] == [domain]
    return {**domain, 'warnings': result['warnings']}


def disks_of(guest: Guest) -> list[str]:
    """The domain's disks, as libvirt shows them."""
    return [plain(disk_element(guest, target)) for target in guest.disks]


def judge(guest: Guest, domain: dict[str, Any], acked: dict[str, int], scratch: Path) -> dict[str, int]:
    """Every disk's backup source is readable, whole, and holds what was acknowledged; the last record of each disk."""
    last = {}
    for disk in domain['disks']:
        target, source = disk['target'], disk['backup_source']
        assert source['type'] == 'file'
        if source['format'] == 'qcow2':
            checked = subprocess.run(
                ['qemu-img', 'check', '-q', source['path']], check=False, capture_output=True, text=True
            )
            assert checked.returncode == 0, checked.stdout + checked.stderr
        copied = copy_out(source['path'], source['format'], scratch / f'{guest.name}-{target}')
        report = check_copy(copied, 'qcow2', guest.disks[target].fs)
        assert report.consistent, report.problem
        if domain['consistency'] != 'crash':
            assert report.clean, report.problem
        assert report.holds(acked[target])
        last[target] = report.last or 0
    return last


def remove(run_module: Runner, guest: Guest, domain: dict[str, Any]) -> None:
    """Remove the snapshot: its volumes are gone, the guest runs on, and to do it again is no change."""
    predicts_removal = run_module('disk_snapshot', task_of(guest, state='absent'), check=True)
    assert predicts_removal['changed'] is True
    assert all(Path(volume['path']).exists() for disk in domain['disks'] for volume in disk['volumes'])
    assert run_module('disk_snapshot', task_of(guest, state='absent'))['changed'] is True
    assert not [v['path'] for disk in domain['disks'] for v in disk['volumes'] if Path(v['path']).exists()]
    assert journal(guest) is None
    if guest.state == 'running':
        guest.wait_acked(2, timeout=60)
    assert run_module('disk_snapshot', task_of(guest, state='absent'))['changed'] is False


def write_on(guest: Guest) -> dict[str, int]:
    """Let the guest write; the last records that it has acknowledged."""
    return guest.wait_acked(LATER, timeout=60)


def revert(run_module: Runner, guest: Guest) -> None:
    """Go back to s1."""
    assert run_module('disk_snapshot', task_of(guest, state='reverted', force=True))['changed'] is True


def went_back(guest: Guest, last: dict[str, int], later: dict[str, int]) -> None:
    """The guest runs, and its writers went on from the snapshot: the later records are gone, the earlier ones there."""
    assert guest.state == 'running'
    ready(guest)
    for target in guest.acked():
        first = acks.first_of_this_boot(guest.acks_path(target))
        assert first == last[target] + 1, f'{target} went on with {first}'
        assert first < later[target]


def half_taken(guest: Guest) -> None:
    """Make the journal say that the run which took s1 died before the end."""
    record = _journal.load(guest.domain)
    record.snapshots['s1'].state = _records.COMMITTING
    record.snapshots['s1'].owner = None
    _journal.store(guest.domain, record)


def kill_half_way(run_module: Runner, guest: Guest, began: Callable[[], bool], **options: Any) -> None:
    """Kill a run once it has begun to make something; one that was faster than that is put back and run again."""
    for _attempt in range(10):
        module = run_module.start('disk_snapshot', task_of(guest, **options))
        until('something made', began, 60)
        module.kill()
        if 'state="present"' not in (journal(guest) or ''):
            return
        run_module('disk_snapshot', task_of(guest, state='absent'))
    pytest.fail('each of ten runs was over before it could be killed')


def settled_by_the_next_run(run_module: Runner, guest: Guest) -> None:
    """Another run, which fails for a reason of its own, undoes what is there before."""
    run_module('disk_snapshot', task_of(guest, snapshot_name='nobody', state='absent'))
    assert journal(guest) is None


def image_in(lab: Lab, directory: Path, name: str, *options: str) -> Path:
    """A qcow2 image with a file system for a guest, made with these qemu-img options."""
    path = directory / name
    shutil.copy(lab.base_disk('ext4', 'qcow2'), path)
    for option in options:
        subprocess.run(['qemu-img', 'amend', '-q', '-f', 'qcow2', '-o', option, str(path)], check=True, timeout=60)
    return path


CHURN = (
    'i=0; while :; do i=$((i+1)); dd if=/dev/urandom of=/mnt/vda/churn$((i%9)) bs=4k count=$((i%64)) 2>/dev/null; done'
)


def churn(guest: Guest) -> None:
    """Have the guest allocate clusters of vda all the time."""
    guest.exec('sh', '-c', f'({CHURN}) >/dev/null 2>&1 </dev/null &')


def refused(lab: Lab, guest: Guest, run_module: Runner, task: dict[str, Any], *words: str) -> None:
    """The task must fail alike in check mode and in earnest, name these words, and change nothing."""
    with untouched(lab, guest):
        predicted = run_module.fails('disk_snapshot', task, check=True)
        failure = run_module.fails('disk_snapshot', task)
    assert predicted['msg'] == failure['msg']
    for word in (f'domain {guest.name}, disk vda', *words):
        assert word in failure['msg']
