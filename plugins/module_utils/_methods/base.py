# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a snapshot method is: small steps, each of which can be undone.

The engine (``_snapshot.py``) plans all disks of all domains, prepares them, freezes the guests, commits, thaws and
finishes. A method knows one kind of storage and nothing of the other disks, of freezing, or of the journal.
"""

from __future__ import annotations

import abc
import typing as t
from dataclasses import dataclass, field

from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import DiskRecord
from ansible_collections.disksnap.libvirt.plugins.module_utils._space import Need
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import Method


@dataclass(frozen=True)
class Subject:
    """One domain in one snapshot: what every step of a method is told.

    ``reclaimed`` are paths of volumes that an interrupted run left and that are gone by the time the snapshot is taken
    (check mode only).
    """

    domain: Domain
    live: bool
    snapshot_name: str
    description: str | None = None
    reclaimed: frozenset[str] = frozenset()


@dataclass
class DiskPlan:
    """What will be done to one disk: the record as it will stand in the journal.

    ``shared`` names what a new volume is of, where the method lets disks share one: they can only if it is equal.
    ``still``: its image has metadata of its own (qcow2), which QEMU must have written out, and must not change, while
    the image is copied. A frozen guest sees to that, and so do stopped vCPUs.
    """

    disk: Disk
    method: Method
    record: DiskRecord
    still: bool = False
    shared: str | None = None
    notes: dict[str, t.Any] = field(default_factory=dict)


def one_each(plans: t.Iterable[DiskPlan]) -> list[DiskPlan]:
    """The first plan of each new volume, where disks share one; ``shared`` is equal for all of them by then."""
    first: dict[str, DiskPlan] = {}
    for plan in plans:
        first.setdefault(plan.record.volumes[0].path, plan)
    return list(first.values())


class DiskMethod(abc.ABC):
    """One way to snapshot a disk.

    Attributes:
        name: as the contract names it.
        copies: it copies the storage beside a running guest, which goes on writing to the original. So the disks of a
            guest that could not be frozen fit one another only if its vCPUs stand still during the commit; and to
            remove the snapshot is to delete the copy, where it is a merge for a method that does not copy.
        shares: two disks of one domain may be in one and the same new volume.
        by_play: what is done on the storage, tasks of the play do. What this method is to undo, they must have undone.
    """

    name: str
    copies: bool
    shares: bool = False
    by_play: bool = False

    @abc.abstractmethod
    def auto_reason(self, disk: Disk, domain: Domain) -> str | None:
        """Why ``auto`` takes this method for the disk, as a clause; None if its rule does not."""

    @abc.abstractmethod
    def refusal(self, disk: Disk, domain: Domain) -> str | None:
        """Why this method cannot take the disk, as a clause; None if it can."""

    @abc.abstractmethod
    def plan(self, subject: Subject, disk: Disk, method: Method, reason: str) -> DiskPlan:
        """Say what will exist afterwards. Reads, changes nothing.

        Raises:
            DiskSnapError: for whatever would go wrong: the name is taken, no space, a job runs on the disk.
        """

    def space(self, subject: Subject, plan: DiskPlan) -> list[Need]:
        """What the snapshot may come to need of which storage, at most; nothing where that cannot be told."""
        return []

    @abc.abstractmethod
    def prepare(self, subject: Subject, plans: t.Sequence[DiskPlan]) -> None:
        """Do all that is slow. The guest runs on and uses nothing of it yet.

        Raises:
            DiskSnapError: after which the engine calls ``rollback``.
        """

    @abc.abstractmethod
    def commit(self, subject: Subject, plans: t.Sequence[DiskPlan]) -> None:
        """Take the snapshot of all these disks at once; the guest may be frozen, so nothing else.

        Raises:
            DiskSnapError: after which the engine calls ``rollback``.
        """

    @abc.abstractmethod
    def finish(self, subject: Subject, plans: t.Sequence[DiskPlan]) -> None:
        """Complete the records after the thaw.

        Raises:
            DiskSnapError: if what is there is not what was planned.
        """

    @abc.abstractmethod
    def rollback(self, domain: Domain, records: t.Sequence[DiskRecord]) -> None:
        """Undo, from whatever point was reached: the storage, not the caller, tells how far that was.

        Works from the journal's records alone, so that a later run can undo what a killed one began.

        Raises:
            DiskSnapError: if something is left; it names it.
        """

    @abc.abstractmethod
    def present(self, domain: Domain, record: DiskRecord) -> bool:
        """Whether the storage still has what the record says, be it of use or not."""

    def fault(self, domain: Domain, record: DiskRecord) -> str | None:
        """Why the snapshot cannot be used any more, as a clause; None if it can."""
        return None if self.present(domain, record) else 'the storage does not have it any more'

    def remove(self, domain: Domain, records: t.Sequence[DiskRecord]) -> None:
        """Delete what the snapshot takes on the storage, of a method that copies; what is gone already is no error.

        Raises:
            DiskSnapError: if something is left; it names it.
        """
        self.rollback(domain, records)

    @abc.abstractmethod
    def refuse_revert(self, domain: Domain, record: DiskRecord) -> None:
        """Look whether the disk can go back to the snapshot. Changes nothing.

        Raises:
            DiskSnapError: if not: the snapshot cannot be used, or layers newer than it are on the disk; it names them.
        """

    @abc.abstractmethod
    def revert(self, domain: Domain, records: t.Sequence[DiskRecord], *, deadline: float) -> None:
        """Put these disks back, of a domain that is shut off; the snapshot is there again afterwards.

        It may run again after it died at any point, and then ends what it began.

        Args:
            domain: which nobody starts meanwhile.
            records: of the disks.
            deadline: ``time.monotonic()`` until which it may wait for the storage.

        Raises:
            DiskSnapError: if a disk is not back; the same call can be made again.
        """
