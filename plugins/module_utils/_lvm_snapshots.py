# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The snapshot LVs that the journal speaks of: which they are, whether they are of use, and how they go."""

from __future__ import annotations

import contextlib
import os
import time
import typing as t
from dataclasses import dataclass

from ansible_collections.disksnap.libvirt.plugins.module_utils import _logical, _lvm, _lvm_rules
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._lvm import LogicalVolume
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    DiskRecord,
    original_disk,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import from_xml

# udev looks at each new device; seconds that it may have one open
_SETTLE = 10.0
_STEP = 0.2
NOT_LOCAL = "the module must run on the hypervisor itself, where LVM's programs are"


@dataclass(frozen=True)
class Place:
    """Names that a record holds: of the VG, of the snapshot LV, of the LV that it is of.

    ``foreign``: that LV is not the disk itself, but holds it with whatever else is on it.
    """

    vg: str
    name: str
    origin: str
    foreign: bool


@contextlib.contextmanager
def of_disk(domain: Domain, target: str) -> t.Iterator[None]:
    """Have errors say which disk they are about: LVM's programs know of none."""
    try:
        yield
    except DiskSnapError as error:
        error.domain, error.disk = error.domain or domain.name, error.disk or target
        raise


def place_of(record: DiskRecord) -> Place:
    """The names in a record, without a look at the storage.

    Raises:
        DiskSnapError: if the record does not have them.
    """
    snapshot = _lvm.split_path(record.volumes[0].path) if record.volumes else None
    device = from_xml(record.method_xml).device
    source = original_disk(record).active
    own = source.volume if source.type == 'volume' else (_lvm.split_path(source.path or '') or ('', None))[1]
    given = (_lvm.split_path(device) or ('', None))[1] if device else None
    origin = given or own
    if snapshot is None or origin is None:
        what = 'Failed to read the journal'
        raise DiskSnapError(what, disk=record.target, why='it does not say of which logical volume the snapshot is')
    return Place(snapshot[0], snapshot[1], origin, foreign=not snapshot[1].startswith(f'{origin}.'))


def ours(found: LogicalVolume, place: Place) -> bool:
    """Whether an LV of the recorded name is the snapshot that the record speaks of."""
    if found.origin:
        return found.origin == place.origin or _lvm.origin_tag(place.origin) in found.tags
    return _lvm.origin_tag(place.origin) in found.tags


def find(domain: Domain, record: DiskRecord) -> LogicalVolume | None:
    """The snapshot LV of a record; None if it is gone, or was never made. LVM's last answer is good enough.

    Raises:
        DiskSnapError: if this is not the hypervisor, or LVM fails.
    """
    if not domain.host.local:
        raise DiskSnapError(
            'Failed to look at the logical volumes', domain=domain.name, disk=record.target, why=NOT_LOCAL
        )
    if not record.volumes:
        return None
    with of_disk(domain, record.target):
        place = place_of(record)
        found = _lvm.by_name(_lvm.volumes(), place.vg, place.name)
    return found if found is not None and ours(found, place) else None


def fault(domain: Domain, record: DiskRecord) -> str | None:
    """Why the snapshot is of no use, as a clause; None if it is of use.

    Raises:
        DiskSnapError: if that cannot be told.
    """
    found = find(domain, record)
    if found is None:
        path = record.volumes[0].path if record.volumes else 'of it'
        return f'the snapshot LV {path} is not there any more'
    if found.invalid:
        return (
            f'the snapshot LV {found.path} has overflowed its {_lvm_rules.words(found.size)} ({found.size} bytes) of '
            'copy-on-write space and is invalid'
        )
    if found.merge_failed:
        return f'the merge of the snapshot LV {found.path} into its origin has failed'
    if found.merging:
        return f'the snapshot LV {found.path} is being merged into its origin'
    lost = [one for one in record.backing if one.startswith('/') and not os.path.exists(one)]
    return f'the image below it, {lost[0]}, is not there any more' if lost else None


# -- deleting ---------------------------------------------------------------------------------------------------


def delete(domain: Domain, record: DiskRecord) -> None:
    """Delete the snapshot LV of a record through its pool; one that is not ours, or gone, is left.

    Raises:
        DiskSnapError: if it is in use, or the storage refuses.
    """
    _lvm.forget()
    found = find(domain, record)
    if found is None:
        return
    what = f'Failed to delete the snapshot LV {found.path}'
    wrong: dict[str, t.Any] = {'domain': domain.name, 'disk': record.target}
    if found.merging:
        hint = 'Run disk_snapshot with state: reverted to end that first.'
        raise DiskSnapError(what, **wrong, why='it is being merged into its origin', hint=hint)
    found = closed(found)
    if found.open:
        hint = f'End what reads it, as a backup, and run the task again. fuser -v {found.path} names it.'
        raise DiskSnapError(what, **wrong, why='something has it open', hint=hint)
    connection = domain.host.connection
    pool = _logical.pool_of(connection, found.vg)
    with explained(what, **wrong), of_disk(domain, record.target):
        # a pool does not know what it cannot read, as an LV that has overflowed
        if found.invalid or pool is None or not _logical.delete(pool[0], found.name):
            _lvm.remove(found)
    _lvm.forget()
    _logical.refresh(connection, found.vg)


def closed(found: LogicalVolume) -> LogicalVolume:
    """The LV once nobody has it open, or as it is when that takes longer than udev does."""
    end = time.monotonic() + _SETTLE
    while found.open and time.monotonic() < end:
        time.sleep(_STEP)
        _lvm.forget()
        found = _lvm.by_name(_lvm.volumes(), found.vg, found.name) or found
    return found
