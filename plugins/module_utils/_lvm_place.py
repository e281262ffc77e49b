# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which logical volume a disk is, or lies on, and whether LVM can snapshot that one."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import (
    _blockdev,
    _chain,
    _logical,
    _lvm,
    _lvm_rules,
    _mounts,
    _space,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._lvm import LogicalVolume
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk, Source

WHAT_PLAN = 'Failed to plan the snapshot of the logical volume'
_FULL = 100.0


def device_of(source: Source, domain: Domain) -> str | None:
    """The block device that a layer is, by its name alone; None if it is a file or on the network.

    Raises:
        DiskSnapError: if a pool that it names is not there.
    """
    if source.type == 'volume':
        return _logical.device_of(domain.host.connection, source)
    if source.type == 'block':
        return source.path
    return None


def image_of(source: Source, domain: Domain) -> str:
    """The device or the file that a layer is.

    Raises:
        DiskSnapError: if a pool or a volume that it names is not there.
    """
    return device_of(source, domain) or _chain.local_path(source, domain.host.pools) or ''


def named(found: t.Sequence[LogicalVolume], path: str) -> LogicalVolume | None:
    """The LV that a device path means, be it by a link and be the LV active or not; None if it is none."""
    number = _blockdev.number_of(path)
    if number is not None:
        return next((one for one in found if one.device == number), None)
    parts = _lvm.split_path(path)
    return _lvm.by_name(found, *parts) if parts else None


def holder(found: t.Sequence[LogicalVolume], path: str) -> LogicalVolume | None:
    """The uppermost LV that a device or a file lies on as a whole; None if it is on none.

    Raises:
        OSError: if there is no such path.
        DiskSnapError: if the machine does not say what is mounted.
    """
    number = _blockdev.holding(path)
    for below in _blockdev.below(number) if number else ():
        for one in found:
            if one.device == below:
                return one
    return None


def not_on_any(found: t.Sequence[LogicalVolume], disk: Disk, domain: Domain) -> str | None:
    """Why a disk is not on a logical volume, as a clause; None if it is."""
    path = image_of(disk.active, domain)
    if named(found, path) is not None:
        return None
    if not os.path.exists(path):
        return f'{path} is not there'
    if holder(found, path) is not None:
        return None
    if disk.active.type == 'block' or device_of(disk.active, domain):
        return f'{path} is no logical volume, nor on one'
    mount = _mounts.mount_of(path)
    return f'its image is a file on {mount.type} ({mount.source}), which is on no logical volume'


def origin_of(
    found: t.Sequence[LogicalVolume], disk: Disk, domain: Domain, device: str | None
) -> tuple[LogicalVolume, bool]:
    """The LV to snapshot, and whether it is the disk itself.

    Args:
        found: all LVs of the host.
        device: the option; without it the LV must be the disk itself.

    Raises:
        DiskSnapError: if there is no such LV, or the disk is not on it.
    """
    path = image_of(disk.active, domain)
    own = named(found, path)
    if device is None:
        if own is None:
            raise _unnamed(found, disk, domain, path)
        return own, True
    origin = named(found, device)
    if origin is None:
        there = os.path.lexists(device)
        raise _wrong(
            domain,
            disk,
            f'{device} is not a logical volume' if there else f'there is no logical volume {device}',
            'List them with lvs.',
        )
    if own is not None and own.key == origin.key:
        return origin, True
    _refuse_elsewhere(found, disk, domain, path, origin)
    return origin, False


def _unnamed(found: t.Sequence[LogicalVolume], disk: Disk, domain: Domain, path: str) -> DiskSnapError:
    below = holder(found, path) if os.path.exists(path) else None
    if below is None:
        return _wrong(domain, disk, f'{path} is no logical volume', None)
    kind = 'device' if _blockdev.number_of(path) else 'file'
    return _wrong(
        domain,
        disk,
        f'its image is a {kind} ({path}), and not itself a logical volume',
        f'Name with device the one that holds it: {below.path}. All that is on it is snapshotted with it.',
    )


def _refuse_elsewhere(
    found: t.Sequence[LogicalVolume], disk: Disk, domain: Domain, path: str, origin: LogicalVolume
) -> None:
    number = _blockdev.holding(path) if os.path.exists(path) else None
    if number is None or origin.device not in _blockdev.below(number):
        real = named(found, path) or (holder(found, path) if number else None)
        raise _wrong(
            domain,
            disk,
            f'its image {path} is not on {origin.path}' + (f', but on {real.path}' if real else ''),
            f'Name {real.path}.' if real else 'Leave device out, or name the logical volume that holds the image.',
        )
    if _blockdev.number_of(path) is None and _mounts.mount_of(path).type == 'btrfs':
        raise _wrong(
            domain,
            disk,
            f'the file system on {origin.path} is btrfs, and the kernel takes two that are equal for one',
            'Use the method btrfs.',
        )


