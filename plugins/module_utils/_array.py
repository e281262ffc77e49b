# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tasks of a play that ask a storage array need to know, and what they have done there."""

from __future__ import annotations

import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _journal
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain, Host, look_up
from ansible_collections.disksnap.libvirt.plugins.module_utils._journal import DiskRecord, Journal, SnapshotRecord
from ansible_collections.disksnap.libvirt.plugins.module_utils._lock import LOCK_WAIT, locked
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.array import volume
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.registry import method_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._settle import HALF_TAKEN, decided
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import Request


def _by_play(record: SnapshotRecord) -> list[DiskRecord]:
    """The disks of which an array has the snapshot, or may have it."""
    return [disk for disk in record.disks if method_of(disk.method).by_play and not disk.gone]


def _records(
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
    found = list(_records(domains, snapshot_name, group))
    return {
        'changed': False,
        'names': [domain.name for domain in domains],
        'volumes': [volume(domain, disk, one.group) for domain, _journal, one in found for disk in _by_play(one)],
    }


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
        for domain, journal, record in _records(domains, snapshot_name, group):
            gone = _by_play(record)
            if not gone:
                continue
            if record.state == _journal.REVERTING:
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
        for domain, journal, record in _records(domains, snapshot_name, None):
            back = [disk for disk in _by_play(record) if not disk.reverted]
            if not back or check:
                changed |= bool(back)
                continue
            if record.revert is None or record.revert.stage != _journal.RESTORING:
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
    """The group of a snapshot of this name that an interrupted run has left half taken, and that an array may have."""
    journals = [_journal.load(domain.handle) for domain in domains]
    known = decided(journals)
    for journal in journals:
        record = journal.snapshots.get(snapshot_name)
        if record is None or record.state not in HALF_TAKEN or record.group in known or not _by_play(record):
            continue
        if record.state != _journal.COMMITTED or _journal.age(record.decide_by or '') >= 0:
            return record.group
    return None
