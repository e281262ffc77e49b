# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""snapshot_merge: jobs that run out of time, are left, aborted, killed, and taken over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.tests.live.harness import (
    Guests,
    Runner,
    chain,
    journal,
    put_back,
    ready,
    until,
    untouched,
)
from ansible_collections.disksnap.libvirt.tests.live.merging import (
    CRAWL,
    fill,
    idle,
    job,
    kill_qemu,
    mirrored,
    overlay,
    prove,
    speed_up,
    wait_idle,
)
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab

TARGETS = ['vda', 'vdb']
KINDS = ['active', 'intermediate', 'pull']


@pytest.fixture(scope='module')
def web(shared: Guests) -> Guest:
    return shared(GuestSpec('mjob', disks=[DiskSpec(), DiskSpec(format='raw')]))


@pytest.fixture(autouse=True)
def clean(web: Guest) -> Iterator[None]:
    """Each test starts and ends with one layer a disk, no job and no journal."""
    yield
    if web.state in ('shutoff', 'crashed'):
        put_back(web)
        web.start()
        ready(web)
    for target in TARGETS:
        if not idle(web, target):
            web.domain.blockJobAbort(target, 0)
            wait_idle(web, target)
    put_back(web)


def slow_task(web: Guest, kind: str) -> tuple[dict[str, Any], list[str]]:
    """A task whose job on vda does not end by itself while a test lasts, and the chain that it is to lead to."""
    base = chain(web, 'vda')[-1]
    low = overlay(web, f'{kind}-low', ['vda'])[0]
    fill(web, 'vda')
    high = overlay(web, f'{kind}-high', ['vda'])[0]
    task: dict[str, Any] = {'name': 'mjob', 'bandwidth': CRAWL, 'top': high}
    if kind == 'active':
        fill(web, 'vda')
        return task, [low, base]
    if kind == 'intermediate':
        return {**task, 'top': low, 'base': base}, [high, base]
    return {**task, 'base': base, 'direction': 'pull'}, [high, base]


def only(result: dict[str, Any]) -> dict[str, Any]:
    """The facts of the one disk."""
    [disk] = result['domains'][0]['disks']
    return dict(disk)


def merged_files(web: Guest, after: list[str]) -> list[str]:
    """Files of vda that are there and not in the chain."""
    mine = [str(path) for path in web.images.iterdir() if '-vda' in path.name]
    return sorted(set(mine) - set(after))


@pytest.mark.parametrize('kind', KINDS)
def test_time_is_up_and_the_job_is_ended(web: Guest, run_module: Runner, tmp_path: Path, kind: str) -> None:
    task, after = slow_task(web, kind)
    before = chain(web, 'vda')

    result = run_module.fails('snapshot_merge', {**task, 'timeout': 2})

    assert 'within 2 seconds' in result['msg'] or 'vda' in result['msg']
    disk = only(result)
    assert disk['state'] == 'aborted'
    assert disk['removed'] == []
    assert disk['chain_after'] == chain(web, 'vda') == before
    assert idle(web, 'vda')
    assert journal(web) is None
    web.wait_acked(2)

    done = only(run_module('snapshot_merge', {**task, 'bandwidth': '0'}))
    assert (done['state'], chain(web, 'vda')) == ('merged', after)
    prove(web, 'vda', web.acked()['vda'], tmp_path)


@pytest.mark.core
@pytest.mark.parametrize('kind', KINDS)
def test_job_that_was_left_is_taken_over(web: Guest, run_module: Runner, tmp_path: Path, kind: str) -> None:
    task, after = slow_task(web, kind)
    before = chain(web, 'vda')

    left = run_module('snapshot_merge', {**task, 'timeout': 2, 'on_timeout': 'leave'})

    assert left['changed'] is True
    assert only(left)['state'] == 'running'
    assert job(web, 'vda')
    first = job(web, 'vda')['cur']

    done = only(run_module('snapshot_merge', {**task, 'bandwidth': '0'}))

    assert done['state'] == 'merged'
    assert done['bytes'] >= first
    assert (done['chain_before'], done['chain_after']) == (before, after)
    assert chain(web, 'vda') == after
    assert merged_files(web, after) == []
    assert journal(web) is None
    prove(web, 'vda', web.acked()['vda'], tmp_path)


@pytest.mark.parametrize('kind', KINDS)
def test_task_that_does_not_wait(web: Guest, lab: Lab, run_module: Runner, kind: str) -> None:
    task, after = slow_task(web, kind)
    task['wait'] = False
    with untouched(lab, web):
        expected = run_module('snapshot_merge', task, check=True)

    first = run_module('snapshot_merge', task)

    assert first['changed'] is True
    assert only(first)['state'] == only(expected)['state'] == 'running'
    again = run_module('snapshot_merge', task)
    assert again['changed'] is False
    assert only(again)['state'] == 'running'
    speed_up(web, 'vda')
    until('the job is done', lambda: mirrored(web, 'vda') == 'yes' if kind == 'active' else idle(web, 'vda'), 120)
    last = run_module('snapshot_merge', task)
    assert last['changed'] is True
    assert only(last)['state'] == 'merged'
    assert only(last)['modified_disk']
    assert chain(web, 'vda') == after
    assert merged_files(web, after) == []
    assert run_module('snapshot_merge', task)['changed'] is False


