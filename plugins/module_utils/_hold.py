# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``storage_quiesce``: a freeze that outlives its task, and the thaw that ends it.

Between the two tasks nothing of ours runs but the watchdog; what it and the thaw must know of one another is in
the journal of each domain.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.disksnap.libvirt.plugins.module_utils import _journal, _records, _result
from ansible_collections.disksnap.libvirt.plugins.module_utils._agent import Agent
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._faults import useless
from ansible_collections.disksnap.libvirt.plugins.module_utils._forecast import Forecast, forecast
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain, Host, look_up
from ansible_collections.disksnap.libvirt.plugins.module_utils._lock import LOCK_WAIT, locked
from ansible_collections.disksnap.libvirt.plugins.module_utils._quiesce import Guest, Quiesce, Terms, side_by_side
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    Journal,
    QuiesceRecord,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import Request
from ansible_collections.disksnap.libvirt.plugins.module_utils._watchdog import Watchdog, dismiss
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import find_disk


@dataclass
class Held:
    """One domain of the task.

    ``recognised`` says that an earlier task froze it and it still is; ``changed`` that this one thawed something or
    closed a record; ``replaced`` that the record in the journal is no longer that of before.
    """

    domain: Domain
    journal: Journal
    guest: Guest
    recognised: bool = False
    changed: bool = False
    replaced: bool = False
    error: DiskSnapError | None = None
    warnings: list[str] = field(default_factory=list)
    record: QuiesceRecord = field(default_factory=lambda: QuiesceRecord(_records.THAWED, '', ''))

    @property
    def frozen(self) -> bool:
        """Whether the guest stands still by our doing or with our watchdog over it."""
        return self.recognised or (self.guest.error is None and self.guest.frozen)


def _open(domain: Domain) -> Held:
    return Held(domain, _journal.load(domain.handle), Guest(domain.handle, domain.name, domain.uuid))


def _outcome(held: t.Sequence[Held], *, changed: bool, quiesced: bool) -> dict[str, t.Any]:
    def state(one: Held) -> str:
        return 'quiesced' if (one.frozen if quiesced else one.error is not None) else 'thawed'

    return {
        'changed': changed,
        'domains': [_result.quiesce(one.domain, one.record, state(one)) for one in held],
        'warnings': [warning for one in held for warning in [*one.guest.warnings, *one.warnings]],
    }


# -- quiesced -------------------------------------------------------------------------------------------------


def freeze(
    host: Host, requests: t.Sequence[Request], terms: Terms, policy: str, watchdog: Watchdog | None, *, check: bool
) -> dict[str, t.Any]:
    """Freeze all domains side by side and leave them so, under the watchdog.

    Args:
        policy: ``required`` or ``preferred``.
        watchdog: forked before the connection; None in check mode.

    Raises:
        DiskSnapError: with ``required``, if one cannot be frozen; all are thawed then.
    """
    domains = look_up(host, (request.name for request in requests))
    wanted = [_targets(domain, request, terms) for domain, request in zip(domains, requests)]
    if watchdog is None or check:
        held = _look(domains, wanted, terms)
        fresh = [one for one in held if not one.recognised]
        _predict(fresh, terms, policy)
    else:
        with locked(domains, wait=LOCK_WAIT):  # before the journals are read: they say what another run has done
            held = _look(domains, wanted, terms)
            fresh = [one for one in held if not one.recognised]
            _freeze(fresh, Quiesce(watchdog, terms), terms, policy, watchdog)
    return _outcome(held, changed=any(one.frozen for one in fresh), quiesced=True)


def _targets(domain: Domain, request: Request, terms: Terms) -> set[str]:
    """The disks whose file systems are to be frozen; empty where the options do not choose by disk."""
    if request.disks is None or terms.mountpoints:
        return set()
    disks = domain.read().disks
    return {find_disk(disks, entry['target'], domain.name).target for entry in request.disks}


def _look(domains: t.Sequence[Domain], wanted: t.Sequence[set[str]], terms: Terms) -> list[Held]:
    """Read the journals, recognise what is frozen already, and find out what to freeze of the others."""
    held = [_open(domain) for domain in domains]
    for one in held:
        one.warnings += useless(one.domain, one.journal)
    side_by_side(lambda pair: _look_at(pair[0], pair[1], terms), list(zip(held, wanted)))
    return held


def _look_at(one: Held, targets: set[str], terms: Terms) -> None:
    one.guest.mountpoints = terms.mountpoints
    if one.domain.state != 'running':
        return  # the freeze says so
    try:
        if not Agent(one.domain.handle, terms.agent_timeout).frozen():
            if targets:
                one.guest.mountpoints = _mountpoints(one.domain, targets, terms)
        elif _ours(one.journal.quiesce):
            one.record, one.recognised = t.cast(QuiesceRecord, one.journal.quiesce), True
    except DiskSnapError as error:
        one.guest.error = error


