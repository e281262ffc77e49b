# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine: one snapshot over any mix of domains and methods, whole or not there.

plan -> prepare -> freeze -> commit -> thaw -> finish. All that is slow comes before the first freeze or after the
last thaw. The journal says what is about to happen before it does, so that the next run can undo what a killed one
began (``_settle.py``).

Where other hosts take part, a barrier stands before each step from the freeze on, guests stand still in the order of
their ranks and go on in the reverse one, and a guest that cannot be frozen is paused for as long: all disks of all
hosts are of one instant. The last word, that all hosts have taken it, comes to a later process.
"""

from __future__ import annotations

import time
import typing as t
import uuid
from dataclasses import dataclass, field

from ansible_collections.disksnap.libvirt.plugins.module_utils import _journal, _records, _rescue
from ansible_collections.disksnap.libvirt.plugins.module_utils._barrier import COMMIT, FREEZE, THAW, Barrier
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.base import DiskMethod, DiskPlan, Subject
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.by_play import (
    IDENTITY,
    key_of,
    may_have,
    volume,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.registry import method_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._pause import Pause
from ansible_collections.disksnap.libvirt.plugins.module_utils._quiesce import Guest, Quiesce, side_by_side
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    DiskRecord,
    FreezeRecord,
    Journal,
    SnapshotRecord,
)

REQUIRED, PREFERRED, NONE = 'required', 'preferred', 'none'


@dataclass(frozen=True)
class Fleet:
    """What a snapshot that spans hosts adds to the task of one of them.

    ``group`` is the same on all hosts. ``ranks`` is how many steps the freeze is made of: guests of rank 0 are frozen
    first and thawed last. ``patience``: seconds that the play may leave this host without a word.
    """

    barrier: Barrier
    group: str
    ranks: int
    max_frozen: float
    patience: float


@dataclass
class Member:
    """One domain in the snapshot: what is planned for it and how far it got.

    ``existing`` is the journal's entry where this domain has the snapshot already; then nothing is planned.
    """

    domain: Domain
    subject: Subject
    journal: Journal
    rank: int = 0
    existing: SnapshotRecord | None = None
    plans: list[tuple[DiskMethod, DiskPlan]] = field(default_factory=list)
    record: SnapshotRecord | None = None
    guest: Guest | None = None
    committed: bool = False
    pause: bool = False
    error: DiskSnapError | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def result(self) -> SnapshotRecord:
        """The entry that describes the snapshot, old or new."""
        record = self.existing or self.record
        if record is None:
            raise ValueError('draft() comes first')
        return record

    def by_method(self) -> list[tuple[DiskMethod, list[DiskPlan]]]:
        """The plans of each method together, in the order in which the disks came."""
        grouped: dict[str, tuple[DiskMethod, list[DiskPlan]]] = {}
        for method, one in self.plans:
            grouped.setdefault(method.name, (method, []))[1].append(one)
        return list(grouped.values())


def draft(members: t.Sequence[Member], description: str | None, group: str | None = None) -> None:
    """Give each new member the record that its plans add up to, all of one group (a new one, or this) and one time."""
    group, now = group or str(uuid.uuid4()), _records.timestamp()
    for member in members:
        if member.existing is None:
            member.record = SnapshotRecord(
                name=member.subject.snapshot_name,
                state=_records.PREPARING,
                created_at=now,
                group=group,
                description=description,
                consistency='crash' if member.subject.live else 'offline',
                disks=[one.record for _method, one in member.plans],
                owner=_records.owner(),
            )


class Transaction:
    """Takes the snapshot of all new members, or leaves none of them changed.

    Args:
        members: planned and drafted.
        quiesce: the freeze to use; None for ``quiesce: none``.
        policy: ``required``, ``preferred`` or ``none``.
        pause: stops vCPUs where disks are copied of a guest that could not be frozen.
        fleet: where other hosts take part; the snapshot is left as ``committed`` then.
    """

    def __init__(
        self,
        members: t.Sequence[Member],
        quiesce: Quiesce | None,
        policy: str,
        pause: Pause,
        fleet: Fleet | None = None,
    ) -> None:
        self._members = [member for member in members if member.existing is None]
        self._quiesce = quiesce
        self._policy = policy
        self._pause = pause
        self._fleet = fleet
        self._until: float | None = None

    def run(self) -> None:
        """Run all steps.

        Raises:
            DiskSnapError: after everything was undone; it says so, or what is left.
        """
        if not self._members:
            return
        try:
            self._prepare()
            self._take()
            self._judge()
            self._finish()
        except DiskSnapError as error:
            self._undo(error)
            raise
        except BaseException:
            self._undo(None)
            raise

    # -- steps --------------------------------------------------------------------------------------------

    def _note(self, state: str) -> None:
        for member in self._members:
            member.result.state = state
            member.journal.snapshots[member.result.name] = member.result
            _journal.store(member.domain.handle, member.journal)

    def _prepare(self) -> None:
        for member in self._members:
            member.result.pauses = self._fleet is None and self._may_pause(member)
        self._note(_records.PREPARING)
        for member in self._members:
            for method, plans in member.by_method():
                method.prepare(member.subject, plans)
        self._note(_records.COMMITTING)
        if self._fleet is not None:
            self._fleet.barrier.tell(volumes=self._volumes(self._fleet.group))

    def _volumes(self, group: str) -> list[dict[str, t.Any]]:
        """Those that tasks of the play are to have an array take."""
        plans = [(member.domain, method, one) for member in self._members for method, one in member.plans]
        return [volume(domain, one.record, group) for domain, method, one in plans if method.by_play]

    def _take(self) -> None:
        """Freeze all, then commit and thaw each: every guest stands still while any is committed, no longer."""
        try:
            self._stop()
            self._identify(self._pass(COMMIT))
            side_by_side(self._commit_one, self._members)
            failed = [member.error for member in self._members if member.error is not None]
            if failed:
                raise failed[0]
            for rank in reversed(self._ranks):
                if self._ordered:
                    self._pass(THAW)
                    side_by_side(self._go, [member for member in self._members if member.rank == rank])
        finally:
            try:
                self._pause.end()
            finally:
                if self._quiesce is not None:
                    self._quiesce.finish()

    @property
    def _ranks(self) -> range:
        return range(self._fleet.ranks if self._fleet is not None else 1)

    @property
    def _ordered(self) -> bool:
        """Whether guests go on one rank after the other, and not each as soon as its own disks are taken."""
        return len(self._ranks) > 1

    def _pass(self, step: str) -> dict[str, t.Any]:
        """Wait until all hosts have come to this step; what the play says beside it.

        From the first freeze on, it waits no longer than until the watchdog's deadline.
        """
        if self._fleet is None:
            return {}
        beside = self._fleet.barrier.wait(step, until=self._until)
        if self._until is None:
            self._until = time.monotonic() + self._fleet.max_frozen
        return beside

    def _identify(self, beside: dict[str, t.Any]) -> None:
        """Tell the methods what the tasks of the play have had an array take."""
        identities = beside.get('identities') or {}
        for member in self._members:
            for _method, one in member.plans:
                one.notes[IDENTITY] = identities.get(key_of(member.domain, one.record))

    def _stop(self) -> None:
        """Bring the guests to a standstill: by a freeze, or by a pause where that is needed and other hosts wait."""
        guests = self._guests() if self._quiesce is not None else []
        if self._quiesce is not None:
            self._quiesce.flush(guests)
            self._insist(guests)
        else:  # a pause is ended by such a watchdog as well
            _rescue.await_end([member.domain.uuid for member in self._members if member.subject.live])
        for rank in self._ranks:
            self._pass(FREEZE)
            if rank == 0:
                self._refuse_changed()
            if self._quiesce is not None:
                if rank == 0:
                    self._quiesce.arm(guests)
                self._quiesce.freeze([m.guest for m in self._members if m.rank == rank and m.guest is not None])
                self._insist(guests)
        for member in self._members:
            member.pause = self._needs_pause(member)
        paused = [member for member in self._members if member.pause]
        if self._until is not None:
            self._pause.limit = max(0.0, self._until - time.monotonic())
        self._pause.watch([member.domain for member in paused])
        if self._fleet is not None:
            for member in paused:
                member.result.pauses = True
                _journal.store(member.domain.handle, member.journal)
            side_by_side(self._pause.stop, [member.domain for member in paused])

    def _refuse_changed(self) -> None:
        """Other hosts had to be waited for: the disks must still be those for which all was prepared."""
        for member in self._members if self._fleet is not None else ():
            now = {disk.target: disk.source for disk in member.domain.read().disks}
            for _method, one in member.plans:
                source = now.get(one.disk.target)
                if source is None or source.key != one.disk.active.key:
                    raise DiskSnapError(
                        'Failed to take the snapshot',
                        domain=member.domain.name,
                        disk=one.disk.target,
                        why=f'it is {source.key if source else "gone"} now, and was {one.disk.active.key} before',
                        hint='Run the play again. Nothing was changed.',
                    )

    def _guests(self) -> list[Guest]:
        mountpoints = self._quiesce.mountpoints if self._quiesce is not None else ()
        for member in self._members:
            if member.subject.live:
                domain = member.domain
                member.guest = Guest(domain.handle, domain.name, domain.uuid, mountpoints)
        return [member.guest for member in self._members if member.guest is not None]

    def _insist(self, guests: t.Sequence[Guest]) -> None:
        """With ``required``, one guest that cannot be frozen ends it for all."""
        failed = [guest.error for guest in guests if guest.error is not None]
        if failed and self._policy == REQUIRED:
            raise failed[0]

    def _commit_one(self, member: Member) -> None:
        try:
            if member.pause and self._fleet is None:
                self._pause.stop(member.domain)
            try:
                for method, plans in member.by_method():
                    method.commit(member.subject, plans)
                member.committed = True
            finally:
                if not self._ordered:
                    self._go(member)
        except DiskSnapError as error:
            member.error = error
        except Exception as error:
            member.error = DiskSnapError('Failed to take the snapshot', domain=member.domain.name, why=str(error))

    def _go(self, member: Member) -> None:
        """Have the guest run on.

        Raises:
            DiskSnapError: if it was paused, and does not run or did not stand still until now.
        """
        try:
            if member.pause:
                self._pause.go(member.domain)
        finally:
            if self._quiesce is not None and member.guest is not None:
                self._quiesce.thaw(member.guest)

    def _needs_pause(self, member: Member) -> bool:
        """Whether nothing of the guest may run during the commit.

        Copies of several disks of a guest that is not frozen fit one another only then. And a qcow2 image that is
        copied must have been written out: the flush of a freeze does that, and so does QEMU when it stops the vCPUs.
        Of one instant with guests of other hosts is only what stands still while theirs do.
        """
        return self._may_pause(member) and not self._all_frozen(member)

    def _may_pause(self, member: Member) -> bool:
        still = any(one.still for _method, one in member.plans)
        copies = any(method.copies for method, _one in member.plans)
        wanted = self._fleet is not None or still or (copies and len(member.plans) > 1)
        return wanted and member.domain.state == 'running'

    def _all_frozen(self, member: Member) -> bool:
        """Whether every file system of the guest stands still, not only those that the task names."""
        partly = self._quiesce is not None and bool(self._quiesce.mountpoints)
        return member.guest is not None and member.guest.frozen and not partly

    # -- verdict ------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        """Say of each member what its guest's freeze amounts to; with ``required``, refuse what is not proved."""
        for member in self._members:
            guest, record = member.guest, member.result
            if guest is None:
                continue
            member.warnings += guest.warnings
            if guest.filesystems or guest.foreign:
                record.freeze = FreezeRecord(
                    guest.filesystems, guest.presynced, guest.window_ms, guest.thawed_by, guest.frozen_at
                )
            if guest.error is None and guest.held:
                record.consistency = 'filesystem'
                continue
            doubt = self._doubt(member, guest)
            # one that ran while others were taken is not of their instant, and not even of one of its own
            if self._policy == REQUIRED or (self._fleet is not None and guest.error is None):
                raise doubt
            member.warnings.append(f'{doubt} The snapshot is crash-consistent.')

    def _doubt(self, member: Member, guest: Guest) -> DiskSnapError:
        if guest.error is not None:
            return guest.error
        who = {'watchdog': 'the watchdog, as max_frozen had passed', 'guest': 'the guest itself or someone else'}
        why = f'it was thawed by {who.get(guest.thawed_by or "", "someone else")}'
        if guest.ended:
            why = 'the domain has stopped'
        elif guest.stuck:
            why = 'its agent has not confirmed the thaw, with which the watchdog goes on'
        return DiskSnapError(
            'Failed to keep the guest frozen until its disks were taken', domain=member.domain.name, why=why
        )

    def _finish(self) -> None:
        for member in self._members:
            for method, plans in member.by_method():
                method.finish(member.subject, plans)
        if self._fleet is None:
            self._note(_records.PRESENT)
            return
        for member in self._members:
            member.result.decide_by = _records.timestamp(ahead=self._fleet.patience)
        self._note(_records.COMMITTED)

    # -- undo ---------------------------------------------------------------------------------------------

    def _undo(self, cause: DiskSnapError | None) -> None:
        """Undo every member; what cannot be undone stays in the journal and is added to the cause."""
        left = []
        for member in self._members:
            try:
                undo(member.domain, member.journal, member.subject.snapshot_name)
            except DiskSnapError as error:
                left.append(str(error))
        if cause is not None and left:
            cause.result['left'] = left
            cause.hint = f'{cause.hint or ""} Undoing it failed too: {" ".join(left)} The next run tries again.'.strip()


def refuse_by_play(domain: Domain, disks: t.Iterable[DiskRecord], name: str) -> None:
    """Refuse to undo what an array may have.

    Raises:
        DiskSnapError: if it may.
    """
    for disk in disks:
        if method_of(disk.method).by_play and not disk.gone:
            raise may_have(domain, disk, name)


def undo(domain: Domain, journal: Journal, name: str) -> None:
    """Undo one domain's entry by each of its methods, from whatever point it reached, and forget it.

    Raises:
        DiskSnapError: if something is left; the entry then stays for the next run.
    """
    record = journal.snapshots.get(name)
    if record is None:
        return
    with explained('Failed to undo the snapshot', domain=domain.name):
        methods = dict.fromkeys(disk.method for disk in record.disks)
        # what the play alone can undo keeps nothing else from being undone
        for method in sorted(methods, key=lambda name: method_of(name).by_play):
            disks = [disk for disk in record.disks if disk.method == method]
            refuse_by_play(domain, disks, name)
            method_of(method).rollback(domain, disks)
    now = _journal.load(domain.handle)  # merging back has changed it
    now.snapshots.pop(name, None)
    _journal.store(domain.handle, now)
    journal.snapshots, journal.merges = now.snapshots, now.merges
