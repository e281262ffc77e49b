# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finish or undo what an earlier run left: every task does so before its own work on a domain."""

from __future__ import annotations

import contextlib
import socket
import time
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _journal, _records
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._lock import LOCK_WAIT, locked
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    Journal,
    SnapshotRecord,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._restore import going_back, recover, refuse_waiting
from ansible_collections.disksnap.libvirt.plugins.module_utils._snapshot import refuse_by_play, undo

_LOOK_EVERY = 0.5
# seconds after which a run on another machine, of which nothing can be known, counts as dead
FOREIGN_RUN_AGE = 900.0
HALF_TAKEN = (_records.PREPARING, _records.COMMITTING, _records.COMMITTED)


def half_taken(journal: Journal) -> list[SnapshotRecord]:
    """Entries of snapshots that a run began and never finished."""
    return [record for record in journal.snapshots.values() if record.state in HALF_TAKEN]


def half_reverted(journal: Journal) -> list[SnapshotRecord]:
    """Entries of snapshots to which a run was taking the domain back when it ended."""
    return [record for record in journal.snapshots.values() if record.state == _records.REVERTING]


@contextlib.contextmanager
def work_on(domains: t.Sequence[Domain], *, wait: float = LOCK_WAIT) -> t.Iterator[None]:
    """Hold the locks of these domains, once no play is about to say what becomes of a snapshot of several hosts.

    Raises:
        DiskSnapError: if another run still works on one of them.
    """
    deadline = time.monotonic() + wait
    while _awaited(domains) and time.monotonic() < deadline:
        time.sleep(min(_LOOK_EVERY, max(0.0, deadline - time.monotonic())))
    with locked(domains, wait=max(0.0, deadline - time.monotonic())):
        yield


def _awaited(domains: t.Sequence[Domain]) -> bool:
    journals = [_journal.load(domain.handle) for domain in domains]
    known = decided(journals)
    return any(
        record.group not in known for journal in journals for record in [*_undecided(journal), *_ending(journal)]
    )


def _undecided(journal: Journal) -> list[SnapshotRecord]:
    """Entries that are taken here, and whose play may still say whether they are everywhere."""
    return [
        record
        for record in journal.snapshots.values()
        if record.state == _records.COMMITTED and _records.age(record.decide_by or '') < 0
    ]


def _ending(journal: Journal) -> list[SnapshotRecord]:
    """Entries whose play has not said so in time, and whose process on this host is about to find that out."""
    return [
        record
        for record in journal.snapshots.values()
        if record.state == _records.COMMITTED
        and record.decide_by is not None
        and record.owner is not None
        and record.owner != _records.owner()
        and record.owner.host == socket.gethostname()
        and _runs(record.owner)
    ]


def _runs(owner: _records.Owner) -> bool:
    """Whether a run of this host is alive."""
    return owner.boot_id == _records.boot_id() and _records.process_start(owner.pid) == owner.start


def _refuse_undecided(domain: Domain, journal: Journal) -> None:
    for record in _undecided(journal):
        raise DiskSnapError(
            'Failed to start',
            domain=domain.name,
            why=f'the snapshot {record.name} of several hosts is taken here, and the play that takes it may say until '
            f'{record.decide_by} whether it is taken everywhere',
            hint='Nothing was changed. Run that play again, or this task after that time, which undoes it.',
        )


def _refuse_alive(domain: Domain, record: SnapshotRecord) -> None:
    """Another machine's or user's run holds no lock that we see: it must be known, or old enough, to be dead."""
    owner = record.owner
    if owner is None or owner == _records.owner():
        return
    here = owner.host == socket.gethostname()
    if _runs(owner) if here else _records.age(record.created_at) <= FOREIGN_RUN_AGE:
        raise DiskSnapError(
            'Failed to start',
            domain=domain.name,
            why=f'a run on {owner.host} (pid {owner.pid}) began to '
            f'{"go back to" if record.state == _records.REVERTING else "take"} the snapshot {record.name}, '
            f'taken at {record.created_at}, and may still be at it',
            hint='Nothing was changed. What it leaves, if it dies, is undone by the first run after '
            f'{FOREIGN_RUN_AGE / 60:.0f} minutes.',
        )


def at_work(record: SnapshotRecord) -> bool:
    """Whether a run may still take or revert a snapshot, or a play may still say what becomes of it."""
    if record.state == _records.COMMITTED and _records.age(record.decide_by or '') < 0:
        return True
    owner = record.owner
    if owner is None or record.state not in (*HALF_TAKEN, _records.REVERTING):
        return False
    return _runs(owner) if owner.host == socket.gethostname() else _records.age(record.created_at) <= FOREIGN_RUN_AGE


