# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tasks of a play that ask a storage array need to know, and what they have done there."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _journal, _records
from ansible_collections.disksnap.libvirt.plugins.module_utils._array_volumes import by_play, refuse_shared, volumes_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain, Host, look_up
from ansible_collections.disksnap.libvirt.plugins.module_utils._lock import LOCK_WAIT, locked
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.by_play import may_have
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    Journal,
    SnapshotRecord,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._settle import HALF_TAKEN, decided
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import Request

# the state of a snapshot that an array is about to lose, by what it was
_NO_LONGER = {_records.PRESENT: _records.REMOVING, _records.COMMITTED: _records.COMMITTING}


def _recorded(
    domains: t.Sequence[Domain], snapshot_name: str, group: str | None
) -> t.Iterator[tuple[Domain, Journal, SnapshotRecord]]:
    """The snapshot of each domain that has it, of this group or (None) of any."""
    for domain in domains:
        journal = _journal.load(domain.handle)
        record = journal.snapshots.get(snapshot_name)
        if record is not None and group in (None, record.group):
            yield domain, journal, record


def volumes(host: Host, requests: t.Sequence[Request], snapshot_name: str, group: str | None) -> dict[str, t.Any]:
    """The volumes of which an array has, or may have, this snapshot; what the module returns."""
    domains = look_up(host, (request.name for request in requests))
    found = list(_recorded(domains, snapshot_name, group))
    return {
        'changed': False,
        'names': [domain.name for domain in domains],
        'volumes': volumes_of((domain, record) for domain, _entry, record in found),
    }


def removing(
    host: Host, requests: t.Sequence[Request], snapshot_name: str, group: str | None, *, check: bool
) -> dict[str, t.Any]:
    """Note that the arrays are about to remove this snapshot, so that nobody counts on it any more; what they have.

    Args:
        group: of the snapshot that is given up; without it, one that is there is to go.

    Raises:
        DiskSnapError: if a domain is on its way back to it, or something else still counts on it; nothing was changed.
    """
    domains = look_up(host, (request.name for request in requests))
    with contextlib.ExitStack() as stack:
        if not check:
            stack.enter_context(locked(domains, wait=LOCK_WAIT))
        found = list(_recorded(domains, snapshot_name, group))
        refuse_shared(host, domains, [record for _domain, _journal, record in found])
        for domain, _entry, record in found:
            _refuse_removal(domain, record, given_up=group is not None)
        for domain, journal, record in () if check else found:
            if by_play(record) and record.state in _NO_LONGER:
                record.state, record.decide_by = _NO_LONGER[record.state], None
                _journal.store(domain.handle, journal)
    told = volumes_of((domain, record) for domain, _entry, record in found)
    return {'changed': bool(told), 'names': [domain.name for domain in domains], 'volumes': told}


def _refuse_removal(domain: Domain, record: SnapshotRecord, *, given_up: bool) -> None:
    why = hint = None
    if record.state == _records.REVERTING:
        why = 'it is on its way back to it'
        hint = 'Run the role with fleet_snapshot_state=reverted to end that.'
    elif not given_up and record.state == _records.COMMITTED and _records.age(record.decide_by or '') < 0:
        why = f'the play that takes it may say until {record.decide_by} whether it is taken on all hosts'
        hint = 'Run that play again, or this one after that time.'
    if why is not None:
        raise DiskSnapError(
            f'Failed to remove the snapshot {record.name}',
            domain=domain.name,
            why=why,
            hint=f'{hint} Nothing was changed.',
        )


def removed(
    host: Host, requests: t.Sequence[Request], snapshot_name: str, group: str | None, *, check: bool
) -> dict[str, t.Any]:
    """Note that no array has this snapshot any more; what the module returns.

    Raises:
        DiskSnapError: if a domain is on its way back to it.
    """
    domains = look_up(host, (request.name for request in requests))
    changed = False
    with locked(domains, wait=LOCK_WAIT):
        for domain, journal, record in _recorded(domains, snapshot_name, group):
            gone = by_play(record)
            if not gone:
                continue
            if record.state == _records.REVERTING:
                raise DiskSnapError(
                    f'Failed to forget the snapshot {snapshot_name}',
                    domain=domain.name,
                    why='it is on its way back to it',
                    hint='Run the role with fleet_snapshot_state=reverted to end that.',
                )
            changed = True
            if check:
                continue
            for disk in gone:
                disk.gone = True
            _journal.store(domain.handle, journal)
    return {'changed': changed, 'names': [domain.name for domain in domains]}


def reverted(host: Host, requests: t.Sequence[Request], snapshot_name: str, *, check: bool) -> dict[str, t.Any]:
    """Note that the array has taken its volumes back; what the module returns.

    Raises:
        DiskSnapError: if a domain was not stopped for that.
    """
    domains = look_up(host, (request.name for request in requests))
    changed = False
    with locked(domains, wait=LOCK_WAIT):
        for domain, journal, record in _recorded(domains, snapshot_name, None):
            back = [disk for disk in by_play(record) if not disk.reverted]
            if not back or check:
                changed |= bool(back)
                continue
            if record.revert is None or record.revert.stage != _records.RESTORING:
                raise DiskSnapError(
                    f'Failed to go on to the snapshot {snapshot_name}',
                    domain=domain.name,
                    why='it was not stopped for that',
                    hint='Run the role with fleet_snapshot_state=reverted, which stops it first.',
                )
            changed = True
            for disk in back:
                disk.reverted = True
            _journal.store(domain.handle, journal)
    return {'changed': changed, 'names': [domain.name for domain in domains]}


def left(domains: t.Sequence[Domain], snapshot_name: str) -> str | None:
    """The group of a snapshot of this name that an interrupted run has left half taken, and that an array may have.

    Raises:
        DiskSnapError: if there is one of another name, which the play cannot have removed.
    """
    journals = [_journal.load(domain.handle) for domain in domains]
    known = decided(journals)
    groups = []
    for domain, journal in zip(domains, journals):
        for record in journal.snapshots.values():
            if record.state not in HALF_TAKEN or record.group in known or not by_play(record):
                continue
            if record.state == _records.COMMITTED and _records.age(record.decide_by or '') < 0:
                continue
            if record.name != snapshot_name:
                raise may_have(domain, by_play(record)[0], record.name)
            groups.append(record.group)
    return groups[0] if groups else None
