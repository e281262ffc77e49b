# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``disk_snapshot``, state absent: the point in time goes, the guest's data of now stays."""

from __future__ import annotations

import contextlib
import functools
import time
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.disksnap.libvirt.plugins.module_utils import _chain, _journal, _merge, _records, _result
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._faults import useless
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain, Host, look_up
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge import DomainMerge, MergeResult, MergeSpec
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.by_play import ROLE
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.registry import method_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    DiskRecord,
    Journal,
    SnapshotRecord,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._selection import refuse_other_disks
from ansible_collections.disksnap.libvirt.plugins.module_utils._settle import foretold, settle, unsettled, work_on
from ansible_collections.disksnap.libvirt.plugins.module_utils._space import Budget, Floor
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import Request, refuse_time


@dataclass
class Removal:
    """The snapshot on one domain.

    ``merging`` are the disks whose layers are merged, ``copied`` those whose copies are deleted, ``asking`` those whose
    copies only tasks of a play can delete (check mode only), ``lost`` those of which the storage has neither;
    ``faults`` says of which copies nobody could have made use any more, and why.
    """

    domain: Domain
    record: SnapshotRecord | None = None
    merging: list[DiskRecord] = field(default_factory=list)
    copied: list[DiskRecord] = field(default_factory=list)
    asking: list[DiskRecord] = field(default_factory=list)
    lost: list[DiskRecord] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return self.record is not None

    def specs(self) -> list[MergeSpec]:
        """What to merge: the layer that the snapshot put on, into the one below it."""
        return [MergeSpec(record.target, record.volumes[0].path) for record in self.merging]


def remove(
    host: Host, requests: t.Sequence[Request], snapshot_name: str, *, timeout: float, check: bool, min_free: str = '0'
) -> dict[str, t.Any]:
    """Remove the snapshot from all domains side by side; what the module returns.

    Args:
        timeout: seconds for all of it.
        check: only predict.
        min_free: what must be left of the storage that a merge writes to.

    Raises:
        DiskSnapError: if a disk could not be merged in time; the others are merged all the same, and the next run of
            the task goes on with it.
    """
    domains = look_up(host, (request.name for request in requests))
    refuse_time('timeout', timeout)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        if not check:
            stack.enter_context(work_on(domains, wait=timeout))
        journals = [(domain, _journal.load(domain.handle)) for domain in domains]
        halves = unsettled(journals)
        if check:
            settled = [text for domain in domains for text in foretold(domain, halves[domain.uuid])]
        else:
            settled = settle(journals)  # before the plan: what it undoes is nothing to merge
        removals = [
            _plan(domain, request, snapshot_name, halves[domain.uuid], check=check)
            for domain, request in zip(domains, requests)
        ]
        others = [text for domain, journal in journals for text in useless(domain, journal, but=snapshot_name)]
        warnings = [*settled, *others, *_warnings(removals, check=check)]
        left = max(0.0, timeout - (time.monotonic() - began))
        options = _merge.MergeOptions(timeout=left, own=True, budget=Budget(Floor.parse(min_free)))
        users = functools.cache(lambda: _chain.Users(host.connection, host.pools))
        plans = _merge.plan_all([(one.domain, one.specs()) for one in removals if one.merging], options, users)
        for one in removals:
            _refuse_needed(one, snapshot_name, users)
        errors: list[DiskSnapError] = []
        if check:
            results = {plan.domain.name: _merge.predict(plan, options) for plan in plans}
        else:
            errors = [error for one in removals for error in _delete_copies(one, snapshot_name)]
            results = _merge.run(plans, options)
            for one in removals:
                _forget(one, one.lost, snapshot_name)
    outcome = _outcome(removals, plans, results, snapshot_name)
    outcome['warnings'] = [*warnings, *outcome['warnings']]
    outcome['changed'] |= bool(settled)
    outcome['space'] = options.budget.told()
    if errors:
        raise _first(errors, outcome)
    failed = [
        (plan.domain.name, one) for plan in plans for one in results[plan.domain.name] if one.state != _merge.MERGED
    ]
    if failed:
        raise _failure(failed, snapshot_name, outcome)
    return outcome


def _plan(
    domain: Domain, request: Request, snapshot_name: str, halves: t.Sequence[SnapshotRecord], *, check: bool
) -> Removal:
    half = next((one for one in halves if one.name == snapshot_name), None)
    if half is not None:
        return Removal(domain, half)
    journal = _journal.load(domain.handle)
    record = journal.snapshots.get(snapshot_name)
    if record is None:
        return Removal(domain)
    refuse_other_disks(domain, request, record, f'Failed to remove the snapshot {record.name}')
    removal = Removal(domain, record)
    for disk in record.disks:
        method = method_of(disk.method)
        merging = not method.copies and disk.target in journal.merges
        if not merging and not method.present(domain, disk):
            removal.lost.append(disk)
        elif not method.copies:
            removal.merging.append(disk)
        elif method.by_play:
            removal.asking.append(disk)
        else:
            removal.copied.append(disk)
            for volume in disk.volumes:
                if volume.format != 'subvolume':
                    domain.host.pools.volume(volume.path)  # opens and refreshes its pool, for Users
            fault = method.fault(domain, disk)
            if fault is not None:
                removal.faults[disk.target] = fault
    if removal.asking and not check:
        raise _by_play(removal, removal.asking[0])
    return removal