# -- whether LVM can ---------------------------------------------------------------------------------------------


def refuse_origin(origin: LogicalVolume, found: t.Sequence[LogicalVolume], domain: Domain, disk: Disk) -> None:
    """Refuse an LV that LVM cannot snapshot, or not now.

    Raises:
        DiskSnapError: if it is one.
    """
    group = _lvm.group(origin.vg)
    hint = None
    why = group.refusal
    if why is None and origin.thin_pool:
        why = f'{origin.path} is a thin pool, not a volume'
    elif why is None and origin.classic_snapshot:
        why, hint = f'{origin.path} is itself a snapshot, and LVM takes none of a snapshot', 'Use the method qemu.'
    elif why is None and not origin.active:
        why, hint = f'{origin.path} is not active', f'Activate it with lvchange -ay {origin.key}.'
    elif why is None and origin.merging:
        why, hint = f'a snapshot is being merged into {origin.path}', 'Wait until lvs no longer shows it as merging.'
    elif why is None and origin.thin:
        why = _pool_fault(origin, found)
        hint = 'Make room in it, with lvextend or by removing snapshots.'
    if why is not None:
        raise _wrong(domain, disk, why, hint)


def _pool_fault(origin: LogicalVolume, found: t.Sequence[LogicalVolume]) -> str | None:
    pool = _lvm.by_name(found, origin.vg, origin.pool)
    if pool is None:
        return None
    for part, percent in (('data', pool.data_percent), ('metadata', pool.metadata_percent)):
        if percent is not None and percent >= _FULL:
            return f'the {part} of its thin pool {pool.key} are full ({percent:g} %)'
    return None


def thin_storage(lv: LogicalVolume, found: t.Sequence[LogicalVolume]) -> _space.Storage | None:
    """The thin pool that a thin LV takes its room from; None where LVM does not say how full it is."""
    pool = _lvm.by_name(found, lv.vg, lv.pool)
    if pool is None or pool.data_percent is None:
        return None
    free = round(pool.size * (1 - pool.data_percent / 100))
    return _space.Storage(f'thin {pool.key}', f'The thin pool {pool.key}', free, pool.size)


def cow_size(origin: LogicalVolume, wanted: str | None, domain: Domain, disk: Disk) -> int | None:
    """Bytes of copy-on-write space; None for a thin LV, whose snapshots have none.

    Raises:
        DiskSnapError: if a size is given for a thin LV.
    """
    if not origin.thin:
        return _lvm_rules.cow_size(wanted, origin.size, _lvm.group(origin.vg).extent)
    if wanted is not None:
        raise _wrong(
            domain,
            disk,
            f'{origin.path} is a thin volume: its snapshots take from the thin pool {origin.pool} what they need, '
            'and have no size of their own',
            'Leave size out.',
        )
    return None


def refuse_no_room(vg: str, needed: int, domain: Domain, target: str) -> None:
    """Refuse more copy-on-write space than a VG has.

    Raises:
        DiskSnapError: it says what is free and what is needed.
    """
    free = _lvm.group(vg).free
    if needed > free:
        raise DiskSnapError(
            WHAT_PLAN,
            domain=domain.name,
            disk=target,
            why=f'the volume group {vg} has {_lvm_rules.words(free)} free, and {_lvm_rules.words(needed)} of '
            'copy-on-write space are needed',
            hint='Make room, or name a smaller size.',
        )


def refuse_name(origin: LogicalVolume, name: str, size: int | None, domain: Domain, disk: Disk) -> None:
    """Refuse a name that LVM does not take, for the snapshot or for what its origin is called below a snapshot.

    Raises:
        DiskSnapError: if it is one.
    """
    for one in (name, *([origin.name] if size is not None else [])):
        fault = _lvm_rules.name_fault(origin.vg, one)
        if fault is not None:
            raise _wrong(
                domain, disk, f'no snapshot can be named {name}: {fault}', 'Take another, shorter snapshot_name.'
            )


def _wrong(domain: Domain, disk: Disk, why: str, hint: str | None) -> DiskSnapError:
    return DiskSnapError(WHAT_PLAN, domain=domain.name, disk=disk.target, why=why, hint=hint)
