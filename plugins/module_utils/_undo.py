# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take back overlays that a failed or killed run put on: as if the snapshot had never been asked for.

Seconds after a failure or days after a crash, in the meantime anything may have happened to the domain. So the
chains decide, not the record: an overlay that one of the domain's disks stands on is merged as any other, with all
the checks of a merge; one that nothing on the host stands on is deleted; any other is left alone and named.
"""

from __future__ import annotations

import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _chain
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    DiskRecord,
    Volume,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk

WHAT = 'Failed to undo the snapshot'
# an overlay of a failed snapshot is seconds old; one of a killed run may have grown for days
UNDO_TIMEOUT = 3600.0


def preload() -> None:
    """Import what undoing may import: for a process that outlives the code of its module."""
    from ansible_collections.disksnap.libvirt.plugins.module_utils import _merge  # noqa: F401


def undo_overlays(domain: Domain, records: t.Sequence[DiskRecord], *, timeout: float = UNDO_TIMEOUT) -> None:
    """Move the disks back to their base images, with what the guest wrote since, and delete the overlays.

    Disks that never moved only lose their overlay's file; where that is gone too, nothing is done.

    Raises:
        DiskSnapError: if a disk could not be moved back or a file not be deleted; it names both.
    """
    disks = [_chain.whole(disk, domain.host.pools, domain.name) for disk in domain.read().disks]
    used, unused = [], []
    for record in records:
        for volume in record.volumes:
            target = _user_of(volume, disks)
            if target is None:
                unused.append((record, volume))
            else:
                used.append((target, volume.path))
    if used:
        _merge_back(domain, used, timeout)
    _delete(domain, unused)


def _user_of(volume: Volume, disks: t.Sequence[Disk]) -> str | None:
    """Target of the disk whose chain has this overlay, whatever the disk was called when the overlay was made."""
    return next((disk.target for disk in disks if disk.layer(volume.path) is not None), None)


def _merge_back(domain: Domain, used: t.Sequence[tuple[str, str]], timeout: float) -> None:
    # hardly any run has something to merge back, and each file that is compiled costs all of them
    from ansible_collections.disksnap.libvirt.plugins.module_utils import _merge

    specs = [_merge.MergeSpec(target, path) for target, path in used]
    options = _merge.MergeOptions(timeout=timeout, own=True)
    results = _merge.run(_merge.plan_all([(domain, specs)], options), options)[domain.name]
    for result in results:
        if result.state != _merge.MERGED:
            raise DiskSnapError(
                WHAT,
                domain=domain.name,
                disk=result.target,
                why=result.error or f'the merge is {result.state}',
                hint='Run the task again to go on with it.',
            )


def _delete(domain: Domain, volumes: t.Sequence[tuple[DiskRecord, Volume]]) -> None:
    """Delete overlays that none of this domain's disks stands on, if nobody else's does."""
    ours = [(record, volume) for record, volume in volumes if _is_ours(domain, record, volume)]
    if not ours:
        return
    users = _chain.Users(domain.host.connection, domain.host.pools)
    for record, volume in ours:
        others = users.domains_on(volume.path) | users.images_on(volume.path)
        if others:
            raise DiskSnapError(
                WHAT,
                domain=domain.name,
                disk=record.target,
                why=f'its overlay {volume.path} is in use by {", ".join(sorted(others))}',
                hint='If this domain is a copy of another, remove the journal that it was copied with: '
                'virsh metadata, namespace urn:disksnap:libvirt:journal:1.',
            )
        with explained(f'Failed to delete {volume.path}', domain=domain.name, disk=record.target):
            domain.host.pools.delete(volume.path)


def _is_ours(domain: Domain, record: DiskRecord, volume: Volume) -> bool:
    """Whether the file is the overlay that the record speaks of: one that was made, or that stands on its base image.

    A run that was killed before it made the file, or before it could say so, may have left the name to someone else.
    """
    found = domain.host.pools.volume(volume.path)
    if found is not None and record.made:
        return True
    base = record.backup_source.path
    return found is not None and found.format == volume.format and base in (None, found.backing_path)