@pytest.mark.parametrize('ended', [False, True], ids=['running', 'ended'])
@pytest.mark.parametrize('kind', KINDS)
def test_killed_run_is_finished_by_the_next(
    web: Guest, run_module: Runner, tmp_path: Path, kind: str, ended: bool
) -> None:
    task, after = slow_task(web, kind)
    process = run_module.start('snapshot_merge', task)
    until('a job runs', lambda: job(web, 'vda'), 60)
    process.kill()
    if ended:
        speed_up(web, 'vda')
        if kind == 'active':
            until('it is ready', lambda: mirrored(web, 'vda') == 'yes', 120)
        else:
            wait_idle(web, 'vda')
            assert merged_files(web, after) != []

    done = run_module('snapshot_merge', {**task, 'bandwidth': '0'})

    assert done['changed'] is True
    assert only(done)['state'] == 'merged'
    assert only(done)['chain_after'] == chain(web, 'vda') == after
    assert merged_files(web, after) == []
    assert journal(web) is None
    prove(web, 'vda', web.acked()['vda'], tmp_path)


def test_domain_that_died_with_its_job_is_merged_shut_off(web: Guest, run_module: Runner, tmp_path: Path) -> None:
    task, after = slow_task(web, 'active')
    process = run_module.start('snapshot_merge', task)
    until('a job runs', lambda: job(web, 'vda'), 60)
    acked = web.acked()
    web.destroy()
    result = process.wait()
    assert result['failed']
    assert only(result)['state'] == 'failed'
    assert 'stopped' in result['msg']

    done = only(run_module('snapshot_merge', {**task, 'bandwidth': '0'}))

    assert done['state'] == 'merged'
    assert journal(web) is None
    assert chain(web, 'vda', inactive=True)[0] == after[0]
    assert merged_files(web, after) == []
    prove(web, 'vda', acked['vda'], tmp_path)


@pytest.mark.parametrize('kind', KINDS)
def test_qemu_is_killed_and_the_domain_started_again(web: Guest, run_module: Runner, tmp_path: Path, kind: str) -> None:
    task, after = slow_task(web, kind)
    before = chain(web, 'vda')
    process = run_module.start('snapshot_merge', task)
    until('a job runs', lambda: job(web, 'vda'), 60)
    acked = web.acked()

    kill_qemu(web)

    result = process.wait()
    assert result['failed']
    assert '\n' not in result['msg']
    assert 'stopped' in result['msg']
    assert only(result)['state'] == 'failed'
    web.start()
    ready(web)
    assert chain(web, 'vda') == before
    assert idle(web, 'vda')
    assert all(web.acked()[target] > acked[target] for target in TARGETS)

    done = only(run_module('snapshot_merge', {**task, 'bandwidth': '0'}))

    assert done['state'] == 'merged'
    assert chain(web, 'vda') == after
    assert chain(web, 'vda', inactive=True)[0] == after[0]
    assert merged_files(web, after) == []
    assert journal(web) is None
    prove(web, 'vda', web.acked()['vda'], tmp_path)


@pytest.mark.core
@pytest.mark.parametrize('kind', KINDS)
def test_abort_ends_the_job_and_keeps_the_chain(web: Guest, lab: Lab, run_module: Runner, kind: str) -> None:
    task, _after = slow_task(web, kind)
    before = chain(web, 'vda')
    abort = {'name': 'mjob', 'state': 'aborted'}
    assert run_module('snapshot_merge', abort)['changed'] is False
    run_module('snapshot_merge', {**task, 'wait': False})
    expected = run_module('snapshot_merge', abort, check=True)
    assert only(expected)['state'] == 'aborted'
    assert job(web, 'vda')

    result = run_module('snapshot_merge', abort)

    assert result['changed'] is True
    assert only(result)['state'] == 'aborted'
    assert idle(web, 'vda')
    assert chain(web, 'vda') == before
    assert journal(web) is None
    assert run_module('snapshot_merge', abort)['changed'] is False


@pytest.mark.core
def test_job_of_virsh_is_taken_over_or_aborted(web: Guest, run_module: Runner) -> None:
    task, after = slow_task(web, 'active')
    web.domain.blockCommit('vda', after[0], None, 4096, 4)
    result = run_module('snapshot_merge', {'name': 'mjob', 'state': 'aborted', 'disks': [{'target': 'vda'}]})
    assert only(result)['state'] == 'aborted'
    web.domain.blockCommit('vda', after[0], None, 4096, 4)
    other = run_module.fails('snapshot_merge', {**task, 'base': after[1]})
    assert 'not the one that is asked for' in other['msg']
    assert only(run_module('snapshot_merge', {**task, 'bandwidth': '0'}))['state'] == 'merged'
    assert chain(web, 'vda') == after


def test_another_merge_of_the_same_disk_is_refused(web: Guest, run_module: Runner) -> None:
    task, after = slow_task(web, 'intermediate')
    run_module('snapshot_merge', {**task, 'wait': False})
    result = run_module.fails('snapshot_merge', {'name': 'mjob', 'top': after[0]})
    assert 'another merge' in result['msg']
    assert job(web, 'vda')


def test_disk_that_fails_does_not_hold_up_the_others(web: Guest, run_module: Runner) -> None:
    run_module('disk_snapshot', {'name': 'mjob', 'snapshot_name': 's1'})
    fill(web, 'vda')
    process = run_module.start('snapshot_merge', {'name': 'mjob', 'snapshot_name': 's1', 'bandwidth': CRAWL})
    until('both jobs run', lambda: job(web, 'vda') and (job(web, 'vdb') or len(chain(web, 'vdb')) == 1), 60)
    web.domain.blockJobAbort('vda', 0)
    speed_up(web, 'vdb')
    result = process.wait()
    assert result['failed']
    assert 'vda' in result['msg']
    states = {disk['target']: disk['state'] for disk in result['domains'][0]['disks']}
    assert states == {'vda': 'failed', 'vdb': 'merged'}
    rest = run_module('snapshot_merge', {'name': 'mjob', 'snapshot_name': 's1'})
    assert only(rest)['target'] == 'vda'
    assert journal(web) is None
    assert not [name for name in os.listdir(web.images) if '.s1.' in name]
