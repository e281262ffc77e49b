# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a merge does to the text of a ``<disk>`` and to the journal's snapshots. Pure: XML and records in and out."""

from __future__ import annotations

import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import etree
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_model import COMMIT, Merge
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    BackupSource,
    DiskRecord,
    Journal,
    Volume,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.change import (
    settled,
    source_element,
    with_active_layer,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk, Source, read_disk
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import parse, to_text


def _holders(disk: t.Any) -> list[t.Any]:
    """The elements that carry a layer: the ``<disk>`` itself, then each ``<backingStore>`` that has a source."""
    found = [disk]
    while True:
        below = found[-1].find('backingStore')
        if below is None or below.find('source') is None:
            return found
        found.append(below)


def _set_backing(holder: t.Any, backing: t.Any | None) -> None:
    """Give a layer another ``<backingStore>``, or none."""
    old = holder.find('backingStore')
    if backing is not None and old is not None:
        holder.replace(old, backing)
    elif backing is not None:
        holder.find('source').addnext(backing)
    elif old is not None:
        holder.remove(old)


def merged_disk(disk_xml: str, merge: Merge) -> str:
    """The ``<disk>`` once the merge is done, settled; as it was where it names none of the layers that go."""
    text = settled(disk_xml)
    disk = read_disk(parse(text, 'disk XML'))
    gone = [place for place, layer in enumerate(disk.chain) if layer.key in merge.gone]
    return _without(text, disk, gone, merge) if gone else text


def _without(text: str, disk: Disk, gone: list[int], merge: Merge) -> str:
    """Take the layers at these places out, and close the gap."""
    root = parse(text, 'disk XML')
    holders = _holders(root)
    below = holders[gone[-1]].find('backingStore')  # None, <backingStore/>, or the next layer
    if gone[0] > 0:
        _set_backing(holders[gone[0] - 1], below)  # None: the text ends here, and libvirt asks the storage for the rest
        return to_text(root)
    if merge.direction == COMMIT:
        rest = below.find('backingStore') if below is not None else None
        return _on_active(disk, _layer_of(disk, merge.heir), rest)
    # a record of the time when the pulled layer was the active one: its content is in the heir now
    return _on_active(disk, merge.heir, below)


def _layer_of(disk: Disk, layer: Source) -> Source:
    """The layer as the text itself writes it, which may say more (``<seclabel>``, pool and volume)."""
    place = disk.layer(layer.key)
    return disk.chain[place] if place is not None else layer


def _on_active(disk: Disk, source: Source, backing: t.Any | None) -> str:
    root = parse(with_active_layer(disk, source), 'disk XML')
    if backing is not None:
        _set_backing(root, backing)
    return to_text(root)


def loses_instant(record: DiskRecord, merge: Merge) -> bool:
    """Whether the point in time of a recorded disk goes with this merge.

    A commit writes into the image below the overlay that the snapshot made; a pull has the image itself go.
    """
    if record.target != merge.target:
        return False
    if merge.direction == COMMIT:
        return any(volume.path in merge.gone for volume in record.volumes)
    # a backup source without a path (network) is known by the overlay on it
    on_heir = any(volume.path == merge.heir.key for volume in record.volumes)
    return on_heir or record.backup_source.path in merge.gone


def update_snapshots(journal: Journal, merge: Merge, heir: Volume, heir_pool: str | None) -> list[str]:
    """Have the recorded snapshots say what is true after a merge.

    Args:
        journal: changed in place.
        merge: what was merged.
        heir: the heir as a volume.
        heir_pool: name of the lasting pool that holds it, or None.

    Returns:
        Names of the snapshots of which nothing is left; they are no longer in the journal.
    """
    dropped = []
    for snapshot in list(journal.snapshots.values()):
        had = len(snapshot.disks)
        snapshot.disks = [record for record in snapshot.disks if not loses_instant(record, merge)]
        if had and not snapshot.disks:
            del journal.snapshots[snapshot.name]
            dropped.append(snapshot.name)
        for record in snapshot.disks:
            if record.target == merge.target:
                _follow_heir(record, merge, heir, heir_pool)
    return dropped


def _follow_heir(record: DiskRecord, merge: Merge, heir: Volume, heir_pool: str | None) -> None:
    """A disk that keeps its point in time, with what went replaced by what has its content now."""
    record.original = merged_disk(record.original, merge)
    if record.modified_disk is not None:
        record.modified_disk = merged_disk(record.modified_disk, merge)
    record.volumes = [heir if volume.path in merge.gone else volume for volume in record.volumes]
    if record.backup_source.path in merge.gone:
        record.backup_source = BackupSource(
            xml=etree.tostring(source_element(merge.heir), encoding='unicode'),
            type=merge.heir.type,
            path=heir.path,
            format=merge.heir.format,
            pool=heir_pool,
            volume=heir.name if heir_pool else None,
        )
