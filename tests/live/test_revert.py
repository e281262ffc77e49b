# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""disk_snapshot, state reverted: the guest is back at the snapshot, which is still there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _journal, _records
from ansible_collections.disksnap.libvirt.tests.live.harness import (
    Guests,
    Runner,
    chain,
    copy_out,
    disk_element,
    journal,
    plain,
    predicts,
    put_back,
    ready,
    until,
    untouched,
)
from ansible_collections.disksnap.libvirt.tests.live.storage import immutable
from disksnap_lab import DiskSpec, Guest, GuestSpec, acks, check_copy

DISKS = [DiskSpec(), DiskSpec(kind='volume', format='raw')]
LATER = 20  # records that a guest writes after the snapshot


@pytest.fixture(scope='module')
def web(shared: Guests) -> Guest:
    return shared(GuestSpec('web', disks=DISKS))


@pytest.fixture(autouse=True)
def clean(web: Guest) -> Iterator[None]:
    """Each test starts and ends with a guest that runs, with one layer a disk."""
    yield
    if web.state == 'shutoff':
        web.start()
    ready(web)
    put_back(web)


def take(run_module: Runner, guest: Guest, name: str = 's1', **task: Any) -> dict[str, Any]:
    """A snapshot; what it is."""
    result = run_module('disk_snapshot', {'name': guest.name, 'snapshot_name': name, 'quiesce': 'required', **task})
    taken: dict[str, Any] = result['domains'][0]
    return taken


def task_of(guest: Guest, **more: Any) -> dict[str, Any]:
    """Go back to s1."""
    return {'name': guest.name, 'snapshot_name': 's1', 'state': 'reverted', **more}


def last_of(taken: dict[str, Any], tmp_path: Path) -> dict[str, int]:
    """Target -> number of the last record that the snapshot holds."""
    found = {}
    for disk in taken['disks']:
        source = disk['backup_source']
        report = check_copy(copy_out(source['path'], source['format'], tmp_path / f'at-{disk["target"]}'))
        assert report.consistent, report.problem
        assert report.last is not None
        found[disk['target']] = report.last
    return found


def write_on(guest: Guest) -> dict[str, int]:
    """Let the guest write; the last records that it has acknowledged."""
    return guest.wait_acked(LATER, timeout=60)


def went_back(guest: Guest, last: dict[str, int], later: dict[str, int]) -> None:
    """The guest runs, and its writers went on from the snapshot: the later records are gone, the earlier ones there."""
    assert guest.state == 'running'
    ready(guest)
    for target, number in guest.acked().items():
        first = acks.first_of_this_boot(guest.acks_path(target))
        assert first == last[target] + 1, f'{target} went on with {first}'
        assert first < later[target]
        assert number >= first


@pytest.mark.core
def test_a_running_guest_is_back_and_runs(web: Guest, run_module: Runner, tmp_path: Path) -> None:
    taken = take(run_module, web)
    last = last_of(taken, tmp_path)
    later = write_on(web)
    disks = [plain(disk_element(web, target, inactive=True)) for target in web.disks]

    result = run_module('disk_snapshot', task_of(web, force=True), diff=True)

    assert result['changed'] is True
    [domain] = result['domains']
    assert domain == taken, 'the snapshot is there as it was'
    assert 's1' in result['diff']['after']
    assert [plain(disk_element(web, target, inactive=True)) for target in web.disks] == disks
    went_back(web, last, later)
    # again: the snapshot is still good for it, and still goes
    later = write_on(web)
    run_module('disk_snapshot', task_of(web, force=True))
    went_back(web, last, later)
    run_module('disk_snapshot', {**task_of(web), 'state': 'absent'})
    assert [len(chain(web, target)) for target in web.disks] == [1, 1]
    assert journal(web) is None
    web.wait_acked(5)


@pytest.mark.core
def test_a_guest_that_is_shut_off_stays_off(web: Guest, run_module: Runner, tmp_path: Path) -> None:
    taken = take(run_module, web)
    last = last_of(taken, tmp_path)
    write_on(web)
    web.destroy()

    result = predicts(run_module, 'disk_snapshot', task_of(web))

    assert result['changed'] is True
    assert web.state == 'shutoff'
    for disk in taken['disks']:
        report = check_copy(Path(disk['volumes'][0]['path']))
        assert report.clean
        assert report.last == last[disk['target']]


