# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a domain's journal says, held against its disks and its storage."""

from __future__ import annotations

import posixpath
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _lvm_snapshots, _records, _stamp
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain, Host
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.registry import method_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._problem import Problem
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    DiskRecord,
    SnapshotRecord,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._settle import at_work
from ansible_collections.disksnap.libvirt.plugins.module_utils._storage import Storage
from ansible_collections.disksnap.libvirt.plugins.module_utils._survey import DiskView, DomainView, Survey

# a classic LVM snapshot that is fuller than this may overflow before anybody looks again
_FILLING = 80.0
_AGAIN = 'Run the same task again: it goes on where that run ended.'
_UNFINISHED = {
    _records.REMOVING: ('unfinished_removal', 'was to be removed'),
    _records.REVERTING: ('unfinished_revert', 'was being gone back to'),
}


def health(view: DomainView) -> t.Iterator[Problem]:
    """Whether the journal can be read, and is the same in both definitions."""
    if view.damaged is not None:
        yield Problem(
            'journal_damaged',
            f'The journal in the metadata of the domain cannot be read: {view.damaged.why}.',
            view.damaged.hint or '',
        )
    elif view.apart:
        yield Problem(
            'journals_differ',
            'The journals in the live and in the persistent definition of the domain differ.',
            'Run any task of disk_snapshot or snapshot_merge on the domain: it puts them right.',
        )


def unfinished(view: DomainView) -> t.Iterator[Problem]:
    """What a run began and nobody goes on with."""
    for record in view.journal.snapshots.values():
        if record.state == _records.PRESENT or at_work(record):
            continue
        merging = [disk.target for disk in record.disks if disk.target in view.journal.merges]
        if record.state == _records.REMOVING and merging:
            continue  # the merge says so
        code, verb = _UNFINISHED.get(record.state, ('unfinished_snapshot', 'was being taken'))
        yield Problem(
            code,
            f'The snapshot {record.name} {verb} by a run that has ended before it was done.',
            _AGAIN if code != 'unfinished_snapshot' else 'Run any task on the domain: it undoes what is left of it.',
            snapshot=record.name,
        )
    for target, merge in view.journal.merges.items():
        job = 'its block job runs on' if target in view.jobs else 'it has no block job'
        yield Problem(
            'unfinished_merge',
            f'A {merge.direction} on disk {target} was begun and is not ended by anybody; {job}.',
            'Run snapshot_merge again as before, which ends it, or with state: aborted.',
            target,
            path=merge.top if merge.top.startswith('/') else None,
        )
    for target, running in view.jobs.items():
        if target not in view.journal.merges:
            ready = ', ready to pivot' if running.ready else ''
            yield Problem(
                'unfinished_job',
                f'A block job ({running.kind}{ready}) that this collection did not start runs on disk {target}.',
                'Let what started it end it. If that is gone, run snapshot_merge on the disk: state: merged with the '
                'same ends takes it over, state: aborted ends it.',
                target,
            )


def snapshots(view: DomainView, found: Survey) -> t.Iterator[Problem]:
    """Recorded snapshots that the storage does not have as they are recorded."""
    for record in view.journal.snapshots.values():
        if record.state != _records.PRESENT:
            continue
        for disk in record.disks:
            if disk.target in view.journal.merges or disk.target in view.jobs:
                continue  # its layers are on the move
            if disk.method == 'qemu':
                problem = _overlay(view, record, disk, found.storage) or _base(record, disk, found.storage)
            else:
                problem = _copy(view, record, disk, found.host)
            if problem is not None:
                yield problem


# -- overlays -----------------------------------------------------------------------------------------------------