def _ours(record: QuiesceRecord | None) -> bool:
    """Whether an earlier task on this machine froze the guest and its watchdog is alive."""
    if record is None or record.state != _records.FROZEN or record.boot_id != _records.boot_id():
        return False
    return _here(record) and _records.process_start(record.watchdog_pid) == record.watchdog_start != 0


def _here(record: QuiesceRecord) -> bool:
    """Whether the process that the record names is one of this machine."""
    return record.watchdog_host == socket.gethostname()


def _mountpoints(domain: Domain, targets: set[str], terms: Terms) -> tuple[str, ...]:
    """The mount points on these disks. A guest that is frozen does not tell."""
    agent = Agent(domain.handle, terms.agent_timeout)
    agent.bound()
    try:
        with explained('Failed to ask which file systems are on the disks', domain=domain.name):
            mounted = domain.handle.fsInfo(0)
    finally:
        agent.unbound()
    found = tuple(entry[0] for entry in mounted if set(entry[3] or ()) & targets)
    if not found:
        raise DiskSnapError(
            'Failed to choose file systems to freeze',
            domain=domain.name,
            why=f'the guest has none mounted from the disks {", ".join(sorted(targets))}',
            hint='Leave disks out to freeze all.',
        )
    return found


def _freeze(held: t.Sequence[Held], quiesce: Quiesce, terms: Terms, policy: str, watchdog: Watchdog) -> None:
    """Freeze and hand over to the watchdog, or leave things as they were.

    The watchdog of a guest that something else froze may be known from its record alone, and ends when that is
    replaced. So the record stays until all guests are frozen, and from then on the guest is ours to thaw.
    """
    guests = [one.guest for one in held]
    token = secrets.token_hex(8)
    done = handed_over = False
    try:
        quiesce.flush(guests)
        _insist(guests, policy)
        for one in held:
            one.record = QuiesceRecord(_records.FREEZING, token, '', max_frozen=terms.max_frozen)
            if one.guest.error is None and not one.guest.foreign:
                _replace(one)
        quiesce.arm(guests, adopt=True)
        quiesce.freeze(guests)
        _insist(guests, policy)
        for one in held:
            if one.guest.error is None:
                _record(one, quiesce, watchdog)
        _insist(guests, policy)
        quiesce.give_up()
        for one in held:
            if one.guest.error is not None and not one.guest.stuck:
                _put_back(one)
        handed_over = True
        quiesce.hold(token)
        done = True
    finally:
        if not done:
            _take_back(held, quiesce, handed_over=handed_over)
    failed = [one for one in held if one.guest.error is not None]
    for one in failed:
        one.record = QuiesceRecord(_records.THAWED, '', '')
        one.warnings.append(str(one.guest.error) if one.guest.stuck else f'{one.guest.error} It is not frozen.')
    if failed:
        dismiss(watchdog.pid, watchdog.start)  # from those that are not frozen


def _take_back(held: t.Sequence[Held], quiesce: Quiesce, *, handed_over: bool) -> None:
    try:
        quiesce.finish()
    finally:
        for one in held:
            if handed_over and one.guest.stuck:
                continue  # the watchdog may go by this record
            with contextlib.suppress(DiskSnapError):  # why we are here matters more
                _put_back(one)


def _insist(guests: t.Sequence[Guest], policy: str) -> None:
    failed = [guest.error for guest in guests if guest.error is not None]
    if failed and policy == 'required':
        raise failed[0]


def _replace(one: Held) -> None:
    one.replaced = True
    _journal.store_quiesce(one.domain.handle, one.record)


def _record(one: Held, quiesce: Quiesce, watchdog: Watchdog) -> None:
    guest, record = one.guest, one.record
    adopted = guest.foreign
    record.state = _records.FROZEN
    record.frozen_at = _records.timestamp()
    record.filesystems, record.presynced = guest.filesystems, guest.presynced
    record.started_ns, record.boot_id = guest.started_ns or time.monotonic_ns(), _records.boot_id()
    record.watchdog_host, record.watchdog_pid, record.watchdog_start = (
        socket.gethostname(),
        watchdog.pid,
        watchdog.start,
    )
    if not adopted:
        _replace(one)
        return
    try:
        _replace(one)
        quiesce.adopt(guest)  # looks at it after the watchdog of before was told that it is no longer its own
        one.warnings.append(_adopted(one))
    except DiskSnapError as error:
        guest.error = error


