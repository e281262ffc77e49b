# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules return, in the shapes of their RETURN documentation, and what ``--diff`` shows."""

from __future__ import annotations

import typing as t
from dataclasses import asdict

from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    DiskRecord,
    QuiesceRecord,
    SnapshotRecord,
)

if t.TYPE_CHECKING:
    from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_model import DomainMerge, MergeResult


def snapshot(domain: Domain, record: SnapshotRecord) -> dict[str, t.Any]:
    """One of ``domains`` of disk_snapshot."""
    return {
        'name': domain.name,
        'uuid': domain.uuid,
        'snapshot_name': record.name,
        'created_at': record.created_at,
        'description': record.description,
        'consistency': record.consistency,
        'freeze': asdict(record.freeze) if record.freeze else None,
        'disks': [_disk(disk) for disk in record.disks],
    }


def _disk(record: DiskRecord) -> dict[str, t.Any]:
    return {
        'target': record.target,
        'method': record.method,
        'reason': record.reason,
        'method_xml': record.method_xml,
        'modified_disk': record.modified_disk,
        # null as long as an array has not told what it is
        'backup_source': asdict(record.backup_source) if record.backup_source.type else None,
        'volumes': [asdict(volume) for volume in record.volumes],
    }


def quiesce(domain: Domain, record: QuiesceRecord, state: str) -> dict[str, t.Any]:
    """One of ``domains`` of storage_quiesce."""
    return {
        'name': domain.name,
        'uuid': domain.uuid,
        'state': state,
        'filesystems': record.filesystems,
        'presynced': record.presynced,
        'frozen_at': record.frozen_at or None,
        'thawed_at': record.thawed_at,
        'window_ms': record.window_ms,
        'thawed_by': record.thawed_by,
    }


def disk_diff(entries: t.Iterable[tuple[str, str, str, str]]) -> dict[str, str]:
    """``--diff`` of disks: domain, target, what is there before and after, as XML or as lines of text."""
    before = after = ''
    for domain, target, old, new in entries:
        heading = f'# disk {target} of domain {domain}\n'
        before += heading + _lines(old)
        after += heading + _lines(new)
    return {'before': before, 'after': after}


def joined(*diffs: dict[str, str]) -> dict[str, str]:
    """Several diffs as one."""
    return {side: ''.join(diff[side] for diff in diffs) for side in ('before', 'after')}


def _lines(xml: str) -> str:
    """The XML with an element a line, so that a diff shows which one changed."""
    return xml.replace('><', '>\n<') + '\n' if xml else ''


def merge_diff(plans: t.Iterable[DomainMerge], results: t.Mapping[str, t.Sequence[MergeResult]]) -> dict[str, str]:
    """``--diff`` of merges: the plans, and the results by the domain's name."""
    return disk_diff(
        (plan.domain.name, disk.target, disk.disk_before, result.modified_disk or disk.disk_before)
        for plan in plans
        for disk, result in zip(plan.disks, results[plan.domain.name])
    )


def snapshot_diff(new: t.Iterable[tuple[Domain, SnapshotRecord]]) -> dict[str, str]:
    """``--diff`` of a snapshot that is taken: each disk before and after, how it is taken and why, and what is made."""
    return disk_diff(
        (domain.name, disk.target, disk.original, f'{disk.modified_disk or disk.original}\n{_made(disk)}')
        for domain, record in new
        for disk in record.disks
    )


def removal_diff(gone: t.Iterable[tuple[str, DiskRecord]]) -> dict[str, str]:
    """``--diff`` of copies that are deleted: the domain's name and the disk."""
    return disk_diff((domain, disk.target, _made(disk), '') for domain, disk in gone)


def revert_diff(pairs: t.Iterable[tuple[Domain, SnapshotRecord]]) -> dict[str, str]:
    """``--diff`` of a revert, which changes no definition."""
    return disk_diff(
        (domain.name, disk.target, 'as it is now', f'as of {record.created_at}, snapshot {record.name}')
        for domain, record in pairs
        for disk in record.disks
    )


def _made(disk: DiskRecord) -> str:
    return '\n'.join(
        [f'# method {disk.method} ({disk.reason})', disk.method_xml, *(f'# volume {one.path}' for one in disk.volumes)]
    )
