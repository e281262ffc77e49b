# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands against a merge: each check raises, or returns warnings, before anything is changed."""

from __future__ import annotations

import contextlib
import os
import posixpath
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _chain, _foreign, _space
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_model import COMMIT, PULL, DiskMerge, MergeOptions
from ansible_collections.disksnap.libvirt.plugins.module_utils._paths import is_device
from ansible_collections.disksnap.libvirt.plugins.module_utils._pool import Pools
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk

if t.TYPE_CHECKING:
    from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_plan import Reading

# a qcow2's own tables, at most, for every byte of data: 8 bytes a cluster of 64 KiB, and the refcounts
_TABLES = 1 / 1000


def check(reading: Reading, merge: DiskMerge, users: _chain.Users, options: MergeOptions) -> list[str]:
    """All checks of a merge that is to begin.

    Returns:
        Warnings.

    Raises:
        DiskSnapError: what stands against it.
    """
    if reading.disk.readonly:
        raise reading.error('the disk is read-only')
    warnings = [] if reading.live else _check_offline(reading, merge, options)
    warnings += _refuse_foreign_snapshots(reading, merge, options)
    if merge.direction == COMMIT:
        _refuse_shared(reading, merge, users)
        warnings += _refuse_unknown(reading, merge, users, options)
        _refuse_small_device(reading, merge)
    warnings += _check_space(reading, merge, options)
    if merge.devices:
        devices = ', '.join(merge.devices)
        warnings.append(f'{_place(reading)}: {devices} will no longer be used and is not deleted, as it is no file.')
    return warnings


def _place(reading: Reading) -> str:
    return f'Domain {reading.domain.name}, disk {reading.spec.target}'


# -- shut off -------------------------------------------------------------------------------------------------


def _check_offline(reading: Reading, merge: DiskMerge, options: MergeOptions) -> list[str]:
    domain = reading.domain
    if not domain.host.local:
        raise reading.error(
            'a shut-off domain is merged with qemu-img, which must run on the hypervisor itself',
            'Run the module on the hypervisor with a local uri, or start the domain.',
        )
    with explained('Failed to plan the merge', domain=domain.name):
        saved = domain.handle.hasManagedSaveImage(0)
    if saved:
        raise reading.error(
            'the domain is saved (managed save) and would come back on the layers of the time when it was saved',
            'Start it and merge it while it runs, or discard the saved state with virsh managedsave-remove.',
        )
    for layer in reading.chain:
        if layer.path is not None and not layer.path.startswith('/'):
            raise reading.error(f'{layer.key} is no absolute path', 'Correct the definition of the domain.')
    layers = [reading.disk.chain[0], merge.top, *([merge.base] if merge.base else [])]
    for layer in layers:
        if layer.encrypted:
            raise reading.error(f'{layer.key} is encrypted', 'Start the domain and merge it while it runs.')
        if layer.path is None and layer.type != 'volume':
            raise reading.error(
                f'{layer.key} is not a file or device of this host', 'Start the domain and merge it while it runs.'
            )
    warnings = []
    if not options.wait:
        warnings.append(f'{_place(reading)}: wait: false has no effect on a shut-off domain, which no job outlives.')
    if options.bandwidth and merge.direction == PULL:
        warnings.append(f'{_place(reading)}: bandwidth has no effect on a pull of a shut-off domain.')
    return warnings


# -- who else stands on it --------------------------------------------------------------------------------------


def _refuse_shared(reading: Reading, merge: DiskMerge, users: _chain.Users) -> None:
    """A commit writes to the base and makes all above it worthless to anyone who is not on top of this chain."""
    pools = reading.domain.host.pools
    ours = {pools.canonical(key) for key in [*reading.keys, *(reading.record.files if reading.record else [])]}
    for key in [*merge.layers, merge.receiver.key]:
        others = users.domains_on(key) - {reading.domain.name}
        if others:
            raise _shared(reading, key, f'the domain {", ".join(sorted(others))} stands on it too')
        images = sorted(path for path in users.images_on(key) if path and pools.canonical(path) not in ours)
        if images:
            raise _shared(reading, key, f'it is the backing file of {", ".join(images)} too')
        disks = [disk.target for disk in _other_disks(reading) if _stands_on(reading, disk, key)]
        if disks:
            raise _shared(reading, key, f'the disk {", ".join(disks)} of the same domain stands on it too')


def _refuse_unknown(reading: Reading, merge: DiskMerge, users: _chain.Users, options: MergeOptions) -> list[str]:
    """A domain whose images cannot all be read may stand on the base.

    Not on that of a snapshot of ours, as far as one can tell: the guest wrote to it until the snapshot was taken.
    """
    unknown = {name: why for name, why in users.unknown.items() if name != reading.domain.name}
    if not unknown:
        return []
    each = '; '.join(f'{name} ({why})' for name, why in sorted(unknown.items()))
    why = f'a commit might spoil {merge.receiver.key} for domains whose images cannot all be read: {each}'
    if options.own:
        return [f'{_place(reading)}: {why}. It is the base of a snapshot of this collection, so it is done.']
    raise reading.error(
        why, 'Put the missing images back, correct these domains or undefine them. Nothing was changed.'
    )


def _shared(reading: Reading, key: str, why: str) -> DiskSnapError:
    return reading.error(
        f'a commit would spoil {key} for others: {why}',
        'Use direction: pull, or remove what else uses it. Nothing was changed.',
    )


def _other_disks(reading: Reading) -> list[Disk]:
    found = [*reading.now.disks, *(reading.lasting.disks if reading.lasting else ())]
    return [disk for disk in found if disk.target != reading.spec.target and disk.source is not None]