def _adopted(one: Held) -> str:
    return f'The guest {one.domain.name} was frozen already, by something else; from now on the watchdog bounds it.'


def _put_back(one: Held) -> None:
    """The record of before, in the place of ours."""
    if one.replaced:
        _journal.store_quiesce(one.domain.handle, one.journal.quiesce)
        one.replaced = False


def _predict(held: t.Sequence[Held], terms: Terms, policy: str) -> None:
    for one in held:
        expected = Forecast(error=one.guest.error)
        if one.guest.error is None:
            expected = forecast(one.domain, replace(terms, mountpoints=one.guest.mountpoints))
        if expected.error is not None:
            if policy == 'required':
                raise expected.error
            one.guest.error = expected.error
            one.warnings.append(f'{expected.error} It would not be frozen.')
            continue
        if expected.frozen_already:
            one.warnings.append(_adopted(one))
        one.guest.frozen = True
        one.record = QuiesceRecord(
            _records.FROZEN,
            '',
            '',
            filesystems=expected.filesystems,
            presynced=expected.presynced,
            max_frozen=terms.max_frozen,
        )


# -- thawed ---------------------------------------------------------------------------------------------------


def thaw(host: Host, requests: t.Sequence[Request], terms: Terms, *, check: bool) -> dict[str, t.Any]:
    """Thaw all domains side by side, whoever froze them. Takes no lock: nothing may stand between a guest and its thaw.

    Raises:
        DiskSnapError: if one does not thaw; the others are thawed all the same.
    """
    held = [_open(domain) for domain in look_up(host, (request.name for request in requests))]
    side_by_side(lambda one: _thaw_one(one, terms, check=check), held)
    failed = [one.error for one in held if one.error is not None]
    outcome = _outcome(held, changed=any(one.changed for one in held), quiesced=False)
    if failed:
        failed[0].result = outcome
        raise failed[0]
    return outcome


def _thaw_one(one: Held, terms: Terms, *, check: bool) -> None:
    record = one.journal.quiesce
    count = 0
    try:
        agent = Agent(one.domain.handle, terms.agent_timeout) if one.domain.live else None
        if agent is not None:
            count = _would_thaw(agent, record) if check else _thaw_now(agent)
        ended_ns = time.monotonic_ns()
        one.changed = count > 0
        if agent is not None and not check:
            agent.unbound()
        if record is not None and not check:
            record = _journal.load(one.domain.handle).quiesce  # the watchdog may have noted something
        _conclude(one, record, count, None if check else ended_ns)
        if not check:
            _journal.reconcile(one.domain.handle)
    except DiskSnapError as error:
        # a guest that nobody froze and whose agent does not answer is not frozen by us: nothing to thaw
        if record is None and not _is_frozen(one, terms):
            one.warnings.append(f'{error} Nothing of this collection had frozen it.')
        else:
            one.error = error


def _thaw_now(agent: Agent) -> int:
    agent.bound()
    return agent.thaw()


def _would_thaw(agent: Agent, record: QuiesceRecord | None) -> int:
    """How many file systems a thaw now would count. The agent tells only whether there are any."""
    if not agent.frozen():
        return 0
    return max(1, record.filesystems if record else 0)


def _is_frozen(one: Held, terms: Terms) -> bool:
    try:
        return Agent(one.domain.handle, terms.agent_timeout).frozen()
    except DiskSnapError:
        return False


def _conclude(one: Held, record: QuiesceRecord | None, count: int, ended_ns: int | None) -> None:
    """Say who thawed, warn where it was not us in time, and close the journal's entry.

    Args:
        ended_ns: when the thaw had ended, by the monotonic clock; None in check mode, in which nothing is closed.
    """
    if record is None:
        if count:
            one.record.thawed_by = 'module'
            if ended_ns is not None:
                one.record.thawed_at, one.record.filesystems = _records.timestamp(), count
        return
    one.record = record
    if record.state != _records.THAWED:
        who = 'module' if count and count >= record.filesystems else 'guest'
        if ended_ns is None:
            record.thawed_by = who
        else:
            _records.end_quiesce(record, who, ended_ns)
    if count < record.filesystems or not count:
        others = {'watchdog': f'the watchdog, as max_frozen ({record.max_frozen:g} s) had passed'}
        one.warnings.append(
            f'The guest {one.domain.name} had been thawed before, by '
            f'{others.get(record.thawed_by or "", "itself or someone else")}: '
            'what was taken in between is not file-system consistent.'
        )
    if ended_ns is not None:
        _journal.store_quiesce(one.domain.handle, None)
        if _here(record):
            dismiss(record.watchdog_pid, record.watchdog_start)
    one.changed = True