def _by_play(one: Removal, disk: DiskRecord) -> DiskSnapError:
    return DiskSnapError(
        f'Failed to remove the snapshot {one.record.name if one.record else ""}',
        domain=one.domain.name,
        disk=disk.target,
        why='a storage array has it, and only tasks of a play can ask the array',
        hint=f'{ROLE} With fleet_snapshot_state=absent it removes it. Nothing was changed.',
    )


def _refuse_needed(one: Removal, snapshot_name: str, users: t.Callable[[], _chain.Users]) -> None:
    """Refuse to delete a copy that a domain or an image stands on, as that of a restored guest."""
    for disk in one.copied:
        for volume in disk.volumes:
            for path, words in users().of_all(volume.path).items():
                raise DiskSnapError(
                    f'Failed to remove the snapshot {snapshot_name}',
                    domain=one.domain.name,
                    disk=disk.target,
                    why=f'{path}, which would be deleted, is used by {", ".join(words)}',
                    hint='Remove what uses it first, or copy the image for it. Nothing was changed.',
                )


def _warnings(removals: t.Sequence[Removal], *, check: bool) -> list[str]:
    verb = 'would be' if check else 'was'
    warnings = []
    for one in removals:
        for disk in one.lost:
            if method_of(disk.method).by_play:
                continue  # the play has seen to it
            place = f'The snapshot of disk {disk.target} of the domain {one.domain.name} is lost'
            if method_of(disk.method).copies:
                warnings.append(f'{place}: the storage does not have it any more; the entry {verb} cleared.')
                continue
            warnings.append(
                f'{place}: its layer is not in the backing chain any more; the entry {verb} cleared, and '
                f'{disk.volumes[0].path}, if it is still there, left alone.'
            )
        warnings += [
            f'A storage array has the snapshot of disk {disk.target} of the domain {one.domain.name}: only the role '
            'fleet_snapshot removes it, with the tasks for the array.'
            for disk in one.asking
        ]
        warnings += [
            f'The snapshot of disk {target} of the domain {one.domain.name} was of no use any more: {fault}.'
            for target, fault in one.faults.items()
        ]
    return warnings


def _delete_copies(one: Removal, snapshot_name: str) -> list[DiskSnapError]:
    """Delete the copies of one domain's disks, and forget those that are gone; what failed."""
    errors: list[DiskSnapError] = []
    if not one.copied:
        return errors
    journal = _journal.load(one.domain.handle)
    journal.snapshots[snapshot_name].state = _records.REMOVING
    _journal.store(one.domain.handle, journal)
    for name in dict.fromkeys(disk.method for disk in one.copied):
        disks = [disk for disk in one.copied if disk.method == name]
        try:
            with explained(f'Failed to remove the snapshot {snapshot_name}', domain=one.domain.name):
                method_of(name).remove(one.domain, disks)
            _forget(one, disks, snapshot_name)
        except DiskSnapError as error:
            errors.append(error)
    return errors


def _forget(one: Removal, disks: t.Sequence[DiskRecord], snapshot_name: str) -> None:
    journal: Journal = _journal.load(one.domain.handle)
    record = journal.snapshots.get(snapshot_name)
    if record is None or not disks:
        return
    gone = {disk.target for disk in disks}
    record.disks = [disk for disk in record.disks if disk.target not in gone]
    if not record.disks:
        del journal.snapshots[snapshot_name]
    _journal.store(one.domain.handle, journal)


# -- results --------------------------------------------------------------------------------------------------


def _outcome(
    removals: t.Sequence[Removal],
    plans: t.Sequence[DomainMerge],
    results: dict[str, list[MergeResult]],
    snapshot_name: str,
) -> dict[str, t.Any]:
    merged = [one for of_domain in results.values() for one in of_domain]
    return {
        'changed': any(one.changes for one in removals),
        'domains': [_facts(one, results.get(one.domain.name, []), snapshot_name) for one in removals],
        'diff': _result.joined(
            _result.merge_diff(plans, results),
            _result.removal_diff((one.domain.name, disk) for one in removals for disk in [*one.copied, *one.asking]),
        ),
        'warnings': [
            *(text for plan in plans for text in plan.warnings),
            *(text for one in merged for text in one.warnings),
        ],
    }


def _facts(one: Removal, results: t.Sequence[MergeResult], snapshot_name: str) -> dict[str, t.Any]:
    """What the snapshot was, with the disks as the domain uses them now."""
    if one.record is None:
        empty = SnapshotRecord(snapshot_name, _records.PRESENT, '', '')
        return {**_result.snapshot(one.domain, empty), 'created_at': None, 'consistency': None}
    now = {result.target: result.modified_disk for result in results}
    disks = [replace(disk, modified_disk=now.get(disk.target)) for disk in one.record.disks]
    return _result.snapshot(one.domain, replace(one.record, disks=disks))


def _first(errors: t.Sequence[DiskSnapError], outcome: dict[str, t.Any]) -> DiskSnapError:
    first = errors[0]
    if errors[1:]:
        first.hint = f'{first.hint or ""} {len(errors) - 1} more failed: {" ".join(map(str, errors[1:]))}'.strip()
    first.result = outcome
    return first


def _failure(
    failed: t.Sequence[tuple[str, MergeResult]], snapshot_name: str, outcome: dict[str, t.Any]
) -> DiskSnapError:
    domain, first = failed[0]
    error = DiskSnapError(
        f'Failed to remove the snapshot {snapshot_name}',
        domain=domain,
        disk=first.target,
        why=first.error or f'the merge is {first.state}',
        hint=f'{len(failed) - 1} more failed.' if len(failed) > 1 else None,
    )
    error.result = outcome
    return error
