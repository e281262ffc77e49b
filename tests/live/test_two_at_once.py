# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two runs on one domain at once: one waits for the other within its timeout, or fails with a sentence; never both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.disksnap.libvirt.tests.live.harness import (
    Background,
    Guests,
    Runner,
    chain,
    frozen,
    journal,
    put_back,
    until,
    untouched,
    watchdogs,
)
from ansible_collections.disksnap.libvirt.tests.live.merging import (
    CRAWL,
    fill,
    idle,
    job,
    prove,
    speed_up,
    wait_idle,
)
from disksnap_lab import Guest, GuestSpec, Lab

CRAWL_BYTES = 4096
SLOWLY = {'name': 'both', 'snapshot_name': 's1', 'bandwidth': CRAWL}


@pytest.fixture(scope='module')
def made(shared: Guests) -> Guest:
    return shared(GuestSpec('both'))


@pytest.fixture
def both(made: Guest, run_module: Runner) -> Iterator[Guest]:
    """A guest with one disk; each test ends with one layer, and nobody at work on it."""
    yield made
    run_module('storage_quiesce', {'name': 'both', 'state': 'thawed'})
    if not idle(made, 'vda'):
        made.domain.blockJobAbort('vda', 0)
        wait_idle(made, 'vda')
    put_back(made)
    until('the end of all watchdogs', lambda: not watchdogs(), 60)


@pytest.fixture
def merging(both: Guest, run_module: Runner) -> Background:
    """A merge that does not end by itself while a test lasts."""
    run_module('disk_snapshot', {'name': 'both', 'snapshot_name': 's1'})
    fill(both, 'vda')
    started = run_module.start('snapshot_merge', SLOWLY)
    until('a job', lambda: job(both, 'vda'), 60)
    return started


def waits(run: Background, guest: Guest) -> bool:
    """Whether it has the lock of the domain open, which the other run holds."""
    lock = f'{guest.domain.UUIDString()}.lock'
    try:
        return any(os.readlink(one).endswith(lock) for one in Path(f'/proc/{run.pid}/fd').iterdir())
    except FileNotFoundError:  # of one that is being closed
        return False


def state(result: dict[str, Any]) -> list[str]:
    assert not result.get('failed'), result
    return [disk['state'] for disk in result['domains'][0]['disks']]


def test_a_second_merge_waits_no_longer_than_its_timeout(
    both: Guest, merging: Background, lab: Lab, run_module: Runner
) -> None:
    with untouched(lab, both):
        failed = run_module.fails('snapshot_merge', {**SLOWLY, 'bandwidth': '0', 'timeout': 2})
        removal = {'name': 'both', 'snapshot_name': 's1', 'state': 'absent', 'timeout': 2}
        refused = run_module.fails('disk_snapshot', removal)

    for result in (failed, refused):
        assert 'domain both' in result['msg']
        assert 'another run of this collection works on it and did not end within 2 seconds' in result['msg']
    assert (
        both.domain.blockJobInfo('vda', libvirt.VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES)['bandwidth'] == CRAWL_BYTES
    )
    speed_up(both, 'vda')
    assert state(merging.wait()) == ['merged']


def test_a_second_merge_finds_the_work_done(
    both: Guest, merging: Background, run_module: Runner, tmp_path: Path
) -> None:
    base = chain(both, 'vda')[-1]
    second = run_module.start('snapshot_merge', SLOWLY)
    until('a run that waits', lambda: waits(second, both), 60)
    speed_up(both, 'vda')

    first, after = merging.wait(), second.wait()

    assert state(first) == ['merged']
    assert (state(after), after['changed']) == ([], False)
    assert chain(both, 'vda') == [base]
    assert journal(both) is None
    prove(both, 'vda', both.acked()['vda'], tmp_path)


def test_a_snapshot_beside_a_merge_is_taken_after_it(
    both: Guest, merging: Background, run_module: Runner, tmp_path: Path
) -> None:
    base = chain(both, 'vda')[-1]
    second = run_module.start('disk_snapshot', {'name': 'both', 'snapshot_name': 's2', 'quiesce': 'required'})
    until('a run that waits', lambda: waits(second, both), 60)
    assert not frozen(both)  # for as long as it waits, it stands in nobody's way
    speed_up(both, 'vda')

    first, after = merging.wait(), second.wait()

    assert state(first) == ['merged']
    assert not after.get('failed'), after
    [domain] = after['domains']
    assert domain['consistency'] == 'filesystem'
    assert chain(both, 'vda') == [domain['disks'][0]['volumes'][0]['path'], base]
    prove(both, 'vda', both.acked()['vda'], tmp_path)


def test_two_that_quiesce_are_one_freeze(both: Guest, run_module: Runner) -> None:
    task = {'name': 'both', 'state': 'quiesced', 'max_frozen': 60}
    runs = [run_module.start('storage_quiesce', task) for _run in range(2)]

    results = [run.wait() for run in runs]

    assert not any(result.get('failed') for result in results), results
    assert sorted(result['changed'] for result in results) == [False, True]
    assert results[0]['domains'] == results[1]['domains']
    assert frozen(both)
    until('one watchdog', lambda: len(watchdogs()) == 1, 30)
    [domain] = run_module('storage_quiesce', {'name': 'both', 'state': 'thawed'})['domains']
    assert domain['thawed_by'] == 'module'
