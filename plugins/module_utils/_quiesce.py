# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Freeze and thaw a group of guests side by side, with the watchdog armed before the first freeze."""

from __future__ import annotations

import contextlib
import threading
import time
import typing as t
from dataclasses import dataclass, field

from ansible_collections.disksnap.libvirt.plugins.module_utils import _rescue
from ansible_collections.disksnap.libvirt.plugins.module_utils._agent import Agent
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained, state_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import timestamp
from ansible_collections.disksnap.libvirt.plugins.module_utils._watchdog import Watchdog

T = t.TypeVar('T')


@dataclass(frozen=True)
class Terms:
    """The options of a freeze, as the contract names them; times in seconds."""

    max_frozen: float = 10.0
    agent_timeout: float = 5.0
    presync: bool = True
    mountpoints: tuple[str, ...] = ()


@dataclass
class Guest:
    """One running guest and what became of its freeze.

    ``error`` is why it could not be frozen; ``foreign`` says that it was frozen before we came, so that it is not
    ours to thaw; ``held`` is True once it was seen frozen after the work (None: not looked yet); ``stuck`` says that
    it did not confirm its thaw, ``ended`` that it does not run any more.
    """

    domain: t.Any
    name: str
    uuid: str
    mountpoints: tuple[str, ...] = ()
    filesystems: int = 0
    presynced: bool = False
    foreign: bool = False
    frozen: bool = False
    started_ns: int = 0
    frozen_at: str | None = None
    window_ms: float | None = None
    thawed_by: str | None = None
    held: bool | None = None
    stuck: bool = False
    ended: bool = False
    error: DiskSnapError | None = None
    warnings: list[str] = field(default_factory=list)


