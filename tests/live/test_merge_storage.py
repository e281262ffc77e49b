# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""snapshot_merge on storage that fails it: full while a merge runs, read-only, or with files of another owner.

The task ends with one sentence and the chain is as it was; once the storage is as it should be, the same task merges.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
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
from ansible_collections.disksnap.libvirt.tests.live.merging import CRAWL, fill, idle, job, prove, speed_up, wait_idle
from ansible_collections.disksnap.libvirt.tests.live.storage import full, immutable, read_only
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab

NOBODY = 65534
TAKE = {'name': 'brim', 'quiesce': 'none'}


@pytest.fixture(scope='module')
def place(lab: Lab) -> Iterator[Path]:
    """A small file system."""
    yield lab.filesystem('brim', 'ext4', size_mib=96)
    lab.remove_filesystem('brim')


@pytest.fixture(scope='module')
def running(place: Path, shared: Guests) -> Iterator[Guest]:
    yield shared(GuestSpec('brim', disks=[DiskSpec(directory=place), DiskSpec()]))
    shared.remove()  # before its file system goes


@pytest.fixture
def brim(running: Guest, place: Path) -> Iterator[Guest]:
    """A guest with vda on the small file system, and vdb elsewhere; each test leaves one layer a disk."""
    yield running
    if running.state == 'paused':
        running.domain.resume()
    ready(running)
    for target in running.disks:
        if not idle(running, target):
            running.domain.blockJobAbort(target, 0)
            wait_idle(running, target)
    put_back(running)


def layer(brim: Guest, run_module: Runner, target: str, snapshot: str, path: Path) -> str:
    """Take a snapshot of one disk, whose overlay is this file."""
    task = {**TAKE, 'snapshot_name': snapshot, 'disks': [{'target': target, 'file': str(path)}]}
    run_module('disk_snapshot', task)
    return str(path)


def only(result: dict[str, Any]) -> dict[str, Any]:
    [disk] = result['domains'][0]['disks']
    return dict(disk)


@contextlib.contextmanager
def failed_for_want_of_room(
    brim: Guest, run_module: Runner, target: str, place: Path, task: dict[str, Any]
) -> Iterator[None]:
    """Begin the merge, have the storage full by the time that it copies, and see it fail; it stays full meanwhile."""
    before = chain(brim, target)
    started = run_module.start('snapshot_merge', {**task, 'bandwidth': CRAWL})
    until('a job', lambda: job(brim, target), 60)
    with full(place / 'filler'):
        speed_up(brim, target)

        result = started.wait()

        assert result['failed']
        assert f'domain brim, disk {target}' in result['msg']
        assert 'full file system' in result['msg']
        assert '\n' not in result['msg']
        assert (only(result)['state'], only(result)['removed']) == ('failed', [])
        assert only(result)['chain_after'] == chain(brim, target) == before
        assert idle(brim, target)
        assert '<merge' not in (journal(brim) or '')
        yield


def test_the_base_s_file_system_fills_up_while_it_is_committed_to(
    brim: Guest, place: Path, run_module: Runner, tmp_path: Path
) -> None:
    base = chain(brim, 'vda')[0]
    overlay = layer(brim, run_module, 'vda', 's1', brim.images / 'elsewhere.qcow2')
    fill(brim, 'vda')
    task = {'name': 'brim', 'snapshot_name': 's1'}

    with failed_for_want_of_room(brim, run_module, 'vda', place, task):
        brim.wait_acked(3)  # it never noticed
    done = only(run_module('snapshot_merge', task))

    assert (done['state'], done['removed'], chain(brim, 'vda')) == ('merged', [overlay], [base])
    assert journal(brim) is None
    prove(brim, 'vda', brim.acked()['vda'], tmp_path)


def test_the_overlay_s_file_system_fills_up_while_it_is_pulled_into(
    brim: Guest, place: Path, run_module: Runner, tmp_path: Path
) -> None:
    """The guest, which finds no room either, is paused by QEMU; it goes on once somebody made room and resumes it."""
    base = chain(brim, 'vdb')[0]
    low = layer(brim, run_module, 'vdb', 'low', brim.images / 'low.qcow2')
    fill(brim, 'vdb')
    high = layer(brim, run_module, 'vdb', 'high', place / 'high.qcow2')
    task = {'name': 'brim', 'top': high, 'base': base, 'direction': 'pull'}

    with failed_for_want_of_room(brim, run_module, 'vdb', place, task):
        until('a guest that QEMU stopped', lambda: brim.state == 'paused', 60)
    brim.domain.resume()
    brim.wait_acked(3)
    done = only(run_module('snapshot_merge', task))

    assert (done['state'], done['removed'], chain(brim, 'vdb')) == ('merged', [low], [high, base])
    prove(brim, 'vdb', brim.acked()['vdb'], tmp_path)
    run_module('disk_snapshot', {'name': 'brim', 'snapshot_name': 'low', 'state': 'absent'})
    assert chain(brim, 'vdb') == [base]
    assert journal(brim) is None