def _stands_on(reading: Reading, disk: Disk, key: str) -> bool:
    pools = reading.domain.host.pools
    layers = disk.chain
    with contextlib.suppress(DiskSnapError):  # a broken disk: what its XML says is all there is to know
        layers = _chain.whole(disk, pools, reading.domain.name).chain
    return pools.canonical(key) in {pools.canonical(layer.path or layer.key) for layer in layers}


# -- snapshots of others ---------------------------------------------------------------------------------------


def _refuse_foreign_snapshots(reading: Reading, merge: DiskMerge, options: MergeOptions) -> list[str]:
    """An internal snapshot goes with its image; an external one is of no use without the image that it names.

    Whoever names the ends of a merge may mean the overlays of libvirt's own snapshots, and is told what is stale then.
    """
    domain = reading.domain
    canonical = domain.host.pools.canonical
    gone = {canonical(key) for key in [*merge.layers, *merge.names]}
    warnings = []
    for snapshot in _foreign.snapshots_of(domain.handle):
        lost = sorted(key for key in snapshot.sources if canonical(key) in gone)
        if not lost:
            continue
        why = f"libvirt's own snapshot {snapshot.name} goes back to {', '.join(lost)}, which the merge removes"
        if options.own or any(kind == _foreign.INTERNAL for _target, kind, _overlay in snapshot.disks):
            raise reading.error(
                why,
                f'Remove it first: virsh snapshot-delete {domain.name} {snapshot.name} (with --metadata, only '
                "libvirt's record of it goes). Nothing was changed.",
            )
        warnings.append(
            f'{_place(reading)}: {why}. Clear its record with virsh snapshot-delete --metadata {domain.name} '
            f'{snapshot.name}.'
        )
    for layer in merge.files:
        names = _foreign.within(layer, local=domain.host.local)
        if names:
            raise reading.error(
                f'{layer} holds the internal snapshot {", ".join(names)}, which would be lost with it',
                'If nobody needs it, delete it with qemu-img snapshot -d, while the domain is shut off. Nothing was '
                'changed.',
            )
    return warnings


# -- room -----------------------------------------------------------------------------------------------------


def _refuse_small_device(reading: Reading, merge: DiskMerge) -> None:
    """QEMU grows a base image that is smaller than the overlay, but not a block device."""
    path = merge.receiver.path
    if path is None or not is_device(path) or merge.receiver.format not in (None, 'raw'):
        return
    base, top = _device_size(reading, path), _capacity(reading, merge)
    if base is not None and top is not None and base < top:
        raise reading.error(
            f'the base {path} has {base} bytes, the overlay {top}, and QEMU cannot grow a device', f'Grow {path} first.'
        )


def _device_size(reading: Reading, path: str) -> int | None:
    if reading.domain.host.local:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            return None
        try:
            return os.lseek(descriptor, 0, os.SEEK_END)
        finally:
            os.close(descriptor)
    info = reading.domain.host.pools.volume(path)
    return info.capacity if info else None


def _capacity(reading: Reading, merge: DiskMerge) -> int | None:
    if reading.live and merge.active:
        with explained('Failed to read the size of the disk', domain=reading.domain.name, disk=merge.target):
            return t.cast(int, reading.domain.handle.blockInfo(merge.target)[0])
    info = reading.domain.host.pools.volume(merge.top.path) if merge.top.path else None
    return info.capacity if info else None


def _check_space(reading: Reading, merge: DiskMerge, options: MergeOptions) -> list[str]:
    """The file that receives grows by at most what the others hold, at least by what one of them holds more."""
    pools = reading.domain.host.pools
    heir = merge.base if merge.direction == COMMIT else merge.top
    if heir is None or heir.path is None:
        return []
    if is_device(heir.path):
        needs = _on_thin(reading, heir.path, merge.bytes)
        return options.budget.add(needs, 'Failed to plan the merge', domain=reading.domain.name)
    info = pools.volume(heir.path)
    if info is None:
        return []
    sizes = [found_info.allocation for found_info in map(pools.volume, merge.files) if found_info is not None]
    least = int(max(sizes, default=0) * (1 - _TABLES)) - info.allocation  # all that one of them holds must find room
    most = merge.bytes
    if heir.format == 'raw':
        most = min(most, max(0, info.capacity - info.allocation))
    free = _free(pools, heir.path, reading)
    if least > free:
        raise reading.error(
            f'{heir.path} must grow by {least} bytes at least, and its file system has {free} left', 'Make room there.'
        )
    domain = reading.domain
    needs = _space.beside(domain, heir.path, most, pools.pool_name_of(heir.path))
    together = options.budget.add(needs, 'Failed to plan the merge', domain=domain.name)
    if most > free:
        return [
            f'{_place(reading)}: {heir.path} may grow by up to {most} bytes, and its file system has {free} left. '
            'If that does not do, the merge fails and the chain stays as it is.'
        ]
    return together


def _on_thin(reading: Reading, path: str, needed: int) -> list[_space.Need]:
    """What a thin LV takes of its pool as it is written to; any other device has all of its room."""
    from ansible_collections.disksnap.libvirt.plugins.module_utils import _lvm, _lvm_place

    if not reading.domain.host.local:
        return []
    try:
        found = _lvm.volumes()
    except DiskSnapError:  # LVM is not there, or not for this user
        return []
    lv = _lvm_place.named(found, path)
    storage = _lvm_place.thin_storage(lv, found) if lv is not None and lv.thin else None
    return [_space.Need(storage, min(needed, lv.size))] if lv is not None and storage is not None else []


def _free(pools: Pools, path: str, reading: Reading) -> int:
    try:
        return pools.available(posixpath.dirname(path))
    except DiskSnapError as error:
        error.domain = error.domain or reading.domain.name
        raise
