# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""snapshot_merge of the layer that a guest fills as fast as it can: merged or aborted within timeout, never between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.tests.live.harness import Guests, Runner, chain, journal, put_back
from ansible_collections.disksnap.libvirt.tests.live.merging import idle, prove, wait_idle
from disksnap_lab import DiskSpec, Guest, GuestSpec

TASK = {'name': 'churn', 'snapshot_name': 's1'}
# writes the same 4 MiB over and over, past the guest's cache
WRITE = 'while :; do dd if=/random of=/mnt/vda/churn$0 bs=256k count=16 conv=notrunc,fsync 2>/dev/null; done'
WRITERS = 3
SLOW = 64 << 10  # a second; a fraction of what they write in one
# seconds that the end of a task may take once its time is up
END = 30.0


@pytest.fixture(scope='module')
def guest_(shared: Guests) -> Guest:
    """A guest with one disk."""
    return shared(GuestSpec('churn', disks=[DiskSpec()]))


@pytest.fixture
def churn(guest_: Guest, run_module: Runner) -> Iterator[Guest]:
    """It has a snapshot, and writes."""
    run_module('disk_snapshot', TASK)
    made = guest_.exec('dd', 'if=/dev/urandom', 'of=/random', 'bs=262144', 'count=16')
    assert made.status == 0, made
    run = [{'path': '/bin/sh', 'arg': ['-c', WRITE, str(number)]} for number in range(WRITERS)]
    pids = [str(guest_.agent_command('guest-exec', **one)['pid']) for one in run]
    yield guest_
    guest_.exec('kill', *pids)
    if not idle(guest_, 'vda'):
        guest_.domain.blockJobAbort('vda', 0)
        wait_idle(guest_, 'vda')
    put_back(guest_)


def agrees(churn: Guest, result: dict[str, Any], before: list[str]) -> str:
    """The state that the task says; the chain and the journal are those of this state, and no job is left."""
    [disk] = result['domains'][0]['disks']
    state = str(disk['state'])
    assert idle(churn, 'vda')
    assert disk['chain_after'] == chain(churn, 'vda')
    assert chain(churn, 'vda', inactive=True)[0] == chain(churn, 'vda')[0]
    assert '<merge' not in (journal(churn) or '')
    if state == 'merged':
        assert not result.get('failed'), result
        assert chain(churn, 'vda') == before[1:]
        assert disk['removed'] == before[:1]
        assert not Path(before[0]).exists()
        assert journal(churn) is None
    else:
        assert state == 'aborted'
        assert result['failed']
        assert 'did not end within' in result['msg']
        assert chain(churn, 'vda') == before
        assert disk['removed'] == []
        assert Path(before[0]).exists()
    return state


def test_a_merge_slower_than_the_guest_writes_is_aborted(churn: Guest, run_module: Runner, tmp_path: Path) -> None:
    """It would never end. Without the limit, the next run merges while the guest still writes."""
    before = chain(churn, 'vda')
    written = churn.domain.blockStats('vda')[3]

    result = run_module.start('snapshot_merge', {**TASK, 'bandwidth': str(SLOW), 'timeout': 4}).wait()

    assert churn.domain.blockStats('vda')[3] - written > 4 * SLOW * 10, 'it wrote no faster than the merge copies'
    assert agrees(churn, result, before) == 'aborted'
    assert 4 <= result['_seconds'] < 4 + END
    churn.wait_acked(2, timeout=60)
    again = run_module.start('snapshot_merge', {**TASK, 'timeout': 100}).wait()
    assert agrees(churn, again, before) == 'merged'
    churn.wait_acked(2, timeout=60)
    prove(churn, 'vda', churn.acked()['vda'], tmp_path)


@pytest.mark.parametrize(('bandwidth', 'timeout'), [('0', 1), ('0', 3), ('20M', 2), ('60M', 2)])
def test_a_merge_as_fast_as_the_guest_writes_ends_merged_or_aborted(
    bandwidth: str, timeout: int, churn: Guest, run_module: Runner, tmp_path: Path
) -> None:
    """The time is up before it begins, as it is about to pivot, or later: whichever of the two, it is all of it."""
    before = chain(churn, 'vda')

    result = run_module.start('snapshot_merge', {**TASK, 'bandwidth': bandwidth, 'timeout': timeout}).wait()
    print(bandwidth, timeout, result.get('msg'), result['_seconds'])

    state = agrees(churn, result, before)
    assert result['_seconds'] < timeout + END
    churn.wait_acked(2, timeout=60)
    if state == 'aborted':
        again = run_module.start('snapshot_merge', TASK).wait()
        assert agrees(churn, again, before) == 'merged'
    prove(churn, 'vda', churn.acked()['vda'], tmp_path)