@pytest.mark.core
def test_a_paused_guest_is_paused_again(web: Guest, run_module: Runner) -> None:
    take(run_module, web)
    web.domain.suspend()

    run_module('disk_snapshot', task_of(web, force=True))

    assert web.state == 'paused'
    web.domain.resume()
    ready(web)


def test_without_force_a_running_guest_is_left_alone(web: Guest, run_module: Runner) -> None:
    take(run_module, web)
    with untouched(web.lab, web):
        failed = run_module.fails('disk_snapshot', task_of(web))
        assert 'force' in failed['msg']
        run_module.fails('disk_snapshot', task_of(web), check=True)
        run_module('disk_snapshot', task_of(web, force=True), check=True)


def test_newer_layers_are_named(web: Guest, run_module: Runner) -> None:
    take(run_module, web)
    newer = take(run_module, web, 's2')
    with untouched(web.lab, web):
        failed = run_module.fails('disk_snapshot', task_of(web, force=True))
    for disk in newer['disks'][:1]:
        assert disk['volumes'][0]['path'] in failed['msg']
    assert 'snapshot s2' in failed['msg']
    run_module('disk_snapshot', {'name': 'web', 'snapshot_name': 's2', 'state': 'absent'})
    run_module('disk_snapshot', task_of(web, force=True))
    ready(web)


def test_a_layer_of_someone_else_is_named(web: Guest, run_module: Runner) -> None:
    take(run_module, web)
    own = ['--diskspec', 'vda', '--diskspec', 'vdb,snapshot=no', '--disk-only', '--no-metadata']
    argv = ['virsh', '-q', '-c', web.lab.uri, 'snapshot-create-as', web.name, 'theirs', *own]
    subprocess.run(argv, check=True, timeout=60, capture_output=True)
    with untouched(web.lab, web):
        failed = run_module.fails('disk_snapshot', task_of(web, force=True))
    assert chain(web, 'vda')[0] in failed['msg']
    assert 'snapshot_merge' in failed['msg']


def test_an_image_that_stands_on_the_overlay_is_in_the_way(web: Guest, run_module: Runner, tmp_path: Path) -> None:
    taken = take(run_module, web)
    overlay = taken['disks'][0]['volumes'][0]['path']
    clone = web.images / 'clone.qcow2'
    argv = ['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', overlay, str(clone)]
    subprocess.run(argv, check=True, timeout=60)
    try:
        with untouched(web.lab, web):
            failed = run_module.fails('disk_snapshot', task_of(web, force=True))
        assert str(clone) in failed['msg']
    finally:
        clone.unlink()


@pytest.mark.parametrize(
    ('task', 'words'),
    [
        ({'snapshot_name': 'nothing'}, 'no snapshot of this name'),
        ({'disks': [{'target': 'vda'}]}, 'over other disks'),
        ({'timeout': 0}, 'timeout'),
    ],
)
def test_what_is_not_there_is_not_gone_back_to(
    task: dict[str, Any], words: str, web: Guest, run_module: Runner
) -> None:
    take(run_module, web)
    with untouched(web.lab, web):
        failed = run_module.fails('disk_snapshot', {**task_of(web, force=True), **task})
    assert words in failed['msg']


def test_a_disk_outside_the_snapshot_keeps_its_data(web: Guest, run_module: Runner) -> None:
    take(run_module, web, disks=[{'target': 'vda'}])
    later = write_on(web)
    result = run_module('disk_snapshot', task_of(web, force=True))
    assert any('vdb' in warning for warning in result['warnings'])
    ready(web)
    first = {target: acks.first_of_this_boot(web.acks_path(target)) for target in web.disks}
    assert first['vda'] <= later['vda']
    assert first['vdb'] > later['vdb']


def test_a_saved_guest_is_left_alone(web: Guest, run_module: Runner) -> None:
    take(run_module, web)
    web.domain.managedSave(0)
    try:
        failed = run_module.fails('disk_snapshot', task_of(web))
        assert 'managedsave-remove' in failed['msg']
    finally:
        web.start()
    web.wait_acked(5, timeout=60)


@pytest.mark.core
def test_a_transient_guest_is_back_and_still_transient(guest: Guests, run_module: Runner, tmp_path: Path) -> None:
    gone = guest(GuestSpec('passing', persistent=False))
    taken = take(run_module, gone)
    last = last_of(taken, tmp_path)
    later = write_on(gone)

    run_module('disk_snapshot', task_of(gone, force=True))

    assert not gone.domain.isPersistent()
    went_back(gone, last, later)
    run_module('disk_snapshot', {**task_of(gone), 'state': 'absent'})
    assert journal(gone) is None


