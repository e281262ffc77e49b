# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What tells that nobody has written to the image below an overlay since the overlay was made."""

from __future__ import annotations

import os

from ansible_collections.disksnap.libvirt.plugins.module_utils import _images
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Host
from ansible_collections.disksnap.libvirt.plugins.module_utils._paths import is_device
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    DiskRecord,
    Stamp,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.volume import VolumeInfo


def take(record: DiskRecord, host: Host) -> None:
    """Note the stamp of the image below a record's overlay, once nobody writes to it any more.

    None is taken of what QEMU itself may write to later although the data stay: it writes a qcow2 header when it
    closes an image with lazy_refcounts, and the bitmaps of one that has some. Nor of a device, whose node has a time
    of its own.
    """
    path = record.backup_source.path
    record.base_stamp = None
    if not path or is_device(path) or record.backup_source.type not in ('file', 'volume'):
        return
    try:
        if host.local:
            header = _images.header_of(path)
            if header is None or not (header.lazy_refcounts or header.dirty or header.bitmaps):
                found = os.stat(path)
                record.base_stamp = Stamp(found.st_size, found.st_mtime_ns)
        elif record.backup_source.format == 'raw':  # no pool tells of bitmaps
            volume = host.pools.volume(path)
            record.base_stamp = stamp_of(volume) if volume else None
    except (OSError, DiskSnapError):  # a snapshot is not to fail for it
        return


def stamp_of(volume: VolumeInfo) -> Stamp | None:
    """The stamp of an image as its pool shows it; None where the pool does not."""
    return Stamp(volume.physical, volume.mtime_ns) if volume.mtime_ns is not None else None
