# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``storage_quiesce``: a freeze that outlives its task, and the thaw that ends it.

Between the two tasks nothing of ours runs but the watchdog; what it and the thaw must know of one another is in
the journal of each domain.
"""

from __future__ import annotations

import secrets
import socket
import time
import typing as t
from dataclasses import dataclass, field

from ansible_collections.disksnap.libvirt.plugins.module_utils import _journal, _result
from ansible_collections.disksnap.libvirt.plugins.module_utils._agent import Agent
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._forecast import forecast
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain, Host
from ansible_collections.disksnap.libvirt.plugins.module_utils._journal import Journal, QuiesceRecord
from ansible_collections.disksnap.libvirt.plugins.module_utils._lock import locked
from ansible_collections.disksnap.libvirt.plugins.module_utils._quiesce import Guest, Quiesce, Terms, side_by_side
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import Request
from ansible_collections.disksnap.libvirt.plugins.module_utils._watchdog import Watchdog, dismiss, process_start
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import find_disk

LOCK_WAIT = 60.0


@dataclass
class Held:
    """One domain of the task. ``unchanged`` says that it was in the wanted state before."""

    domain: Domain
    journal: Journal
    guest: Guest
    unchanged: bool = False
    error: DiskSnapError | None = None
    warnings: list[str] = field(default_factory=list)
    record: QuiesceRecord = field(default_factory=lambda: QuiesceRecord(_journal.THAWED, '', ''))

    @property
    def frozen(self) -> bool:
        """Whether the guest stands still by our doing or with our watchdog over it."""
        return self.unchanged or (self.guest.error is None and self.guest.frozen)


def _open(host: Host, requests: t.Sequence[Request]) -> list[Held]:
    found = []
    for request in requests:
        domain = host.domain(request.name)
        guest = Guest(domain.handle, domain.name, domain.uuid)
        found.append(Held(domain, _journal.load(domain.handle), guest))
    return found


def _outcome(held: t.Sequence[Held], *, changed: bool, quiesced: bool) -> dict[str, t.Any]:
    return {
        'changed': changed,
        'domains': [
            _result.quiesce(one.domain, one.record, 'quiesced' if quiesced and one.frozen else 'thawed') for one in held
        ],
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
    held = _open(host, requests)
    for one, request in zip(held, requests):
        one.guest.mountpoints = _mountpoints(one.domain, request, terms)
        _recognise(one)
    fresh = [one for one in held if not one.unchanged]
    if watchdog is None or check:
        _predict(fresh, terms, policy)
        return _outcome(held, changed=bool(fresh), quiesced=True)
    with locked([one.domain for one in fresh], wait=LOCK_WAIT):
        _freeze(fresh, Quiesce(watchdog, terms), terms, policy, watchdog)
    return _outcome(held, changed=any(one.frozen for one in fresh), quiesced=True)


def _mountpoints(domain: Domain, request: Request, terms: Terms) -> tuple[str, ...]:
    """The mount points to freeze: those named, or those on the disks named; empty for all."""
    if request.disks is None or terms.mountpoints:
        return terms.mountpoints
    disks = domain.read().disks
    targets = {find_disk(disks, entry['target'], domain.name).target for entry in request.disks}
    Agent(domain.handle, terms.agent_timeout).bound()
    with explained('Failed to ask which file systems are on the disks', domain=domain.name):
        mounted = domain.handle.fsInfo(0)
    found = tuple(entry[0] for entry in mounted if set(entry[3] or ()) & targets)
    if not found:
        raise DiskSnapError(
            'Failed to choose file systems to freeze',
            domain=domain.name,
            why=f'the guest has none mounted from the disks {", ".join(sorted(targets))}',
            hint='Leave disks out to freeze all.',
        )
    return found


def _recognise(one: Held) -> None:
    """A guest that an earlier task froze, with its watchdog alive, is left as it is."""
    record = one.journal.quiesce
    if record is None or record.state != _journal.FROZEN or record.boot_id != _journal.boot_id():
        return
    if process_start(record.watchdog_pid) == record.watchdog_start != 0:
        one.record, one.unchanged = record, True


def _freeze(held: t.Sequence[Held], quiesce: Quiesce, terms: Terms, policy: str, watchdog: Watchdog) -> None:
    guests = [one.guest for one in held]
    token = secrets.token_hex(8)
    done = False
    try:
        quiesce.flush(guests)
        _insist(guests, policy)
        for one in held:
            if one.guest.error is None:
                one.record = QuiesceRecord(_journal.FREEZING, token, '', max_frozen=terms.max_frozen)
                one.journal.quiesce = one.record
                _journal.store_quiesce(one.domain.handle, one.record)
        quiesce.freeze(guests, adopt=True)
        _insist(guests, policy)
        for one in held:
            _record(one, watchdog)
        quiesce.hold(token)
        done = True
    finally:
        if not done:
            quiesce.finish()
            for one in held:
                _forget(one)
    for one in held:
        if one.guest.error is not None:
            one.warnings.append(f'{one.guest.error} It is not frozen.')


def _insist(guests: t.Sequence[Guest], policy: str) -> None:
    failed = [guest.error for guest in guests if guest.error is not None]
    if failed and policy == 'required':
        raise failed[0]


def _record(one: Held, watchdog: Watchdog) -> None:
    guest, record = one.guest, one.record
    if guest.error is not None:
        _forget(one)
        return
    if guest.foreign:
        one.warnings.append(
            f'The guest {one.domain.name} was frozen already, by something else; from now on the watchdog bounds it.'
        )
    record.state = _journal.FROZEN
    record.frozen_at = _journal.timestamp()
    record.filesystems, record.presynced = guest.filesystems, guest.presynced
    record.started_ns, record.boot_id = guest.started_ns, _journal.boot_id()
    record.watchdog_host, record.watchdog_pid, record.watchdog_start = (
        socket.gethostname(),
        watchdog.pid,
        watchdog.start,
    )
    _journal.store_quiesce(one.domain.handle, record)


def _forget(one: Held) -> None:
    if one.journal.quiesce is not None:
        one.journal.quiesce = None
        _journal.store_quiesce(one.domain.handle, None)
    one.record = QuiesceRecord(_journal.THAWED, '', '')


def _predict(held: t.Sequence[Held], terms: Terms, policy: str) -> None:
    for one in held:
        expected = forecast(one.domain, terms)
        if expected.error is not None:
            if policy == 'required':
                raise expected.error
            one.guest.error = expected.error
            one.warnings.append(f'{expected.error} It would not be frozen.')
            continue
        one.guest.frozen = True
        one.record = QuiesceRecord(
            _journal.FROZEN,
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
    held = _open(host, requests)
    if check:
        changed = bool([one for one in held if _would_thaw(one, terms)])
        return _outcome(held, changed=changed, quiesced=False)
    side_by_side(lambda one: _thaw_one(one, terms), held)
    failed = [one.error for one in held if one.error is not None]
    outcome = _outcome(held, changed=any(not one.unchanged for one in held), quiesced=False)
    if failed:
        failed[0].result = outcome
        raise failed[0]
    return outcome


def _would_thaw(one: Held, terms: Terms) -> bool:
    if one.journal.quiesce is not None:
        one.record = one.journal.quiesce
    try:
        frozen = one.domain.state == 'running' and Agent(one.domain.handle, terms.agent_timeout).frozen()
    except DiskSnapError:
        return False
    if frozen:
        one.record.thawed_by = 'module'
    return frozen


def _thaw_one(one: Held, terms: Terms) -> None:
    record = one.journal.quiesce
    count = 0
    try:
        if one.domain.live:
            agent = Agent(one.domain.handle, terms.agent_timeout)
            agent.bound()
            count = agent.thaw()
            ended_ns = time.monotonic_ns()
            agent.unbound()
        else:
            ended_ns = time.monotonic_ns()
        _conclude(one, _journal.load(one.domain.handle).quiesce if record else None, count, ended_ns)
    except DiskSnapError as error:
        # a guest that nobody froze and whose agent does not answer is not frozen by us: nothing to thaw
        if record is None and not _is_frozen(one, terms):
            one.unchanged = True
            one.warnings.append(f'{error} Nothing of this collection had frozen it.')
        else:
            one.error = error


def _is_frozen(one: Held, terms: Terms) -> bool:
    try:
        return Agent(one.domain.handle, terms.agent_timeout).frozen()
    except DiskSnapError:
        return False


def _conclude(one: Held, record: QuiesceRecord | None, count: int, ended_ns: int) -> None:
    """Say who thawed, warn where it was not us in time, and close the journal's entry."""
    if record is None:
        one.unchanged = count == 0
        if count:
            one.record.thawed_by, one.record.thawed_at = 'module', _journal.timestamp()
            one.record.filesystems = count
        return
    one.record = record
    if record.state != _journal.THAWED:
        _journal.end_quiesce(record, 'module' if count else 'guest', ended_ns)
    if count < record.filesystems or not count:
        who = {'watchdog': f'the watchdog, as max_frozen ({record.max_frozen:g} s) had passed'}
        one.warnings.append(
            f'The guest {one.domain.name} had been thawed before, by '
            f'{who.get(record.thawed_by or "", "itself or someone else")}: '
            'what was taken in between is not file-system consistent.'
        )
    _journal.store_quiesce(one.domain.handle, None)
    dismiss(record.watchdog_pid, record.watchdog_start)
