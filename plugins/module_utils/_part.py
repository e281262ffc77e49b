# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One host's part in a snapshot that spans hosts.

``prepare`` leaves a process on the host that has everything ready and goes through the steps as the play says
(``_barrier.py``). What it takes is ``committed``: taken here, but not yet said to be taken everywhere. ``finish`` says
so, to the process or, where that is gone, by the module; ``abandon`` undoes it. Should neither come, the next run on
the domain undoes it, once its time is over.
"""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import typing as t
from dataclasses import dataclass

from ansible_collections.disksnap.libvirt.plugins.module_utils import _array, _journal, _records, _result, _undo
from ansible_collections.disksnap.libvirt.plugins.module_utils._barrier import (
    FINISH,
    Abandoned,
    Barrier,
    Silence,
    retire,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._detached import fork_detached
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import (
    Domain,
    Host,
    look_up,
    open_host,
    refuse_same,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._lock import LOCK_WAIT, locked
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import SnapshotRecord
from ansible_collections.disksnap.libvirt.plugins.module_utils._settle import take_back
from ansible_collections.disksnap.libvirt.plugins.module_utils._snapshot import Fleet
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import Request
from ansible_collections.disksnap.libvirt.plugins.module_utils._take import TakeOptions, confirm, take
from ansible_collections.disksnap.libvirt.plugins.module_utils._watchdog import Watchdog

PREPARED, ABSENT = 'prepared', 'absent'
# an array may have what an interrupted run began
LEFT = 'left'
# no domain is selected here
NOTHING = {'state': 'nothing', 'changed': False, 'names': [], 'domains': []}


@dataclass(frozen=True)
class Part:
    """What the task asks for: as a snapshot of one host, and what its fleet adds (see ``Fleet``)."""

    uri: str
    select: t.Callable[[Host], list[Request]]
    options: TakeOptions
    group: str
    ranks: int
    patience: float


def prepare(part: Part, *, timeout: float) -> dict[str, t.Any]:
    """Have a process get everything ready for the freeze; what the module returns.

    ``state`` of it is ``prepared``, or ``present`` or ``committed`` where the snapshot is there already, or ``nothing``
    where no domain is selected; ``command`` is what brings the process the next word.

    Raises:
        DiskSnapError: nothing was changed, or all was undone.
    """
    channel = fork_detached(functools.partial(_serve, part))
    with contextlib.closing(channel):
        answer = _read(channel, timeout)
    if answer.pop('failed'):
        raise _Said(answer['msg'], {'warnings': answer.get('warnings', [])})
    return {'state': PREPARED, 'changed': True, **answer}


class _Said(DiskSnapError):
    """A sentence that another process has made."""

    def __init__(self, sentence: str, result: dict[str, t.Any]) -> None:
        super().__init__(sentence)
        self.result = result

    def _sentence(self) -> str:
        return self.what


def _read(channel: socket.socket, timeout: float) -> dict[str, t.Any]:
    data = b''
    try:
        channel.settimeout(timeout)
        while not data.endswith(b'\n'):
            more = channel.recv(65536)
            if not more:
                raise OSError('it has ended without an answer')
            data += more
    except OSError as error:
        raise DiskSnapError(
            'Failed to prepare the snapshot',
            why=f'the process that was to do so did not say how it went: {error}',
            hint='What it has begun is undone by the next run.',
        ) from error
    return t.cast('dict[str, t.Any]', json.loads(data))


# -- the process ----------------------------------------------------------------------------------------------


def _serve(part: Part, channel: socket.socket) -> None:
    barrier = Barrier(channel, part.patience, part.options.snapshot_name)
    try:
        barrier.end(failed=False, **_run(part, barrier))
    except Abandoned as error:
        barrier.end(failed='left' in error.result, state=ABSENT, msg=str(error))
    except DiskSnapError as error:
        barrier.end(failed=True, msg=str(error), warnings=error.result.get('warnings', []))
    except libvirt.libvirtError as error:
        barrier.end(failed=True, msg=f'libvirt failed: {error}.')
    except Exception as error:  # nobody else would hear of it
        barrier.end(failed=True, msg=f'Failed to take the snapshot: {type(error).__name__}: {error}.')


def _run(part: Part, barrier: Barrier) -> dict[str, t.Any]:
    outcome = _take(part, barrier)
    return _decide(part, barrier, outcome) if barrier.waited else outcome


def _take(part: Part, barrier: Barrier) -> dict[str, t.Any]:
    name = part.options.snapshot_name
    with contextlib.closing(Watchdog(part.uri)) as watchdog, open_host(part.uri) as host:
        requests = part.select(host)
        if not requests:
            return dict(NOTHING)
        domains = look_up(host, (request.name for request in requests))
        uuids = [domain.uuid for domain in domains]
        retire(name, part.group, uuids, timeout=LOCK_WAIT)
        there = taken(domains, requests, part.options)
        if there is not None:
            return there
        group = _array.left(domains, name)
        if group is not None:
            return {'changed': False, 'state': LEFT, 'group': group, 'names': [one.name for one in domains]}
        names = [domain.name for domain in domains]
        barrier.tell(names=names)
        barrier.claim(part.group, uuids)
        _undo.preload()  # the methods of the disks are by the time it waits
        fleet = Fleet(barrier, part.group, part.ranks, part.options.terms.max_frozen, part.patience)
        outcome = take(host, requests, part.options, watchdog, check=False, fleet=fleet)
        return {**outcome, 'names': names, **_state_of([_record(domain, name) for domain in domains])}


def _decide(part: Part, barrier: Barrier, outcome: dict[str, t.Any]) -> dict[str, t.Any]:
    """Taken here, with all guests running on and no lock held: wait for the word that all hosts have it, or not.

    Who does not stay for this answer cannot have told any host to finish. Silence says nothing: others may have.
    """
    barrier.claim(part.group, [])  # the play, run again, finishes what is taken everywhere
    try:
        barrier.wait(FINISH, **outcome)
    except Silence:
        return outcome
    except Abandoned as error:
        return {**_settle(part, outcome, abandon), 'msg': str(error)}
    return _settle(part, outcome, finish)


def _settle(part: Part, outcome: dict[str, t.Any], act: t.Callable[..., dict[str, t.Any]]) -> dict[str, t.Any]:
    requests = [Request(domain['name'], None) for domain in outcome['domains']]
    with open_host(part.uri) as host:
        return act(host, requests, part.options.snapshot_name, part.group, check=False)


def taken(domains: t.Sequence[Domain], requests: t.Sequence[Request], options: TakeOptions) -> dict[str, t.Any] | None:
    """What the module returns where an earlier play took the snapshot on all domains, and did not finish on all.

    Raises:
        DiskSnapError: if that is not the one that the task asks for.
    """
    found = [_journal.load(domain.handle).snapshots.get(options.snapshot_name) for domain in domains]
    records = [one for one in found if one is not None and one.state in (_records.COMMITTED, _records.PRESENT)]
    whole = len(records) == len(found) and len({record.group for record in records}) == 1
    if not whole or all(record.state == _records.PRESENT for record in records):
        return None
    for domain, request, record in zip(domains, requests, records):
        confirm(domain, request, record, options)
    return _as_it_is(list(zip(domains, records)), changed=False)


def predict(host: Host, requests: t.Sequence[Request], options: TakeOptions) -> dict[str, t.Any]:
    """What ``prepare`` would return, but for the command, and with the snapshot that would be taken."""
    if not requests:
        return dict(NOTHING)
    domains = look_up(host, (request.name for request in requests))
    there = taken(domains, requests, options)
    if there is not None:
        return there
    outcome = {**take(host, requests, options, None, check=True), 'names': [domain.name for domain in domains]}
    if outcome['changed']:
        return {**outcome, 'state': PREPARED}
    return {**outcome, **_state_of([_record(domain, options.snapshot_name) for domain in domains])}


def _record(domain: Domain, name: str) -> SnapshotRecord:
    record = _journal.load(domain.handle).snapshots.get(name)
    if record is None:
        raise DiskSnapError(
            f'Failed to find the snapshot {name}',
            domain=domain.name,
            why='the journal of the domain does not have it',
            hint='Something has removed it meanwhile. Run the play again.',
        )
    return record


def _state_of(records: t.Sequence[SnapshotRecord]) -> dict[str, t.Any]:
    """The state that they share, and their group; the group is empty where it is not one."""
    groups = {record.group for record in records}
    undecided = any(record.state == _records.COMMITTED for record in records)
    return {
        'state': _records.COMMITTED if undecided else _records.PRESENT,
        'group': groups.pop() if len(groups) == 1 else '',
    }


def _as_it_is(pairs: t.Sequence[tuple[Domain, SnapshotRecord]], *, changed: bool) -> dict[str, t.Any]:
    return {
        'changed': changed,
        'names': [domain.name for domain, _record in pairs],
        'domains': [_result.snapshot(domain, record) for domain, record in pairs],
        'warnings': [],
        **_state_of([record for _domain, record in pairs]),
    }


# -- the outcome ----------------------------------------------------------------------------------------------


def finish(
    host: Host, requests: t.Sequence[Request], snapshot_name: str, group: str, *, check: bool
) -> dict[str, t.Any]:
    """All hosts have taken it: note that it is there. What the module returns.

    Raises:
        DiskSnapError: if a domain does not have it, or has one of another group.
    """
    domains = look_up(host, (request.name for request in requests))
    with locked(domains, wait=LOCK_WAIT):
        pairs = [(domain, _record(domain, snapshot_name)) for domain in domains]
        for domain, record in pairs:
            if record.group != group or record.state not in (_records.COMMITTED, _records.PRESENT):
                raise DiskSnapError(
                    f'Failed to finish the snapshot {snapshot_name}',
                    domain=domain.name,
                    why=f'it is not the one that was taken on the other hosts (state {record.state})',
                    hint='Run the play again.',
                )
        changed = any(record.state == _records.COMMITTED for _domain, record in pairs)
        for domain, record in () if check else pairs:
            journal = _journal.load(domain.handle)
            record.state, record.decide_by = _records.PRESENT, None
            journal.snapshots[snapshot_name] = record
            _journal.store(domain.handle, journal)
        return _as_it_is(pairs, changed=changed)


def abandon(
    host: Host, requests: t.Sequence[Request], snapshot_name: str, group: str, *, check: bool
) -> dict[str, t.Any]:
    """Undo what there is of this group, from whatever point it reached; what the module returns.

    Raises:
        DiskSnapError: if something is left; the others are undone all the same.
    """
    domains = _those_there(host, requests)
    left: list[DiskSnapError] = []
    changed = False
    with locked(domains, wait=LOCK_WAIT):
        for domain in domains:
            journal = _journal.load(domain.handle)
            record = journal.snapshots.get(snapshot_name)
            if record is None or record.group != group:
                continue
            changed = True
            if check:
                continue
            try:
                take_back(domain, journal, record)
            except DiskSnapError as error:
                left.append(error)
    if left:
        left[0].hint = ' '.join(filter(None, [left[0].hint, *(str(error) for error in left[1:])]))
        raise left[0]
    return {'changed': changed, 'state': ABSENT, 'domains': []}


def _those_there(host: Host, requests: t.Sequence[Request]) -> list[Domain]:
    """A domain that is gone, as a transient one that has ended, has nothing left to undo that we could know of."""
    found = []
    for request in requests:
        try:
            found.append(host.domain(request.name))
        except DiskSnapError as error:
            if error.code != libvirt.VIR_ERR_NO_DOMAIN:
                raise
    refuse_same(found)
    return found
