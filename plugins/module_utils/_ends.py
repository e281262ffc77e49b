# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the task's words to the ends of a merge: by the name of a snapshot, or by base and top."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.disksnap.libvirt.plugins.module_utils import _chain, _journal
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_model import (
    COMMIT,
    NO_BASE,
    MergeOptions,
    MergeSpec,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_plan import Reading, read
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import DiskRecord
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import Request
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk, left_out_reason

WHAT = 'Failed to select what to merge'


@dataclass
class Wanted:
    """What the task asks for on one domain; no specs: there is nothing to do."""

    domain: Domain
    specs: list[MergeSpec] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def named_disks(domain: Domain, request: Request) -> list[Disk]:
    """The disks that the task names, or all that have layers of their own.

    Raises:
        DiskSnapError: if one is not there.
    """
    disks = domain.read().disks
    if request.disks is None:
        return [disk for disk in disks if left_out_reason(disk) is None]
    return [_chain.find(disks, entry['target'], domain) for entry in request.disks]


# -- by the name of a snapshot ----------------------------------------------------------------------------------


def by_snapshot(domain: Domain, request: Request, snapshot_name: str, options: MergeOptions) -> Wanted:
    """The layers that a recorded snapshot put on. A snapshot that is not recorded has been merged away already.

    Raises:
        DiskSnapError: if a disk is named that has no layer of it.
    """
    wanted = Wanted(domain)
    snapshot = _journal.load(domain.handle).snapshots.get(snapshot_name)
    if snapshot is None:
        return wanted
    records = {record.target: record for record in snapshot.disks}
    if request.disks is None:
        chosen = list(records.values())
    else:
        targets = [disk.target for disk in named_disks(domain, request)]
        chosen = [records[target] for target in targets if target in records]  # one that is not has been merged already
    for record in chosen:
        if record.method != 'qemu':
            _refuse_method(wanted, request, record, snapshot_name)
            continue
        base = record.backup_source.path if options.direction == COMMIT else None
        wanted.specs.append(MergeSpec(record.target, top=record.volumes[0].path, base=base))
    return wanted


def _refuse_method(wanted: Wanted, request: Request, record: DiskRecord, snapshot_name: str) -> None:
    why = f'its snapshot {snapshot_name} was taken by the method {record.method}, which puts no layer on the disk'
    if request.disks is not None:
        raise DiskSnapError(
            WHAT,
            domain=wanted.domain.name,
            disk=record.target,
            why=why,
            hint='Remove it with disk_snapshot, state: absent.',
        )
    wanted.warnings.append(f'The disk {record.target} of the domain {wanted.domain.name} is left alone: {why}.')


# -- by base and top --------------------------------------------------------------------------------------------


def by_ends(domain: Domain, request: Request, base: str | None, top: str | None, options: MergeOptions) -> Wanted:
    """The ends as the task gives them. Ends that were merged already are nothing to do.

    Raises:
        DiskSnapError: if they do not point at one disk, or base is in no chain.
    """
    wanted = Wanted(domain)
    disks = named_disks(domain, request)
    if request.disks is not None and len(disks) != 1:
        raise DiskSnapError(
            WHAT, domain=domain.name, why='base and top are about one disk, and disks names more', hint='Name one.'
        )
    indexed = (top or base or '').partition('[')
    if indexed[1] and any(disk.target == indexed[0] for disk in disks):
        disks = [disk for disk in disks if disk.target == indexed[0]]
    readings = read(domain, [MergeSpec(disk.target, top or NO_BASE) for disk in disks], options)
    found = [reading for reading in readings if _about(reading, base, top)]
    if not found:
        _explain_absence(wanted, readings, base, top)
        return wanted
    if len(found) > 1:
        raise DiskSnapError(
            WHAT,
            domain=domain.name,
            why=f'{top or base} is a layer of more than one disk ({", ".join(one.spec.target for one in found)})',
            hint='Name the disk with disks.',
        )
    spec = _spec(found[0], base, top)
    if spec is not None:
        wanted.specs.append(spec)
    return wanted


def _about(reading: Reading, base: str | None, top: str | None) -> bool:
    """Whether the ends point at this disk: one of them is in its chain, or was merged from it by a killed run."""
    if any(end is not None and reading.find(end) is not None for end in (top, base)):
        return True
    record = reading.record
    return record is not None and top is not None and _canonical(reading, top) == _canonical(reading, record.top)


def _canonical(reading: Reading, path: str) -> str:
    return reading.domain.host.pools.canonical(path)


def _spec(reading: Reading, base: str | None, top: str | None) -> MergeSpec | None:
    """The ends on this disk; None if they were merged already."""
    commit = reading.direction == COMMIT
    place = reading.find(top) if top is not None else 0
    below = reading.find(base) if base is not None else None
    if base is not None and below is None:
        raise DiskSnapError(
            WHAT,
            domain=reading.domain.name,
            disk=reading.spec.target,
            why=f'the base {base} is not a layer of this disk',
            hint=f'Its layers are {", ".join(reading.keys)}.',
        )
    target = reading.spec.target
    active = reading.keys[0]
    lower = base if base is not None else None if commit else NO_BASE
    spec = MergeSpec(target, top if top is not None else active, lower)
    record = reading.record
    if record is not None and (top is None or _canonical(reading, record.top) == _canonical(reading, top)):
        # a run that was killed: the plan knows how far it came. Without top, it was the active layer of that time.
        return spec if top is not None else MergeSpec(target, record.top, lower)
    if place is None or (top is None and below == 0):
        return None  # top has gone into base
    if not commit and (place + 1 >= len(reading.chain) or (below is not None and below == place + 1)):
        return None  # nothing is left between them
    return spec


def _explain_absence(wanted: Wanted, readings: t.Sequence[Reading], base: str | None, top: str | None) -> None:
    """No disk has such a layer: merged by an earlier run, or misspelt."""
    if top is None or base is not None:
        raise DiskSnapError(
            WHAT,
            domain=wanted.domain.name,
            why=f'{" and ".join(end for end in (base, top) if end)} is in no backing chain of its disks',
            hint='; '.join(f'{one.spec.target}: {" <- ".join(reversed(one.keys))}' for one in readings) + '.',
        )
    wanted.warnings.append(
        f'No disk of the domain {wanted.domain.name} has the layer {top}: it was merged before, or never was one.'
    )
