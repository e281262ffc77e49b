# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take back overlays that a failed or killed run put on: as if the snapshot had never been asked for.

Unlike a merge that a user asks for, this one may write into a base that others stand on: until a moment ago the
guest wrote to it directly, and it does so again afterwards.
"""

from __future__ import annotations

import time
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _blockjob, _chain
from ansible_collections.disksnap.libvirt.plugins.module_utils._command import run
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained, xml_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._journal import DiskRecord, Volume
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.change import domain_with_disk

# an overlay of a failed snapshot is seconds old; one of a killed run may have grown for days
UNDO_TIMEOUT = 3600.0


def undo_overlays(domain: Domain, records: t.Sequence[DiskRecord], *, timeout: float = UNDO_TIMEOUT) -> None:
    """Move the disks back to their base images, with what the guest wrote since, and delete the overlays.

    Disks that never moved only lose their overlay's file; where that is gone too, nothing is done.

    Raises:
        DiskSnapError: if a disk could not be moved back or a file not be deleted; it names both.
    """
    deadline = time.monotonic() + timeout
    records = [record for record in records if record.volumes]  # one that never got its volume has nothing to undo
    moved = [record for record in records if _stands_on(domain, record)]
    if domain.live:
        _commit_live(domain, moved, deadline)
    else:
        for record in moved:
            _commit_off(domain, record, max(1.0, deadline - time.monotonic()))
    for record in records:
        _delete(domain, record)


def _stands_on(domain: Domain, record: DiskRecord) -> bool:
    """Whether the disk uses the overlay now.

    Raises:
        DiskSnapError: if it does, below another layer that someone put on since.
    """
    disk = domain.read().disk(record.target)
    if disk is None:
        return False
    overlay = record.volumes[0].path
    if disk.source is not None and disk.source.path == overlay:
        return True
    if _chain.whole(disk, domain.host.pools, domain.name).layer(overlay) is None:
        return False
    raise DiskSnapError(
        'Failed to undo the snapshot',
        domain=domain.name,
        disk=record.target,
        why=f'another layer was put on {overlay} since',
        hint=f'Merge it with snapshot_merge (top: {overlay}).',
    )


def _commit_live(domain: Domain, records: t.Sequence[DiskRecord], deadline: float) -> None:
    """Active commit of all disks side by side, with pivot once libvirt says ready."""
    handle, left = domain.handle, list(records)
    for record in left:
        if _blockjob.look(handle, record.target) is None:
            overlay = record.volumes[0].path
            base = domain.read().disk(record.target).chain[1].key  # type: ignore[union-attr]  # _stands_on saw it
            _blockjob.start_commit(handle, record.target, base=base, top=overlay, active=True, bandwidth=0)
    pause = 0.02
    while left:
        for record in list(left):
            job = _blockjob.look(handle, record.target)
            if job is not None and job.ready:
                _blockjob.pivot(handle, record.target)
            elif job is None:
                left.remove(record)
        if left and time.monotonic() > deadline:
            raise DiskSnapError(
                'Failed to undo the snapshot',
                domain=domain.name,
                disk=left[0].target,
                why='the commit into the base image did not end in time; it goes on',
                hint='Run the task again to finish it.',
            )
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)
    _wait_moved(domain, records, deadline)


def _wait_moved(domain: Domain, records: t.Sequence[DiskRecord], deadline: float) -> None:
    """The pivot is over when the definition shows the base; a job that ended otherwise leaves the overlay there."""
    for record in records:
        while _stands_on(domain, record) and domain.read().disk(record.target).mirror is not None:  # type: ignore[union-attr]
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        if _stands_on(domain, record):
            raise DiskSnapError(
                'Failed to undo the snapshot',
                domain=domain.name,
                disk=record.target,
                why='the commit into the base image ended without the pivot',
                hint='Run the task again.',
            )


def _commit_off(domain: Domain, record: DiskRecord, timeout: float) -> None:
    """Shut off: what was written since goes into the base, then the definition goes back to the original disk."""
    overlay = record.volumes[0]
    if domain.host.local:
        run(
            ['qemu-img', 'commit', '-q', '-d', '-f', overlay.format, overlay.path],
            f'Failed to commit {overlay.path} into its base image',
            timeout=timeout,
            domain=domain.name,
            disk=record.target,
        )
    with explained('Failed to define the domain with its former disk', domain=domain.name, disk=record.target):
        xml = domain_with_disk(xml_of(domain.handle, inactive=True, secure=True), record.target, record.original)
        domain.host.connection.defineXML(xml)


def _is_ours(domain: Domain, record: DiskRecord, volume: Volume) -> bool:
    """Whether the file is the overlay that the record speaks of: one that stands on its base image.

    A run that was killed before it made the file may have left the name to someone else.
    """
    found = domain.host.pools.volume(volume.path)
    base = record.backup_source.path
    return found is not None and found.format == volume.format and base in (None, found.backing_path)


def _delete(domain: Domain, record: DiskRecord) -> None:
    for volume in record.volumes:
        if not _is_ours(domain, record, volume):
            continue
        with explained(
            f'Failed to delete {volume.path}',
            domain=domain.name,
            disk=record.target,
            hint='Nothing uses it; delete it by hand.',
        ):
            try:
                domain.host.pools.delete(volume.path)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                    raise
