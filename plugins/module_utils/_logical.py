# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt's logical storage pools, which are volume groups.

A pool that is not active is left so: to stop it afterwards deactivates every LV of the group that nobody has open
(virStorageBackendLogicalStopPool runs ``vgchange -aln``), those of shut-off domains and snapshots among them.
libvirt 9.0 does not list thin volumes, inactive ones and snapshots that have overflowed
(virStorageBackendLogicalMakeVol).
"""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import etree, libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Source
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import child, to_text
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.volume import PoolInfo, plain_name, read_pool

TYPE = 'logical'


def pool_of(connection: t.Any, vg: str, *, active: bool = True) -> tuple[t.Any, PoolInfo] | None:
    """The logical pool that is this volume group; None if libvirt has none.

    Args:
        active: only one that is active.

    Raises:
        DiskSnapError: if libvirt fails.
    """
    flags = libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_LOGICAL
    flags |= libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE if active else 0
    with explained('Failed to list the storage pools'):
        for pool in connection.listAllStoragePools(flags):
            with contextlib.suppress(libvirt.libvirtError):  # it went away since it was listed
                info = read_pool(pool.XMLDesc(0))
                if (info.source_name or info.name) == vg:
                    return pool, info
    return None


def device_of(connection: t.Any, source: Source) -> str | None:
    """The device of a ``<source pool= volume=>`` in a logical pool, be it active or not; None for other pools.

    Raises:
        DiskSnapError: if there is no such pool, or the name of the volume would lead out of it.
    """
    with explained(f'Failed to look up the storage pool {source.pool}', hint='List them with virsh pool-list --all.'):
        info = read_pool(connection.storagePoolLookupByName(source.pool or '').XMLDesc(0))
    if info.type != TYPE:
        return None
    return f'/dev/{info.source_name or info.name}/{plain_name(source.volume or "", info.name)}'


def snapshot_volume(name: str, size: int, origin_path: str) -> str:
    """The ``<volume>`` of a classic snapshot: its capacity is the copy-on-write space.

    No allocation: one that differs from the capacity makes libvirt ask for a volume of a virtual size
    (virStorageBackendLogicalLVCreate).

    Args:
        name: of the new LV.
        size: bytes.
        origin_path: device of the LV that it is of.
    """
    root = etree.Element('volume', type='block')
    child(root, 'name', name)
    child(root, 'capacity', str(size), unit='bytes')
    child(child(root, 'backingStore'), 'path', origin_path)
    return to_text(root)


def delete(pool: t.Any, name: str) -> bool:
    """Delete a volume through its pool; False where the pool does not know it.

    Raises:
        libvirt.libvirtError: if the storage refuses.
    """
    try:
        volume = pool.storageVolLookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
            raise
        return False
    volume.delete(0)
    return True


def refresh(connection: t.Any, vg: str) -> None:
    """Have the pool of a volume group read anew. Best effort: it is a service to other users of the pool."""
    with contextlib.suppress(DiskSnapError, libvirt.libvirtError):
        found = pool_of(connection, vg)
        if found is not None:
            found[0].refresh(0)
