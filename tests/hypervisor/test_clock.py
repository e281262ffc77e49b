# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The clock of the hypervisor is set while a guest stands still: nothing of ours goes by the time of day."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from ansible_collections.disksnap.libvirt.tests.hypervisor.harness import RemoteRunner
from disksnap_lab.hypervisor import Hypervisor, HypervisorGuest

MAX_FROZEN = 30.0
# seconds that calls may take in the guest of an emulated machine
SLACK = 10
FORWARD, BACK = "date --set '1 hour'", "date --set '1 hour ago'"
# an hour ahead, and an hour behind, each for long enough to be noticed; then right again
TO_AND_FRO = f'{FORWARD} && sleep 3 && {BACK} && {BACK} && sleep 3 && {FORWARD}'
# as often as can be, for so many rounds; in the background
RESTLESS = f'for round in $(seq 200); do {FORWARD}; sleep 0.2; {BACK}; {BACK}; sleep 0.2; {FORWARD}; done'


@pytest.fixture
def right_again(hv: Hypervisor) -> Iterator[None]:
    """The clock is right afterwards, whatever the test did to it."""
    yield
    hv.run(['sh', '-c', 'kill "$(cat /run/restless)" || :'])
    hv.run(['date', '--set', f'@{time.time():.3f}'])


def test_the_clock_steps_while_a_guest_is_frozen(
    hv: Hypervisor, inner: HypervisorGuest, right_again: None, run_module: RemoteRunner
) -> None:
    """Thawed neither an hour early nor an hour late, by clocks that nobody sets: the module's, and the guest's own."""
    before = inner.wait_acked()
    run_module('storage_quiesce', {'name': 'inner', 'state': 'quiesced', 'max_frozen': MAX_FROZEN})
    hv.run(['sh', '-c', TO_AND_FRO])
    assert inner.frozen()
    inner.wait_acked(timeout=MAX_FROZEN + 60)

    [domain] = run_module('storage_quiesce', {'name': 'inner', 'state': 'thawed'})['domains']

    assert (domain['state'], domain['thawed_by']) == ('thawed', 'watchdog')
    assert (MAX_FROZEN - 1) * 1000 <= domain['window_ms'] <= (MAX_FROZEN + SLACK) * 1000
    still = inner.longest_gap_ms(since=before)
    assert (MAX_FROZEN - 2) * 1000 <= still <= (MAX_FROZEN + SLACK) * 1000

    # libvirt itself counts its wait for the agent by the time of day, so the freeze may fail; not the truth of what is
    # said, nor the thaw
    hv.run(['sh', '-c', f'({RESTLESS}) >/dev/null 2>&1 & echo $! > /run/restless'])
    began = time.monotonic()
    task = {'name': 'inner', 'snapshot_name': 's1', 'disks': [{'target': 'vda'}], 'max_frozen': MAX_FROZEN}
    [domain] = run_module('disk_snapshot', task)['domains']
    took = (time.monotonic() - began) * 1000
    hv.run(['sh', '-c', 'kill "$(cat /run/restless)"'])
    freeze = domain['freeze']
    assert (domain['consistency'] == 'filesystem') == (freeze is not None and freeze['thawed_by'] == 'module')
    if freeze is not None and freeze['window_ms'] is not None:
        assert 0 < freeze['window_ms'] < took
    assert len(inner.chain('vda')) == 2
    inner.wait_acked(timeout=60)
    assert not inner.frozen()
