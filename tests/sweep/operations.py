# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is broken off at each of its libvirt calls: one task each, what comes before it, and what it is to end in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.disksnap.libvirt.tests.live.harness import chain, frozen, journal
from disksnap_lab import DiskSpec, Guest, GuestSpec, acks, check_copy

# seconds
MAX_FROZEN = 5.0
PERIOD_MS = 50

# a module, and its options
Task = tuple[str, dict[str, Any]]
# guests, what the task returned, and the records that they had acknowledged before it
Judge = Callable[[Sequence[Guest], dict[str, Any], dict[str, dict[str, int]]], None]

ONE = GuestSpec('one', disks=[DiskSpec(), DiskSpec(fs='xfs'), DiskSpec(kind='volume')], writer_period_ms=PERIOD_MS)
# of two disks, as each point starts it twice
TWO = GuestSpec('one', disks=[DiskSpec(), DiskSpec(kind='volume')], writer_period_ms=PERIOD_MS)
PAIR = (GuestSpec('left', writer_period_ms=PERIOD_MS), GuestSpec('right', writer_period_ms=PERIOD_MS))


@dataclass(frozen=True)
class Operation:
    """One task on guests that run and write.

    before: brings the guests to where it begins. after: takes them back to one layer a disk and no journal.
    restarts: the task itself stops the guests, so that nothing is said of how long they stand still.
    renames: the disks end on other files than they began with.

    A snapshot_name in a task is that of the point, so that no point meets the files of another.
    """

    name: str
    specs: tuple[GuestSpec, ...]
    task: Task
    judge: Judge
    before: tuple[Task, ...] = ()
    after: tuple[Task, ...] = ()
    restarts: bool = False
    renames: bool = False


# -- what a task is to end in -------------------------------------------------------------------------------------


def taken(guests: Sequence[Guest], result: dict[str, Any], acked: dict[str, dict[str, int]]) -> None:
    """Each disk has a new layer, and its backup source is whole and holds what was acknowledged before."""
    domains = {domain['name']: domain for domain in result['domains']}
    assert sorted(domains) == sorted(guest.name for guest in guests)
    for guest in guests:
        clean = domains[guest.name]['consistency'] == 'filesystem'
        for disk in domains[guest.name]['disks']:
            target, source = disk['target'], disk['backup_source']
            assert len(chain(guest, target)) == 2, (guest.name, target)
            report = check_copy(Path(source['path']), source['format'], guest.disks[target].fs)
            assert report.clean or (report.consistent and not clean), (guest.name, target, report)
            assert report.holds(acked[guest.name][target]), (guest.name, target, report, acked[guest.name][target])


def gone(guests: Sequence[Guest], _result: dict[str, Any], _acked: dict[str, dict[str, int]]) -> None:
    """One layer a disk, and no journal."""
    for guest in guests:
        assert {target: len(chain(guest, target)) for target in guest.disks} == dict.fromkeys(guest.disks, 1)
        assert journal(guest) is None, guest.name


def pulled(guests: Sequence[Guest], _result: dict[str, Any], _acked: dict[str, dict[str, int]]) -> None:
    """One layer a disk, which is the upper one, and no journal."""
    for guest in guests:
        for target in guest.disks:
            assert len(chain(guest, target)) == 1, (guest.name, target)
            assert guest.source_file(target) != guest.disks[target].image, (guest.name, target)
        assert journal(guest) is None, guest.name


def quiesced(guests: Sequence[Guest], result: dict[str, Any], _acked: dict[str, dict[str, int]]) -> None:
    """All of them said to stand still; how long, the watchdog sees to."""
    assert {domain['name']: domain['state'] for domain in result['domains']} == {
        guest.name: 'quiesced' for guest in guests
    }


def thawed(guests: Sequence[Guest], result: dict[str, Any], _acked: dict[str, dict[str, int]]) -> None:
    """All of them run on."""
    assert {domain['state'] for domain in result['domains']} == {'thawed'}
    assert not any(frozen(guest) for guest in guests)


def reverted(guests: Sequence[Guest], _result: dict[str, Any], _acked: dict[str, dict[str, int]]) -> None:
    """What was written since the snapshot is gone, what was written before is there, and the guest goes on from it."""
    for guest in guests:
        guest.wait_agent()
        guest.wait_acked(1, timeout=60)
        for target, made in guest.disks.items():
            assert len(chain(guest, target)) == 2, (guest.name, target)
            report = check_copy(Path(made.image), made.format, made.fs)
            assert report.clean, (guest.name, target, report)
            assert acks.first_of_this_boot(guest.acks_path(target)) == (report.last or 0) + 1, (guest.name, target)


# -- the tasks ----------------------------------------------------------------------------------------------------


def _operations() -> tuple[Operation, ...]:
    one, pair = {'name': 'one'}, {'domains': [{'name': 'left'}, {'name': 'right'}]}
    named = {'snapshot_name': ''}
    terms = {'max_frozen': MAX_FROZEN, 'quiesce': 'required'}
    take: Task = ('disk_snapshot', {**one, **named, **terms})
    take_pair: Task = ('disk_snapshot', {**pair, **named, **terms})
    freeze: Task = ('storage_quiesce', {**pair, 'state': 'quiesced', 'max_frozen': MAX_FROZEN})
    thaw: Task = ('storage_quiesce', {**pair, 'state': 'thawed'})
    remove: Task = ('disk_snapshot', {**one, **named, 'state': 'absent'})
    remove_pair: Task = ('disk_snapshot', {**pair, **named, 'state': 'absent'})
    commit: Task = ('snapshot_merge', {**one, **named})
    pull: Task = ('snapshot_merge', {**one, **named, 'direction': 'pull'})
    revert: Task = ('disk_snapshot', {**one, **named, 'state': 'reverted', 'force': True})
    return (
        Operation('snapshot of 3 disks', (ONE,), take, taken, after=(remove,)),
        Operation('snapshot of 2 guests', PAIR, take_pair, taken, after=(remove_pair,)),
        Operation('quiesce', PAIR, freeze, quiesced, after=(thaw,)),
        Operation('thaw', PAIR, thaw, thawed, before=(freeze,)),
        Operation('absent', (ONE,), remove, gone, before=(take,)),
        Operation('merge by commit', (ONE,), commit, gone, before=(take,)),
        Operation('merge by pull', (ONE,), pull, pulled, before=(take,), renames=True),
        Operation('reverted', (TWO,), revert, reverted, before=(take,), after=(remove,), restarts=True),
    )


OPERATIONS = _operations()
