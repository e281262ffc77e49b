# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the task's words to plans: which disks of a domain, and each by which method."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.disksnap.libvirt.plugins.module_utils import _chain
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.base import DiskMethod, DiskPlan, Subject
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.registry import choose
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import SnapshotRecord
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import Request
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import (
    Disk,
    left_out_reason,
    refusal_reason,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import Method, from_options


@dataclass
class Selection:
    """The disks of one domain that a task is about, with the method that it asks for on each.

    ``warnings`` says of which others one might have expected it.
    """

    disks: list[tuple[Disk, Method]]
    warnings: list[str] = field(default_factory=list)

    @property
    def targets(self) -> set[str]:
        """Target names of the disks."""
        return {disk.target for disk, _method in self.disks}


def select(domain: Domain, request: Request, default_method: str) -> Selection:
    """The disks that the task names, or all that can be snapshotted.

    Raises:
        DiskSnapError: if a disk is not there, or was named and cannot be snapshotted, or none is left.
    """
    disks = domain.read().disks
    chosen: list[tuple[Disk, Method]] = []
    warnings: list[str] = []
    if request.disks is None:
        for disk in disks:
            if left_out_reason(disk) is not None:
                continue
            refusal = refusal_reason(disk)
            if refusal is not None:
                warnings.append(f'The disk {disk.target} of the domain {domain.name} is left out: {refusal}.')
                continue
            if disk.snapshot == 'no':
                continue
            chosen.append((disk, Method(default_method)))
    else:
        for entry in request.disks:
            disk = _chain.find(disks, entry['target'], domain)
            _refuse(disk, domain)
            chosen.append((disk, from_options(entry, default_method)))
        _refuse_twice([disk for disk, _method in chosen], domain)
    if not chosen:
        raise DiskSnapError(
            'Failed to select disks',
            domain=domain.name,
            why='none of its disks can be snapshotted',
            hint='CD-ROMs, floppies, read-only and empty drives do not count.',
        )
    return Selection(chosen, warnings)


def _refuse(disk: Disk, domain: Domain) -> None:
    reason = left_out_reason(disk) or refusal_reason(disk)
    if reason is not None:
        raise DiskSnapError(
            'Failed to select a disk', domain=domain.name, disk=disk.target, why=reason, hint='Leave it out of disks.'
        )


def _refuse_twice(disks: t.Sequence[Disk], domain: Domain) -> None:
    for disk in disks:
        if [other.target for other in disks].count(disk.target) > 1:
            raise DiskSnapError(
                'Failed to select disks', domain=domain.name, disk=disk.target, why='disks names it more than once'
            )


def refuse_other_disks(domain: Domain, request: Request, record: SnapshotRecord, what: str) -> None:
    """Refuse a task that names other disks than those of the snapshot that it is about.

    Args:
        what: fails, for the error.

    Raises:
        DiskSnapError: if it does.
    """
    if request.disks is None:
        return
    disks = domain.read().disks
    named = {_chain.find(disks, entry['target'], domain).target for entry in request.disks}
    recorded = {disk.target for disk in record.disks}
    if named != recorded:
        raise DiskSnapError(
            what,
            domain=domain.name,
            why=f'it is over other disks ({", ".join(sorted(recorded))}, not {", ".join(sorted(named))})',
            hint='Leave disks out, or name the same ones.',
        )


def plan(subject: Subject, selection: Selection) -> list[tuple[DiskMethod, DiskPlan]]:
    """Choose a method for each disk and let it plan.

    Raises:
        DiskSnapError: whatever would go wrong with one of them.
    """
    planned = []
    for disk, wanted in selection.disks:
        try:
            method, resolved, reason = choose(wanted, disk, subject.domain)
            planned.append((method, method.plan(subject, disk, resolved, reason)))
        except DiskSnapError as error:  # pools and paths know nothing of the disk that they are asked for
            error.domain, error.disk = error.domain or subject.domain.name, error.disk or disk.target
            raise
    return planned


def refuse_collisions(plans: t.Iterable[tuple[str, DiskMethod, DiskPlan]]) -> None:
    """Refuse two disks, of one domain or of two, whose new volumes would be one file.

    Disks of one domain may share one where their method says so.

    Args:
        plans: a domain's name, a method and what it plans.
    """
    seen: dict[str, str] = {}
    sharers: dict[str, tuple[str, str, str | None]] = {}
    for domain, method, one in plans:
        for volume in one.record.volumes:
            if volume.path in seen:
                if method.shares and sharers.get(volume.path) == (domain, method.name, one.shared):
                    continue
                raise DiskSnapError(
                    'Failed to plan the snapshot',
                    domain=domain,
                    disk=one.disk.target,
                    why=f'its new volume {volume.path} is also that of {seen[volume.path]}',
                    hint='Name another file for one of them.',
                )
            seen[volume.path] = f'disk {one.disk.target} of domain {domain}'
            sharers[volume.path] = (domain, method.name, one.shared)
