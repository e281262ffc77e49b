# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``disk_snapshot``, state reverted: back to the point in time; the snapshot is still there afterwards."""

from __future__ import annotations

import contextlib
import time
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _journal, _records, _restore, _result
from ansible_collections.disksnap.libvirt.plugins.module_utils._array_volumes import refuse_shared, volumes_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._faults import useless
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain, Host, look_up
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    Journal,
    SnapshotRecord,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._restore import Restoration
from ansible_collections.disksnap.libvirt.plugins.module_utils._selection import refuse_other_disks
from ansible_collections.disksnap.libvirt.plugins.module_utils._settle import foretold, settle, unsettled, work_on
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import Request, refuse_time


def revert(
    host: Host, requests: t.Sequence[Request], snapshot_name: str, *, force: bool, timeout: float, check: bool
) -> dict[str, t.Any]:
    """Take all domains back: all are looked at before the first is stopped, and none starts before all are back.

    Args:
        force: stop domains that run, and start them again.
        timeout: seconds for all of it.
        check: only predict.

    Raises:
        DiskSnapError: nothing was changed; or a domain is on its way, and the next run of the task ends it.
    """
    domains = look_up(host, (request.name for request in requests))
    refuse_time('timeout', timeout)
    deadline = time.monotonic() + timeout
    with contextlib.ExitStack() as stack:
        if not check:
            stack.enter_context(work_on(domains, wait=timeout))
        journals = [(domain, _journal.load(domain.handle)) for domain in domains]
        halves = unsettled(journals)
        halted = {
            one.uuid for one, journal in journals if _restore.is_halted(one, journal.snapshots.get(snapshot_name))
        }
        ended = {domain.uuid for domain, journal in journals if _ends_with_settling(domain, journal, snapshot_name)}
        ended -= halted
        if check:
            warnings = [text for domain in domains for text in foretold(domain, halves[domain.uuid])]
        else:
            warnings = settle([(domain, journal) for domain, journal in journals if domain.uuid not in halted])
        going = halves if check else {}
        pairs = [
            (domain, _record(domain, request, snapshot_name, going.get(domain.uuid, ())))
            for domain, request in zip(domains, requests)
        ]
        left = [(domain, record) for domain, record in pairs if domain.uuid not in ended]
        for domain, record in left:
            warnings += _restore.refuse(domain, record, force=force)
            warnings += useless(domain, _journal.load(domain.handle), but=snapshot_name)
        if not check:
            _go_back(left, deadline, warnings)
    return _outcome(pairs, warnings)


def halt(
    host: Host, requests: t.Sequence[Request], snapshot_name: str, *, force: bool, timeout: float, check: bool
) -> dict[str, t.Any]:
    """Stop all domains for a revert in which an array takes part; once its volumes are back, ``revert`` goes on.

    A domain that an earlier run has stopped for it stays as it is.

    Raises:
        DiskSnapError: nothing was changed.
    """
    domains = look_up(host, (request.name for request in requests))
    with contextlib.ExitStack() as stack:
        if not check:
            stack.enter_context(work_on(domains, wait=timeout))
        journals = [(domain, _journal.load(domain.handle)) for domain in domains]
        left = [pair for pair in journals if not _restore.is_halted(pair[0], pair[1].snapshots.get(snapshot_name))]
        warnings = [] if check else settle(left)
        pairs = [(domain, _record(domain, request, snapshot_name, ())) for domain, request in zip(domains, requests)]
        refuse_shared(host, domains, [record for _domain, record in pairs])
        going = {domain.uuid for domain, _journal in left}
        for domain, record in pairs:
            if domain.uuid in going:
                warnings += _restore.refuse(domain, record, force=force, by_play=True)
        if not check:
            _stop([Restoration(domain, snapshot_name) for domain, _journal in left], pairs, warnings, halted=True)
    return {
        **_outcome(pairs, warnings),
        'changed': bool(left),
        'names': [domain.name for domain in domains],
        'volumes': volumes_of(pairs),
    }


def _ends_with_settling(domain: Domain, journal: Journal, snapshot_name: str) -> bool:
    """Whether an interrupted run was on its way to this snapshot, so that to end its work is all there is to do."""
    record = journal.snapshots.get(snapshot_name)
    if record is None or record.revert is None or record.revert.stage == _records.STOPPING:
        return False
    return record.revert.stage == _records.STARTING or not domain.live


def _record(domain: Domain, request: Request, snapshot_name: str, halves: t.Sequence[SnapshotRecord]) -> SnapshotRecord:
    what = f'{_restore.WHAT} {snapshot_name}'
    snapshots = _journal.load(domain.handle).snapshots
    for half in halves:
        snapshots.pop(half.name, None)
    record = snapshots.get(snapshot_name)
    if record is None:
        raise DiskSnapError(
            what,
            domain=domain.name,
            why='the domain has no snapshot of this name',
            hint=f'It has {", ".join(snapshots) or "none"}.',
        )
    if record.state == _records.REMOVING:
        raise DiskSnapError(
            what,
            domain=domain.name,
            why='an earlier run has begun to remove it',
            hint='Run disk_snapshot with state: absent to finish that.',
        )
    refuse_other_disks(domain, request, record, what)
    return record


def _go_back(pairs: t.Sequence[tuple[Domain, SnapshotRecord]], deadline: float, warnings: list[str]) -> None:
    """Stop all, put all back, start all. A domain that fails does not keep the others from ending what was begun."""
    ways = [Restoration(domain, record.name) for domain, record in pairs]
    _stop(ways, pairs, warnings)
    failed: list[DiskSnapError] = []
    backs = _each(ways, lambda way: way.restore(deadline), failed)
    _each(backs, Restoration.start, failed)
    if failed:
        raise _first(failed, pairs, warnings)


def _stop(
    ways: t.Sequence[Restoration],
    pairs: t.Sequence[tuple[Domain, SnapshotRecord]],
    warnings: list[str],
    *,
    halted: bool = False,
) -> None:
    failed: list[DiskSnapError] = []
    for way in ways:
        way.begin(halted=halted)
    _each(ways, Restoration.stop, failed)
    if failed:
        _call_off(ways)
        raise _first(failed, pairs, warnings)


def _each(
    ways: t.Sequence[Restoration], step: t.Callable[[Restoration], None], failed: list[DiskSnapError]
) -> list[Restoration]:
    """Take one step with each; those that could."""
    done = []
    for way in ways:
        try:
            step(way)
            done.append(way)
        except DiskSnapError as error:
            failed.append(error)
    return done


def _call_off(ways: t.Sequence[Restoration]) -> None:
    """One domain did not stop: nothing has gone back yet, so all of them go on as they were."""
    for way in ways:
        with contextlib.suppress(DiskSnapError):  # what fails here is in the journal, for the next run
            way.start()


def _first(
    failed: t.Sequence[DiskSnapError], pairs: t.Sequence[tuple[Domain, SnapshotRecord]], warnings: list[str]
) -> DiskSnapError:
    first = failed[0]
    more = f' {len(failed) - 1} more failed: {" ".join(str(error) for error in failed[1:])}' if failed[1:] else ''
    first.hint = f'{first.hint or ""} Run the task again to go on.{more}'.strip()
    first.result = _outcome(pairs, warnings)
    return first


def _outcome(pairs: t.Sequence[tuple[Domain, SnapshotRecord]], warnings: list[str]) -> dict[str, t.Any]:
    return {
        'changed': True,
        'domains': [_result.snapshot(domain, record) for domain, record in pairs],
        'diff': _result.revert_diff(pairs),
        'warnings': warnings,
    }