def side_by_side(action: t.Callable[[T], None], items: t.Sequence[T]) -> None:
    """Run ``action`` on all items at once, one thread each (libvirt calls release the GIL).

    ``action`` keeps the errors that it expects; the first that it does not is raised here, once all have ended. One
    item needs no thread. Each action is bounded by the agent timeouts that it sets, so the join needs no deadline of
    its own.
    """
    if len(items) <= 1:
        for item in items:
            action(item)
        return
    unexpected: list[BaseException] = []

    def kept(item: T) -> None:
        try:
            action(item)
        except BaseException as error:
            unexpected.append(error)

    threads = [threading.Thread(target=kept, args=(item,)) for item in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if unexpected:
        raise unexpected[0]


def not_running(domain: str) -> DiskSnapError:
    """The error for a guest whose agent cannot answer since its vCPUs stand still."""
    return DiskSnapError(
        'Failed to freeze the file systems of the guest',
        domain=domain,
        why='the domain is not running',
        hint='A paused guest cannot answer; resume it, or do without the freeze (quiesce: none or preferred).',
    )


def still_rescued(domain: str) -> DiskSnapError:
    """The error for a guest whose freeze an earlier run's watchdog would end at any moment."""
    return DiskSnapError(
        'Failed to freeze the file systems of the guest',
        domain=domain,
        why='the watchdog of an earlier run still tries to thaw it',
        hint='Its agent does not answer that one, or too late: see to the guest, and run the task again.',
    )


def too_few(domain: str, mountpoints: t.Sequence[str], count: int) -> DiskSnapError:
    """The error for mount points that the guest does not have: its agent passes over them without a word."""
    return DiskSnapError(
        'Failed to freeze the file systems of the guest',
        domain=domain,
        why=f'of the {len(set(mountpoints))} mount points named ({", ".join(mountpoints)}) it has {count} to freeze',
        hint='Name mount points as virsh domfsinfo shows them.',
    )


class Quiesce:
    """One freeze of one group: ``flush``, ``arm``, ``freeze``, the caller's work, ``thaw`` (per guest), ``finish``.

    Args:
        watchdog: forked before the connection was opened.
        terms: the options.
    """

    def __init__(self, watchdog: Watchdog, terms: Terms) -> None:
        self._watchdog = watchdog
        self._terms = terms
        self._armed: list[Guest] = []
        self._bounded: list[Guest] = []

    @property
    def mountpoints(self) -> tuple[str, ...]:
        """What the task wants frozen; empty for all."""
        return self._terms.mountpoints

    def agent(self, guest: Guest) -> Agent:
        """The agent of a guest, bounded by the terms."""
        return Agent(guest.domain, self._terms.agent_timeout)

    def flush(self, guests: t.Sequence[Guest]) -> None:
        """Find out whether each agent answers and whether its guest is frozen already; have it sync.

        Everything slow happens here, before the first freeze; watchdogs of earlier runs are waited for. Sets
        ``error``, ``foreign`` and ``presynced``; a guest that has an error is passed over.
        """
        self._bounded = list(guests)
        rescued = _rescue.await_end([guest.uuid for guest in guests if guest.error is None])
        for guest in guests:
            if guest.uuid in rescued:
                guest.error = still_rescued(guest.name)
        side_by_side(self._flush_one, guests)

    def _flush_one(self, guest: Guest) -> None:
        agent = self.agent(guest)
        if guest.error is not None:
            return
        try:
            if state_of(guest.domain) != 'running':
                raise not_running(guest.name)
            agent.bound()
            if agent.frozen():
                guest.foreign = guest.frozen = True
            elif self._terms.presync:
                guest.presynced = agent.sync()
        except DiskSnapError as error:
            guest.error = error

    def arm(self, guests: t.Sequence[Guest], *, adopt: bool = False) -> None:
        """Have the watchdog thaw these guests when their time is over, whatever happens from here on.

        Args:
            guests: after ``flush``; those with an error are passed over.
            adopt: have the watchdog thaw those too that something else has frozen.

        Raises:
            DiskSnapError: if the watchdog cannot be armed; then nothing may be frozen.
        """
        ready = [guest for guest in guests if guest.error is None]
        self._armed = [guest for guest in ready if not guest.foreign]
        watched = ready if adopt else self._armed
        if watched:
            self._watchdog.arm([guest.uuid for guest in watched], self._terms.max_frozen, self._terms.agent_timeout)

    def freeze(self, guests: t.Sequence[Guest]) -> None:
        """Freeze those of them that were armed, side by side. Sets ``frozen`` or ``error`` of each guest."""
        armed = {guest.uuid for guest in self._armed}
        side_by_side(self._freeze_one, [guest for guest in guests if guest.uuid in armed])

    def _freeze_one(self, guest: Guest) -> None:
        guest.frozen_at, guest.started_ns = timestamp(), time.monotonic_ns()
        wanted = guest.mountpoints
        try:
            guest.filesystems = self.agent(guest).freeze(wanted)
            guest.frozen = guest.filesystems > 0
            if wanted and guest.filesystems < len(set(wanted)):
                raise too_few(guest.name, wanted, guest.filesystems)
            if not guest.frozen:
                raise DiskSnapError(
                    'Failed to freeze the file systems of the guest',
                    domain=guest.name,
                    why='the agent found none to freeze',
                )
        except DiskSnapError as error:
            guest.error = error

    def thaw(self, guest: Guest) -> None:
        """Thaw one guest and tell from the count whether it was frozen to the last; one round trip.

        Sets ``held``, ``window_ms`` and ``thawed_by``. Never raises: what does not thaw is the watchdog's.
        """
        if guest.foreign:
            guest.held = self._still_frozen(guest)
            return
        if not guest.frozen:
            return
        agent = self.agent(guest)
        try:
            count = agent.thaw()
        except DiskSnapError as error:
            guest.warnings.append(str(error))
            guest.held = None
            return
        guest.window_ms = round((time.monotonic_ns() - guest.started_ns) / 1e6, 1)
        guest.frozen = False
        guest.held = count >= guest.filesystems
        guest.thawed_by = 'module' if guest.held else None  # fewer: the others were thawed by someone else before

    def _still_frozen(self, guest: Guest) -> bool:
        try:
            return self.agent(guest).frozen()
        except DiskSnapError:
            return False

    def adopt(self, guest: Guest) -> None:
        """A guest that something else has frozen is ours to thaw from now on.

        Raises:
            DiskSnapError: if it is not frozen any more.
        """
        guest.foreign = False
        self._armed.append(guest)
        guest.started_ns = time.monotonic_ns()
        if not self.agent(guest).frozen():
            guest.frozen = False
            raise DiskSnapError(
                'Failed to keep the guest frozen',
                domain=guest.name,
                why='what had frozen it has thawed it meanwhile',
                hint='Run the task again.',
            )

    def give_up(self, *, limit: float = 10.0) -> None:
        """Thaw those that could not be frozen, wholly or in time; one that does not confirm it is ``stuck``."""
        self._thaw_surely([guest for guest in self._armed if guest.error is not None], limit)

    def finish(self, *, limit: float = 10.0) -> None:
        """End it: make sure that every guest we may have frozen is thawed, learn who thawed it, let the watchdog go.

        Args:
            limit: seconds to spend on guests that do not thaw; the watchdog goes on with them after that.
        """
        try:
            self._finish(limit)
        finally:
            for guest in self._bounded:
                self.agent(guest).unbound()

    def _finish(self, limit: float) -> None:
        doubtful = [guest for guest in self._armed if guest.frozen or guest.error is not None or guest.held is None]
        by_watchdog: t.Collection[str] = ()
        try:
            self._thaw_surely(doubtful, limit)
        finally:
            by_watchdog = self._watchdog.disarm(stuck=[guest.uuid for guest in doubtful if guest.stuck])
        for guest in self._armed:
            if guest.thawed_by is None and guest.filesystems and not guest.ended:
                watchdog = guest.uuid in by_watchdog or guest.stuck  # it has done so, or will
                guest.thawed_by = 'watchdog' if watchdog else 'guest' if guest.held is False else 'module'

    def _thaw_surely(self, guests: t.Sequence[Guest], limit: float) -> None:
        """Thaw until each has confirmed it. One that has not, for whatever reason, is ``stuck``."""
        deadline = time.monotonic() + limit
        for guest in guests:
            guest.stuck = True

        def thaw_one(guest: Guest) -> None:
            agent = self.agent(guest)
            with contextlib.suppress(DiskSnapError), explained('Failed to thaw', domain=guest.name):
                if guest.domain.connect().isAlive() and agent.thaw_surely(deadline):
                    guest.stuck, guest.ended = False, not agent.runs()
            if guest.frozen and not guest.stuck:
                guest.frozen = False
                if not guest.ended:
                    guest.window_ms = round((time.monotonic_ns() - guest.started_ns) / 1e6, 1)

        try:
            side_by_side(thaw_one, guests)
        finally:
            for guest in guests:
                if guest.stuck:
                    guest.warnings.append(
                        f'The guest {guest.name} has not confirmed that it is thawed; the watchdog goes on trying. '
                        'virsh domfsthaw does the same by hand.'
                    )

    def hold(self, token: str) -> None:
        """Leave the guests frozen on purpose: the watchdog thaws them at the deadline if nobody does before.

        Raises:
            DiskSnapError: if the watchdog does not answer; the guests are still frozen then, and the caller must thaw.
        """
        self._watchdog.hold(token)
