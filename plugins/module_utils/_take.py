# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``disk_snapshot``, state present: from the task to a snapshot, or to its prediction."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.disksnap.libvirt.plugins.module_utils import _journal, _records, _result
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._faults import useless
from ansible_collections.disksnap.libvirt.plugins.module_utils._forecast import forecast
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain, Host, look_up
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.base import Subject
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.registry import method_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._pause import Pause
from ansible_collections.disksnap.libvirt.plugins.module_utils._quiesce import Quiesce, Terms
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    FreezeRecord,
    Journal,
    SnapshotRecord,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._restore import going_back, mixed_disks, refuse_waiting
from ansible_collections.disksnap.libvirt.plugins.module_utils._selection import (
    Selection,
    plan,
    refuse_collisions,
    select,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._settle import half_reverted, half_taken, settle, work_on
from ansible_collections.disksnap.libvirt.plugins.module_utils._snapshot import (
    NONE,
    REQUIRED,
    Fleet,
    Member,
    Transaction,
    draft,
    refuse_by_play,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._space import Budget, Floor
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import Request, terms
from ansible_collections.disksnap.libvirt.plugins.module_utils._watchdog import Watchdog
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import ARRAY, AUTO, validate_snapshot_name
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import holdable


@dataclass(frozen=True)
class TakeOptions:
    """The task's options that all its domains share; ``of`` reads them from its parameters.

    ``arrays``: tasks of the play stand by to ask storage arrays. ``budget``: what all of it may need of the storage.
    """

    snapshot_name: str
    method: str
    quiesce: str
    terms: Terms
    description: str | None
    instant: str = 'group'
    arrays: bool = False
    budget: Budget = field(default_factory=Budget, compare=False)

    @classmethod
    def of(cls, params: dict[str, t.Any]) -> TakeOptions:
        """The options of a task.

        Raises:
            DiskSnapError: if one of them is not what it may be.
        """
        validate_snapshot_name(params['snapshot_name'])
        holdable(params['description'] or '', 'the description')
        return cls(
            snapshot_name=params['snapshot_name'],
            method=params['method'],
            quiesce=params['quiesce'],
            terms=terms(params),
            description=params['description'],
            instant=params.get('instant') or 'group',
            budget=Budget(Floor.parse(params.get('min_free') or '0')),
        )


def take(
    host: Host,
    requests: t.Sequence[Request],
    options: TakeOptions,
    watchdog: Watchdog | None,
    *,
    check: bool,
    fleet: Fleet | None = None,
) -> dict[str, t.Any]:
    """Take the snapshot on all domains; what the module returns.

    Args:
        watchdog: forked before the connection; None in check mode only.
        check: only predict.
        fleet: where other hosts take part; the snapshot still waits for their outcome then.

    Raises:
        DiskSnapError: nothing was changed, or all was undone; or the sentence says what is left.
    """
    domains = look_up(host, (request.name for request in requests))
    if check:
        journals = [_journal.load(domain.handle) for domain in domains]
        half = any(half_taken(journal) or half_reverted(journal) for journal in journals)
        if options.instant == 'domain':
            return _one_by_one(list(zip(domains, requests)), _Foreseen(options).one, [], changed=half)
        members = [_member(domain, request, options, check=True) for domain, request in zip(domains, requests)]
        for member in members:
            _foresee([member], options)
        outcome = _outcome(members, options, check=True)
        outcome['changed'] |= half
        return outcome
    if watchdog is None:
        raise ValueError('only check mode goes without a watchdog')
    with work_on(domains):
        warnings = settle([(domain, _journal.load(domain.handle)) for domain in domains])
        if options.instant == 'domain':

            def one(domain: Domain, request: Request) -> dict[str, t.Any]:
                return _run([_member(domain, request, options, check=False)], options, watchdog, [])

            return _one_by_one(list(zip(domains, requests)), one, warnings, changed=bool(warnings))
        members = [_member(domain, request, options, check=False) for domain, request in zip(domains, requests)]
        return _run(members, options, watchdog, warnings, fleet)


def _run(
    members: list[Member],
    options: TakeOptions,
    watchdog: Watchdog,
    warnings: list[str],
    fleet: Fleet | None = None,
) -> dict[str, t.Any]:
    if fleet is not None:
        _refuse_mixture(members, options)
    refuse_collisions((member.domain.name, *planned) for member in members for planned in member.plans)
    _foresee(members, options)
    draft(members, options.description, fleet.group if fleet is not None else None)
    quiesce = Quiesce(watchdog, options.terms) if options.quiesce != NONE else None
    pause = Pause(watchdog, options.terms.max_frozen)
    try:
        Transaction(members, quiesce, options.quiesce, pause, fleet).run()
    except DiskSnapError as error:
        error.result.setdefault('warnings', []).extend(warnings)
        raise
    outcome = _outcome(members, options, check=False)
    outcome['warnings'] = warnings + outcome['warnings']
    outcome['changed'] |= bool(warnings)  # an earlier run's work was undone
    return outcome


def _refuse_mixture(members: t.Sequence[Member], options: TakeOptions) -> None:
    """Of one instant with the guests of other hosts are all of this one, or none."""
    there = [member.domain.name for member in members if member.existing is not None]
    if there and len(there) < len(members):
        raise DiskSnapError(
            f'Failed to take the snapshot {options.snapshot_name}',
            why=f'it is there on {", ".join(there)}, and not on the other guests of this host',
            hint='Remove it with state: absent first, or take another name. Nothing was changed.',
        )


def confirm(domain: Domain, request: Request, record: SnapshotRecord, options: TakeOptions) -> None:
    """Make sure that a snapshot that is there is the one that the task asks for.

    Raises:
        DiskSnapError: if it is over other disks, by another method, or if the storage does not have it.
    """
    _confirm(domain, record, select(domain, request, options.method))


class _Foreseen:
    """Check mode of domains one by one: each is predicted beside those before it that would be taken."""

    def __init__(self, options: TakeOptions) -> None:
        self._options = options
        self._taken: list[Member] = []

    def one(self, domain: Domain, request: Request) -> dict[str, t.Any]:
        """The outcome of one domain.

        Raises:
            DiskSnapError: if its snapshot would fail.
        """
        member = _member(domain, request, self._options, check=True)
        both = [*self._taken, member]
        refuse_collisions((one.domain.name, *planned) for one in both for planned in one.plans)
        _foresee([member], self._options)
        outcome = _outcome([member], self._options, check=True)
        self._taken.append(member)
        return outcome


def _one_by_one(
    pairs: list[tuple[Domain, Request]],
    take_one: t.Callable[[Domain, Request], dict[str, t.Any]],
    warnings: list[str],
    *,
    changed: bool,
) -> dict[str, t.Any]:
    """Each domain a snapshot of its own: one that fails does not undo the others, and the task fails in the end.

    Args:
        pairs: each domain with what is asked of it.
        take_one: takes the snapshot of one, or predicts it.
        warnings: of what was done before.
        changed: whether that has changed anything.
    """
    total: dict[str, t.Any] = {
        'changed': changed,
        'domains': [],
        'space': [],
        'warnings': warnings,
        'diff': {'before': '', 'after': ''},
    }
    failed: list[DiskSnapError] = []
    for domain, request in pairs:
        try:
            outcome = take_one(domain, request)
        except DiskSnapError as error:
            failed.append(error)
            continue
        total['changed'] |= outcome['changed']
        total['space'] = outcome['space']
        for key in ('domains', 'warnings'):
            total[key] += outcome[key]
        for side in ('before', 'after'):
            total['diff'][side] += outcome['diff'][side]
    if not failed:
        return total
    first = failed[0]
    if len(failed) > 1:
        others = ' '.join(str(error) for error in failed[1:])
        first.hint = f'{first.hint or ""} {len(failed) - 1} more failed: {others}'.strip()
    first.result = {**total, 'warnings': [*total['warnings'], *first.result.get('warnings', [])]}
    raise first


def _foresee(members: t.Sequence[Member], options: TakeOptions) -> None:
    """Take what the new snapshots may come to need into the task's budget; whose storage may not do is warned of.

    Raises:
        DiskSnapError: if less than min_free would be left.
    """
    new = [(member, method, one) for member in members for method, one in member.plans]
    if not new:
        return
    seen: set[str] = set()
    needs = []
    for member, method, one in new:
        paths = {volume.path for volume in one.record.volumes} if method.name == 'lvm' else set()
        if not paths & seen:  # disks on one LV share its snapshot
            needs += method.space(member.subject, one)
        seen |= paths
    what = f'Failed to take the snapshot {options.snapshot_name}'
    members[0].warnings += options.budget.add(needs, what, domain=members[0].domain.name if len(members) == 1 else None)


# -- planning -------------------------------------------------------------------------------------------------


def _member(domain: Domain, request: Request, options: TakeOptions, *, check: bool) -> Member:
    journal = _journal.load(domain.handle)
    warnings: list[str] = []
    selection = select(domain, request, options.method)
    reclaimed: set[str] = set()
    if check:
        selection, reclaimed = _as_if_settled(domain, journal, selection, warnings)
    live = domain.live
    subject = Subject(domain, live, options.snapshot_name, options.description, frozenset(reclaimed))
    member = Member(domain, subject, journal, request.rank, warnings=[*warnings, *selection.warnings])
    member.warnings += useless(domain, journal, but=options.snapshot_name)
    existing = journal.snapshots.get(options.snapshot_name)
    if existing is not None and existing.state == _records.PRESENT:
        _confirm(domain, existing, selection)
        member.existing = existing
    elif existing is not None and existing.state == _records.REVERTING and not check:
        raise mixed_disks(domain, existing)
    elif existing is not None and existing.state == _records.REVERTING:
        member.existing = existing  # the next run ends the revert first
    elif existing is not None and existing.state == _records.REMOVING:
        raise DiskSnapError(
            f'Failed to take the snapshot {existing.name}',
            domain=domain.name,
            why='an earlier run has begun to remove it',
            hint='Run disk_snapshot with state: absent to finish that first.',
        )
    else:
        if not options.arrays:
            _refuse_arrays(domain, selection)
        member.plans = plan(subject, selection)
    return member


def _refuse_arrays(domain: Domain, selection: Selection) -> None:
    for disk, method in selection.disks:
        if method.name == ARRAY:
            raise DiskSnapError(
                'Failed to use the method array',
                domain=domain.name,
                disk=disk.target,
                why='only tasks of a play can ask the array, while the guests stand still',
                hint='Use the role fleet_snapshot with fleet_snapshot_consistency=fleet '
                'and fleet_snapshot_array_tasks.',
            )


def _as_if_settled(
    domain: Domain, journal: Journal, selection: Selection, warnings: list[str]
) -> tuple[Selection, set[str]]:
    """What the disks will be once the leftovers of interrupted runs are undone, which check mode must not do."""
    reclaimed: set[str] = set()
    for record in half_reverted(journal):
        refuse_waiting(domain, record)
        warnings.append(going_back(domain, record))
    disks = {disk.target: (disk, method) for disk, method in selection.disks}
    for record in half_taken(journal):
        refuse_by_play(domain, record.disks, record.name)
        warnings.append(
            f'An interrupted run has left the snapshot {record.name} of the domain {domain.name} half taken; '
            'it would be undone.'
        )
        for one in record.disks:
            paths = {volume.path for volume in one.volumes}
            reclaimed |= paths
            if one.target in disks:
                disk, method = disks[one.target]
                if disk.source is not None and disk.source.path in paths:
                    disks[one.target] = (_records.original_disk(one), method)
        del journal.snapshots[record.name]
    return replace(selection, disks=list(disks.values())), reclaimed


def _confirm(domain: Domain, existing: SnapshotRecord, selection: Selection) -> None:
    """The snapshot of this name must be the one that the task asks for, and still be there."""
    recorded = {disk.target for disk in existing.disks}
    if recorded != selection.targets:
        raise DiskSnapError(
            f'Failed to take the snapshot {existing.name}',
            domain=domain.name,
            why=f'a snapshot of this name is there over other disks ({", ".join(sorted(recorded))}, '
            f'not {", ".join(sorted(selection.targets))})',
            hint='Take another snapshot_name, name the same disks, or remove that one with state: absent.',
        )
    wanted = {disk.target: method.name for disk, method in selection.disks}
    for record in existing.disks:
        if wanted[record.target] not in (AUTO, record.method):
            raise DiskSnapError(
                f'Failed to take the snapshot {existing.name}',
                domain=domain.name,
                disk=record.target,
                why=f'it was taken by the method {record.method}, not {wanted[record.target]}',
                hint='Remove it with state: absent first, or take another snapshot_name.',
            )
        fault = method_of(record.method).fault(domain, record)
        if fault is not None:
            raise DiskSnapError(
                f'Failed to find the snapshot {existing.name}',
                domain=domain.name,
                disk=record.target,
                why=f'the journal says that it was taken, but {fault}',
                hint='state: absent clears the entry, and what is left of it.',
            )


# -- results --------------------------------------------------------------------------------------------------


def _outcome(members: list[Member], options: TakeOptions, *, check: bool) -> dict[str, t.Any]:
    if check:
        refuse_collisions((member.domain.name, *planned) for member in members for planned in member.plans)
        draft(members, options.description)
        for member in members:
            if member.existing is None:
                _predict(member, options)
    new = [member for member in members if member.existing is None]
    warnings = [warning for member in members for warning in member.warnings]
    if new and len(new) < len(members) and options.instant == 'group':
        there = ', '.join(member.domain.name for member in members if member.existing is not None)
        warnings.append(
            f'The snapshot {options.snapshot_name} was there already on {there}: the group is not of one instant.'
        )
    return {
        'changed': bool(new),
        'domains': [_result.snapshot(member.domain, member.result) for member in members],
        'diff': _result.snapshot_diff([(member.domain, member.result) for member in new]),
        'space': options.budget.told(),
        'warnings': warnings,
    }


def _predict(member: Member, options: TakeOptions) -> None:
    """Check mode: what the guest's agent lets us expect; times cannot be known."""
    record = member.result
    if not member.subject.live or options.quiesce == NONE:
        return
    expected = forecast(member.domain, options.terms)
    if expected.error is not None:
        if options.quiesce == REQUIRED:
            raise expected.error
        member.warnings.append(f'{expected.error} The snapshot would be crash-consistent.')
        return
    record.consistency = 'filesystem'
    thawed_by = None if expected.frozen_already else 'module'
    record.freeze = FreezeRecord(expected.filesystems, expected.presynced, None, thawed_by)