def _overlay(view: DomainView, record: SnapshotRecord, one: DiskRecord, storage: Storage) -> Problem | None:
    """The overlay must be in the chain, on the image that is the snapshot."""
    disk = next((disk for disk in view.disks if disk.target == one.target), None)
    overlay = one.volumes[0].path
    if disk is None:
        return _lost(record, one, 'the domain has no such disk any more')
    place = _place(disk, overlay, storage)
    if place is None and storage.missing(overlay):
        return _lost(record, one, f'its overlay {overlay} is not there any more')
    if place is None:
        return Problem(
            'snapshot_unused',
            f'The snapshot {record.name} is recorded for disk {one.target}, and its overlay {overlay} is there, but '
            'not in the backing chain of the disk.',
            f'If {disk.layers[0].path} has the data of the guest, remove the entry with disk_snapshot, state: absent, '
            f'and then the file. If {overlay} has, correct the definition of the domain.',
            one.target,
            record.name,
            overlay,
        )
    base = one.backup_source.path
    if base is None:
        return None
    below = disk.layers[place + 1] if place + 1 < len(disk.layers) else None
    if below is None and disk.fault is None:
        return _lost(record, one, f'its overlay {overlay} stands on nothing any more')
    if below is not None and below.path and storage.canonical(below.path) != storage.canonical(base):
        return _lost(record, one, f'its overlay {overlay} stands on {below.path}, not on {base}')
    return None


def _place(disk: DiskView, path: str, storage: Storage) -> int | None:
    wanted = storage.canonical(path)
    for place, layer in enumerate(disk.layers):
        if layer.path and storage.canonical(layer.path) == wanted:
            return place
    return None


def _base(record: SnapshotRecord, one: DiskRecord, storage: Storage) -> Problem | None:
    """Nobody may have written to the image below the overlay."""
    path = one.backup_source.path
    image = storage.find(path) if path and one.base_stamp is not None else None
    now = _stamp.stamp_of(image.info) if image else None
    if now is None or now == one.base_stamp or one.base_stamp is None:
        return None
    longer = '' if now.size == one.base_stamp.size else f', and is {now.size} bytes long, not {one.base_stamp.size}'
    return Problem(
        'base_modified',
        f'{path}, the snapshot {record.name} of disk {one.target}, was written to after {one.volumes[0].path} was made '
        f'on it{longer}.',
        'The snapshot is not what it was, and the disk may be damaged. Find out what wrote to it, check the file '
        'systems of the guest, and restore it from a backup if need be. A commit that was aborted does the disk no '
        'harm.',
        one.target,
        record.name,
        path,
    )


def _lost(record: SnapshotRecord, one: DiskRecord, why: str) -> Problem:
    return Problem(
        'snapshot_lost',
        f'The snapshot {record.name} of disk {one.target} is recorded, and lost: {why}.',
        f'Clear the entry with disk_snapshot, snapshot_name: {record.name}, state: absent.',
        one.target,
        record.name,
        one.volumes[0].path if one.volumes else None,
    )


# -- copies -------------------------------------------------------------------------------------------------------


def fault_of(view: DomainView, one: DiskRecord, host: Host) -> str | None:
    """Why a recorded copy cannot be used, as a clause; None if it can, or nobody can tell from here."""
    if not host.local and one.method not in ('reflink', 'array'):
        return None
    try:
        return method_of(one.method).fault(Domain(host, view.handle, view.name, view.uuid), one)
    except DiskSnapError as error:
        return error.why or str(error)


def _copy(view: DomainView, record: SnapshotRecord, one: DiskRecord, host: Host) -> Problem | None:
    fault = fault_of(view, one, host)
    path = one.volumes[0].path if one.volumes else None
    if fault is not None:
        return Problem(
            'snapshot_unusable',
            f'The snapshot {record.name} of disk {one.target} cannot be used: {fault}.',
            f'Remove it with disk_snapshot, snapshot_name: {record.name}, state: absent.',
            one.target,
            record.name,
            path,
        )
    if one.method != 'lvm' or not host.local:
        return None
    lv = _lvm_snapshots.find(Domain(host, view.handle, view.name, view.uuid), one)
    if lv is None or not lv.classic_snapshot or (lv.data_percent or 0.0) < _FILLING:
        return None
    return Problem(
        'snapshot_filling',
        f'The copy-on-write space of the snapshot {record.name} of disk {one.target} is {lv.data_percent:.0f} % full; '
        'when it is full the snapshot is lost.',
        f'Give it more with lvextend -L +SIZE {lv.path}, or remove the snapshot.',
        one.target,
        record.name,
        posixpath.normpath(lv.path),
    )
