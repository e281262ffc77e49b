# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take a logical volume back to a snapshot of it, which is there again afterwards.

A classic snapshot is merged into its origin, which uses it up, and taken anew. A thin one is not: LVM's own merge
would make it the volume, and every other snapshot of the old volume could never be merged any more ("not a mergeable
logical volume", lvconvert 2.03.16). So a new volume is made of the snapshot and takes the name of the old one.

All of it can die at any point: what LVM shows says how far it was.
"""

from __future__ import annotations

import contextlib
import time
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import (
    _chain,
    _logical,
    _lvm,
    _lvm_place,
    _lvm_rules,
    _lvm_snapshots,
    _overlay,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._lvm import LogicalVolume
from ansible_collections.disksnap.libvirt.plugins.module_utils._lvm_snapshots import Place
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import DiskRecord
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import from_xml

# how the names of the two volumes end that are there while a thin one goes back; the same tags say that they are ours
NEW, OLD = 'disksnap-new', 'disksnap-old'
# seconds between two looks at a merge
_STEP = 1.0


# -- before -----------------------------------------------------------------------------------------------------


def refuse(domain: Domain, record: DiskRecord) -> None:
    """Look whether the LV can go back. Changes nothing.

    Raises:
        DiskSnapError: if the snapshot is of no use or in use, newer layers are on the disk, or more than the disk
            would go back.
    """
    _lvm.forget()
    fault = _lvm_snapshots.fault(domain, record)
    if fault is not None:
        raise _wrong(domain, record, fault)
    place = _lvm_snapshots.place_of(record)
    if place.foreign:
        raise _whole_file_system(domain, record, place)
    found = _lvm.volumes()
    origin, snapshot = _lvm.by_name(found, place.vg, place.origin), _lvm.by_name(found, place.vg, place.name)
    if origin is None or snapshot is None:
        raise _wrong(domain, record, f'there is no logical volume {place.vg}/{place.origin} any more')
    _refuse_layers(domain, record, origin)
    if origin.merging:
        raise _wrong(domain, record, f'another snapshot is being merged into {origin.path}')
    if _lvm_snapshots.closed(snapshot).open:
        hint = f'End what reads it, as a backup. fuser -v {snapshot.path} names it.'
        raise _wrong(domain, record, f'something has the snapshot {snapshot.path} open', hint)
    if origin.thin:
        _refuse_thin(domain, record, origin, found)


def _whole_file_system(domain: Domain, record: DiskRecord, place: Place) -> DiskSnapError:
    origin, snapshot = f'/dev/{place.vg}/{place.origin}', f'/dev/{place.vg}/{place.name}'
    return _wrong(
        domain,
        record,
        f'{origin} holds more than this disk, and all of it would go back, with images of other domains',
        f'Mount {snapshot} read-only and copy the image back with the domain shut off. Or, if nothing else is on it: '
        f'shut off all that uses it, unmount it, and run lvconvert --merge {place.vg}/{place.name}.',
    )


def _refuse_layers(domain: Domain, record: DiskRecord, origin: LogicalVolume) -> None:
    """The disk must be the LV itself now, with nothing on top."""
    disk = domain.read().disk(record.target)
    if disk is None:
        raise _wrong(domain, record, 'the domain has no such disk now')
    found = _lvm.volumes()
    with contextlib.suppress(DiskSnapError):  # a layer that no pool knows: what can be seen must do
        disk = _chain.whole(disk, domain.host.pools, domain.name)
    for count, layer in enumerate(disk.chain):
        device = _lvm_place.device_of(layer, domain)
        lv = _lvm_place.named(found, device) if device else None
        if lv is not None and lv.key == origin.key:
            if count:
                raise _overlay.newer_layers(domain, disk, count)
            return
    now = disk.source.key if disk.source else 'nothing'
    raise _wrong(domain, record, f'the disk now uses {now}, not {origin.path}')


def _refuse_thin(domain: Domain, record: DiskRecord, origin: LogicalVolume, found: t.Sequence[LogicalVolume]) -> None:
    classic = [one.path for one in found if one.classic_snapshot and one.origin == origin.name]
    if classic:
        hint = f'Remove {", ".join(classic)} first. Nothing was changed.'
        raise _wrong(domain, record, f'{origin.path} has classic snapshots, which would go with it', hint)
    for suffix in (NEW, OLD):
        name = f'{origin.name}.{suffix}'
        fault = _lvm_rules.name_fault(origin.vg, name)
        other = _lvm.by_name(found, origin.vg, name)
        if fault or (other is not None and suffix not in other.tags):
            why = fault or f'there is a logical volume {name} already, whose name is needed for a moment'
            raise _wrong(domain, record, why)


def _wrong(domain: Domain, record: DiskRecord, why: str, hint: str = 'Nothing was changed.') -> DiskSnapError:
    return DiskSnapError(_overlay.WHAT_REVERT, domain=domain.name, disk=record.target, why=why, hint=hint)


# -- going back -------------------------------------------------------------------------------------------------


def revert(domain: Domain, record: DiskRecord, *, deadline: float) -> None:
    """Take the LV back, of a domain that is shut off.

    Args:
        deadline: ``time.monotonic()`` until which a merge may take. It goes on after that.

    Raises:
        DiskSnapError: if it is not back; the same call can be made again.
    """
    place = _lvm_snapshots.place_of(record)
    if place.foreign:
        raise _whole_file_system(domain, record, place)
    _lvm.forget()
    with _lvm_snapshots.of_disk(domain, record.target):
        found = _lvm.volumes()
        thin = any(
            one.thin and one.name in (place.origin, place.name, f'{place.origin}.{OLD}')
            for one in found
            if one.vg == place.vg
        )
        if thin:
            _replace(domain, record, place)
        else:
            _merge(domain, record, place, deadline)
            _take_anew(domain, record, place)
    _logical.refresh(domain.host.connection, place.vg)


def _look(place: Place, name: str) -> LogicalVolume | None:
    return _lvm.by_name(_lvm.volumes(), place.vg, name)


def _origin(domain: Domain, record: DiskRecord, place: Place) -> LogicalVolume:
    origin = _look(place, place.origin)
    if origin is None:
        raise _wrong(domain, record, f'there is no logical volume {place.vg}/{place.origin} any more', '')
    return origin


# -- classic ----------------------------------------------------------------------------------------------------


def _merge(domain: Domain, record: DiskRecord, place: Place, deadline: float) -> None:
    """Merge the snapshot into its origin; where it is gone already, that has been done."""
    begun = False
    while True:
        origin, snapshot = _origin(domain, record, place), _look(place, place.name)
        if snapshot is None and not origin.merging:
            break
        if snapshot is not None and not snapshot.merging:
            begun = _begin(domain, record, place, snapshot)
        if not begun:
            _go_on(origin)
            begun = True
        if time.monotonic() > deadline:
            left = f', {snapshot.data_percent:g} % are left' if snapshot and snapshot.data_percent is not None else ''
            why = f'{place.vg}/{place.name} is still being merged into {place.vg}/{place.origin}{left}'
            raise _wrong(domain, record, why, 'LVM goes on with it.')
        time.sleep(_STEP)
        _lvm.forget()
    if not origin.active:
        _lvm.activate(origin)


def _begin(domain: Domain, record: DiskRecord, place: Place, snapshot: LogicalVolume) -> bool:
    """Begin the merge; whether it really has begun."""
    if not _lvm_snapshots.ours(snapshot, place):
        raise _wrong(domain, record, f'{snapshot.path} is another logical volume now', '')
    fault = _lvm_snapshots.fault(domain, record)
    if fault is not None:
        raise _wrong(domain, record, fault, '')
    return _lvm.merge(_lvm_snapshots.closed(snapshot))


def _go_on(origin: LogicalVolume) -> None:
    """A merge that waits for its origin, or was left alone by the process that watched it, begins when activated."""
    if _lvm_snapshots.closed(origin).open:
        _lvm.poll(origin)
        return
    _lvm.deactivate(origin)
    _lvm.activate(origin)


def _take_anew(domain: Domain, record: DiskRecord, place: Place) -> None:
    origin = _origin(domain, record, place)
    size = _lvm_rules.cow_size(from_xml(record.method_xml).size, origin.size, _lvm.group(place.vg).extent)
    _lvm.create_snapshot(origin, place.name, size)


# -- thin -------------------------------------------------------------------------------------------------------


def _replace(domain: Domain, record: DiskRecord, place: Place) -> None:
    """Put a new volume, made of the snapshot, in the place of the old one. The snapshot itself is only read."""
    new, old = f'{place.origin}.{NEW}', f'{place.origin}.{OLD}'
    if _look(place, old) is None:
        _set_aside(domain, record, place, new, old)
    fresh = _look(place, new)
    if _look(place, place.origin) is None and fresh is not None:
        _lvm.rename(fresh, place.origin)
    origin, aside = _origin(domain, record, place), _look(place, old)
    if aside is not None:
        if OLD not in aside.tags:
            raise _wrong(domain, record, f'{aside.path} is not ours, and is in the way', '')
        _lvm.remove(aside)
    if NEW in origin.tags:
        _lvm.change_tag(origin, NEW, add=False)
    _lvm.activate(origin)


def _set_aside(domain: Domain, record: DiskRecord, place: Place, new: str, old: str) -> None:
    """Make the new volume, and give the old one another name. Nothing but the name is missing for a moment."""
    origin, snapshot, left = _origin(domain, record, place), _look(place, place.name), _look(place, new)
    if snapshot is None or not _lvm_snapshots.ours(snapshot, place):
        raise _wrong(domain, record, f'the snapshot LV {record.volumes[0].path} is not there any more', '')
    if left is not None:
        if NEW not in left.tags:
            raise _wrong(domain, record, f'{left.path} is not ours, and is in the way', '')
        _lvm.remove(left)
    if origin.active:
        _lvm_snapshots.closed(origin)
        _lvm.deactivate(origin)
    tags = [tag for tag in origin.tags if tag not in (NEW, OLD)]
    _lvm.create_writable(snapshot, new, [*tags, NEW])
    if OLD not in origin.tags:
        _lvm.change_tag(origin, OLD, add=True)
    _lvm.rename(origin, old)
