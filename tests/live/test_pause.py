# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""vCPUs that are stopped while disks are copied go on again, whatever dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ansible
import pytest

from ansible_collections.disksnap.libvirt.tests.live.harness import (
    COLLECTIONS,
    Background,
    Guests,
    Runner,
    copy_out,
    journal,
    ready,
    until,
    watchdogs,
)
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab, check_copy

# a storage that takes its time over a clone: the ioctl FICLONE sleeps
SLOW_STORAGE = """
import fcntl, os, time

_ioctl = fcntl.ioctl

def ioctl(descriptor, request, *arguments):
    if request == 0x40049409:
        time.sleep(float(os.environ['DISKSNAP_TEST_SLOW']))
    return _ioctl(descriptor, request, *arguments)

fcntl.ioctl = ioctl
"""
TASK = {'name': 'still', 'snapshot_name': 's1', 'quiesce': 'none', 'method': 'reflink'}


@pytest.fixture(scope='module')
def still(lab: Lab, shared: Guests) -> Iterator[Guest]:
    """Two raw disks on xfs."""
    directory = lab.filesystem('still', 'xfs')
    yield shared(GuestSpec('still', disks=[DiskSpec(format='raw')] * 2, directory=directory))
    shared.remove()
    lab.remove_filesystem('still')


@pytest.fixture(autouse=True)
def clean(still: Guest, run_module: Runner) -> Iterator[None]:
    """Each test starts and ends with a guest that runs and has no snapshot."""
    yield
    if still.state == 'paused':
        still.domain.resume()
    ready(still)
    run_module('disk_snapshot', {'name': 'still', 'snapshot_name': 's1', 'state': 'absent'})
    assert journal(still) is None
    assert len(list(still.images.iterdir())) == 2


@pytest.fixture
def slowly(run_module: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Start the snapshot on a storage that takes this many seconds for each clone."""
    (tmp_path / 'sitecustomize.py').write_text(SLOW_STORAGE)

    def start(seconds: float, **task: Any) -> Background:
        monkeypatch.setenv('DISKSNAP_TEST_SLOW', str(seconds))
        path = [tmp_path, COLLECTIONS, Path(ansible.__file__).parents[1]]
        return run_module.start('disk_snapshot', {**TASK, **task}, path=path)

    return start


def paused(guest: Guest) -> None:
    """Wait until its vCPUs stand still."""
    until('vCPUs that stand still', lambda: guest.state == 'paused')


def test_copies_of_a_guest_that_is_not_frozen_are_of_one_instant(still: Guest, slowly: Any, tmp_path: Path) -> None:
    acked = still.acked()

    with still.watch() as watch:
        [domain] = slowly(0.5).wait()['domains']
        still.wait_acked(2)

    assert (domain['consistency'], domain['freeze']) == ('crash', None)
    assert still.state == 'running'
    reports = [check_copy(copy_out(d['backup_source']['path'], 'raw', tmp_path / d['target'])) for d in domain['disks']]
    assert all(report.consistent for report in reports)
    assert all(report.holds(seq) for report, seq in zip(reports, acked.values()))
    assert watch.longest_gap_ms > 900, 'it stood still over both clones'


def test_the_module_dies_while_they_stand_still(still: Guest, slowly: Any, run_module: Runner) -> None:
    started = slowly(60)
    paused(still)

    started.kill()

    until('a guest that runs', lambda: still.state == 'running')
    still.wait_acked(5)
    result = run_module('disk_snapshot', TASK)
    assert any('half taken' in warning for warning in result['warnings'])
    until('the end of the watchdog', lambda: not watchdogs())


def test_no_longer_than_max_frozen(still: Guest, slowly: Any) -> None:
    started = slowly(4, max_frozen=2)
    paused(still)

    until('a guest that runs', lambda: still.state == 'running')

    result = started.wait()
    assert result['failed']
    assert 'max_frozen' in result['msg']
    still.wait_acked(5)


def test_the_module_and_its_watchdog_die(still: Guest, slowly: Any, run_module: Runner) -> None:
    started = slowly(60)
    paused(still)
    for watchdog in watchdogs():
        os.kill(watchdog.pid, signal.SIGKILL)
    started.kill()

    result = run_module('disk_snapshot', {**TASK, 'snapshot_name': 's2'})

    assert any('half taken' in warning for warning in result['warnings'])
    assert still.state == 'running'
    still.wait_acked(5)
    run_module('disk_snapshot', {**TASK, 'snapshot_name': 's2', 'state': 'absent'})


def test_a_guest_that_the_operator_has_paused_stays_so(still: Guest, run_module: Runner) -> None:
    still.domain.suspend()

    result = run_module('disk_snapshot', {**TASK, 'quiesce': 'preferred'})

    assert result['changed']
    assert still.state == 'paused'