def decided(journals: t.Iterable[Journal]) -> set[str]:
    """Groups of snapshots of several hosts of which all hosts have taken them: somebody was told so, and not everybody.

    Only who knows that all have it tells any domain so, thus one that is told is enough.
    """
    states: dict[str, set[str]] = {}
    for journal in journals:
        for record in journal.snapshots.values():
            states.setdefault(record.group, set()).add(record.state)
    return {group for group, found in states.items() if found == {_records.COMMITTED, _records.PRESENT}}


def _note_decided(domains: t.Sequence[tuple[Domain, Journal]]) -> list[str]:
    """Note on all domains of a decided group that the snapshot is there; what was done, as warnings."""
    groups = decided(journal for _domain, journal in domains)
    warnings = []
    for domain, journal in domains:
        for record in journal.snapshots.values():
            if record.group in groups and record.state == _records.COMMITTED:
                record.state, record.decide_by = _records.PRESENT, None
                _journal.store(domain.handle, journal)
                warnings.append(
                    f'An interrupted run had not noted that the snapshot {record.name} of the domain {domain.name} was '
                    'taken on all hosts; it was noted.'
                )
    return warnings


def unsettled(domains: t.Sequence[tuple[Domain, Journal]]) -> dict[str, list[SnapshotRecord]]:
    """What ``settle`` would undo on these domains, by the domain's UUID; reverts, which it ends, are none of it."""
    groups = {record.group for _domain, journal in domains for record in half_taken(journal)}
    groups -= decided(journal for _domain, journal in domains)
    return {
        domain.uuid: [record for record in journal.snapshots.values() if record.group in groups]
        for domain, journal in domains
    }


def foretold(domain: Domain, records: t.Iterable[SnapshotRecord]) -> list[str]:
    """The warnings of check mode about what an interrupted run left.

    Raises:
        DiskSnapError: where the run itself would, as an array may have it.
    """
    going = half_reverted(_journal.load(domain.handle))
    for record in going:
        refuse_waiting(domain, record)
    for record in records:
        refuse_by_play(domain, record.disks, record.name)
    return [going_back(domain, record) for record in going] + [
        f'An interrupted run has left the snapshot {record.name} of the domain {domain.name} half taken; '
        'it would be undone.'
        for record in records
    ]


def settle(domains: t.Sequence[tuple[Domain, Journal]]) -> list[str]:
    """End the reverts and undo the half-taken snapshots of these domains; what was done, as warnings.

    A snapshot of several hosts of which one domain knows that all have it is there, and the others are told.
    A snapshot of several domains is whole or not there: where one of them was half taken, those of the same group
    that had been recorded already go too.

    Raises:
        DiskSnapError: if something cannot be undone.
    """
    for domain, _journal_of in domains:
        _journal.reconcile(domain.handle)
    warnings = _note_decided(domains)
    for domain, journal in domains:
        _refuse_undecided(domain, journal)
        for record in [*half_taken(journal), *half_reverted(journal)]:
            _refuse_alive(domain, record)
    for domain, journal in domains:
        for record in half_reverted(journal):
            warnings.append(recover(domain, record))
            journal.snapshots = _journal.load(domain.handle).snapshots
    groups = {record.group for _domain, journal in domains for record in half_taken(journal)}
    for domain, journal in domains:
        for record in list(journal.snapshots.values()):
            if record.state not in HALF_TAKEN and record.group not in groups:
                continue
            take_back(domain, journal, record)
            warnings.append(
                f'An interrupted run had left the snapshot {record.name} of the domain {domain.name} half taken; '
                'it was undone.'
            )
    return warnings


def take_back(domain: Domain, journal: Journal, record: SnapshotRecord) -> None:
    """Undo one entry, from whatever point it reached.

    Raises:
        DiskSnapError: if something is left; the entry then stays for the next run.
    """
    _set_going(domain, record)
    if record.state == _records.COMMITTED:  # from here on it is not whole any more
        record.state, record.pauses, record.decide_by = _records.COMMITTING, False, None
        journal.snapshots[record.name] = record
        _journal.store(domain.handle, journal)
    undo(domain, journal, record.name)


def _set_going(domain: Domain, record: SnapshotRecord) -> None:
    """Resume a domain that the dead run had stopped for its commit, if its watchdog died with it."""
    if not record.pauses or record.state != _records.COMMITTING:
        return
    with explained('Failed to resume the domain', domain=domain.name):
        if domain.handle.state(0)[:2] == [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER]:
            domain.handle.resume()