def test_a_guest_that_filled_its_overlay_s_file_system_is_merged(
    brim: Guest, place: Path, run_module: Runner, tmp_path: Path
) -> None:
    """To commit the overlay is the way to get room: it needs none where the overlay is."""
    base = chain(brim, 'vdb')[0]
    layer(brim, run_module, 'vdb', 's1', place / 's1.qcow2')
    with full(place / 'filler'):
        until('a guest that QEMU stopped', lambda: brim.state == 'paused', 60)
        acked = brim.acked()['vdb']

        done = only(run_module('snapshot_merge', {'name': 'brim', 'snapshot_name': 's1'}))

        assert (done['state'], chain(brim, 'vdb')) == ('merged', [base])
        assert journal(brim) is None
        assert brim.state == 'paused'  # as QEMU left it: to resume it is for whoever looks after it
        brim.domain.resume()
        assert brim.wait_acked(3)['vdb'] > acked
    prove(brim, 'vdb', brim.acked()['vdb'], tmp_path)


@pytest.mark.parametrize('spoilt', [read_only, immutable])
def test_a_base_that_may_not_be_written_to(
    spoilt: Callable[[Path], contextlib.AbstractContextManager[None]],
    brim: Guest,
    place: Path,
    lab: Lab,
    run_module: Runner,
) -> None:
    base = chain(brim, 'vda')[0]
    layer(brim, run_module, 'vda', 's1', brim.images / 's1.qcow2')
    task = {'name': 'brim', 'snapshot_name': 's1'}

    with spoilt(place if spoilt is read_only else Path(base)), untouched(lab, brim):
        failed = run_module.fails('snapshot_merge', task)

    assert 'domain brim, disk vda' in failed['msg']
    assert only(failed)['state'] == 'failed'
    assert only(run_module('snapshot_merge', task))['state'] == 'merged'
    assert chain(brim, 'vda') == [base]
    assert journal(brim) is None


def test_a_directory_that_becomes_read_only(brim: Guest, place: Path, lab: Lab, run_module: Runner) -> None:
    """While a merge runs: it ends well, and the file that cannot be deleted is named. A snapshot there is refused."""
    directory = place / 'overlays'
    directory.mkdir()
    base = chain(brim, 'vdb')[0]
    overlay = layer(brim, run_module, 'vdb', 's1', directory / 's1.qcow2')
    fill(brim, 'vdb')
    started = run_module.start('snapshot_merge', {'name': 'brim', 'snapshot_name': 's1', 'bandwidth': CRAWL})
    until('a job', lambda: job(brim, 'vdb'), 60)

    with immutable(directory):
        speed_up(brim, 'vdb')
        result = started.wait()
        with untouched(lab, brim):
            disks = [{'target': 'vdb', 'file': f'{directory}/s2.qcow2'}]
            refused = run_module.fails('disk_snapshot', {**TAKE, 'snapshot_name': 's2', 'disks': disks})

    assert not result.get('failed'), result
    assert (only(result)['state'], only(result)['removed'], chain(brim, 'vdb')) == ('merged', [], [base])
    assert any(overlay in warning and 'could not be deleted' in warning for warning in result['warnings'])
    assert journal(brim) is None
    assert 'domain brim, disk vdb' in refused['msg']
    assert 's2.qcow2' in refused['msg']
    os.unlink(overlay)


def test_files_of_another_user(brim: Guest, run_module: Runner, tmp_path: Path) -> None:
    """Taken, merged both ways and gone back to, with a base that belongs to nobody."""
    base = chain(brim, 'vda')[0]
    os.chown(base, NOBODY, NOBODY)
    os.chmod(base, 0o600)
    low = layer(brim, run_module, 'vda', 's1', brim.images / 's1.qcow2')
    os.chown(low, NOBODY, NOBODY)
    high = layer(brim, run_module, 'vda', 's2', brim.images / 's2.qcow2')

    pulled = run_module('snapshot_merge', {'name': 'brim', 'top': high, 'base': base, 'direction': 'pull'})
    os.chown(base, NOBODY, NOBODY)
    committed = run_module('snapshot_merge', {'name': 'brim', 'top': high})

    assert [only(one)['state'] for one in (pulled, committed)] == ['merged', 'merged']
    assert chain(brim, 'vda') == [base]
    assert not os.path.exists(low)
    brim.wait_acked(3)
    prove(brim, 'vda', brim.acked()['vda'], tmp_path)