# -- interrupted ----------------------------------------------------------------------------------------------------


def died_at(guest: Guest, stage: str, *, running: bool = True) -> None:
    """Have the journal say that a run died at this stage of a revert."""
    record = _journal.load(guest.domain)
    record.snapshots['s1'].state = _records.REVERTING
    record.snapshots['s1'].owner = None
    record.snapshots['s1'].revert = _records.RevertRecord(stage, 'running' if running else 'off')
    _journal.store(guest.domain, record)


def test_the_next_run_ends_what_a_dead_one_began(web: Guest, run_module: Runner, tmp_path: Path) -> None:
    taken = take(run_module, web)
    last = last_of(taken, tmp_path)
    later = write_on(web)
    web.destroy()
    died_at(web, _records.RESTORING)
    os.unlink(taken['disks'][0]['volumes'][0]['path'])  # as far as the dead run came

    predicted = run_module('disk_snapshot', {'name': 'web', 'snapshot_name': 's1'}, check=True)
    assert any('on its way back' in warning for warning in predicted['warnings'])
    assert web.state == 'shutoff'
    result = run_module('snapshot_merge', {'name': 'web', 'snapshot_name': 'another'})

    assert any('on its way back' in warning for warning in result['warnings'])
    went_back(web, last, later)
    assert _journal.load(web.domain).snapshots['s1'].state == _records.PRESENT


def test_the_same_task_ends_it_and_does_not_begin_again(web: Guest, run_module: Runner, tmp_path: Path) -> None:
    last = last_of(take(run_module, web), tmp_path)
    later = write_on(web)
    web.destroy()
    died_at(web, _records.RESTORING)

    result = run_module('disk_snapshot', task_of(web))  # no force: nothing has to be stopped

    assert result['changed'] is True
    went_back(web, last, later)


@pytest.mark.parametrize('stage', [_records.STOPPING, _records.STARTING])
def test_a_guest_is_not_left_stopped(stage: str, web: Guest, run_module: Runner) -> None:
    take(run_module, web)
    web.destroy()
    died_at(web, stage)

    run_module('disk_snapshot', {'name': 'web', 'snapshot_name': 's1'})

    assert web.state == 'running'
    ready(web)
    assert _journal.load(web.domain).snapshots['s1'].revert is None


def test_a_guest_that_was_started_with_half_its_disks_back(web: Guest, run_module: Runner) -> None:
    take(run_module, web)
    died_at(web, _records.RESTORING)

    failed = run_module.fails('disk_snapshot', {'name': 'web', 'snapshot_name': 's1'})
    assert 'force: true' in failed['msg']
    assert web.state == 'running'
    failed = run_module.fails('disk_snapshot', task_of(web))
    assert 'force: true' in failed['msg']

    run_module('disk_snapshot', task_of(web, force=True))
    ready(web)
    assert _journal.load(web.domain).snapshots['s1'].state == _records.PRESENT


def test_killed_on_the_way(web: Guest, run_module: Runner, tmp_path: Path) -> None:
    last = last_of(take(run_module, web), tmp_path)
    later = write_on(web)
    started = run_module.start('disk_snapshot', task_of(web, force=True))
    until('a guest that is stopped', lambda: web.state == 'shutoff' or started.process.poll() is not None)
    started.kill()

    run_module('disk_snapshot', {**task_of(web, force=True)})

    went_back(web, last, later)


def test_one_of_a_group_that_fails_does_not_keep_the_others(
    web: Guest, guest: Guests, run_module: Runner, tmp_path: Path
) -> None:
    db = guest(GuestSpec('db'))
    group = {'domains': [{'name': 'web'}, {'name': 'db'}], 'snapshot_name': 's1'}
    taken = run_module('disk_snapshot', {**group, 'quiesce': 'required'})['domains']
    last = [last_of(one, tmp_path) for one in taken]
    later = [write_on(one) for one in (web, db)]
    stuck = taken[1]['disks'][0]['volumes'][0]['path']
    with immutable(Path(stuck)):
        failed = run_module.fails('disk_snapshot', {**group, 'state': 'reverted', 'force': True})

    assert stuck in failed['msg']
    assert 'domain db' in failed['msg']
    assert 'Run the task again' in failed['msg']
    went_back(web, last[0], later[0])
    run_module('disk_snapshot', {'name': 'db', 'snapshot_name': 's1'})
    went_back(db, last[1], later[1])
