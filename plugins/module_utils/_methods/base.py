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
from ansible_collections.disksnap.libvirt.plugins.module_utils._journal import DiskRecord
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import Method


@dataclass(frozen=True)
class Subject:
    """One domain in one snapshot: what every step of a method is told.

    ``others`` are the targets of the domain's disks that this snapshot leaves alone; ``reclaimed`` are paths of
    volumes that an interrupted run left and that are gone by the time the snapshot is taken (check mode only).
    """

    domain: Domain
    live: bool
    snapshot_name: str
    description: str | None = None
    others: tuple[str, ...] = ()
    reclaimed: frozenset[str] = frozenset()


@dataclass
class DiskPlan:
    """What will be done to one disk: the record as it will stand in the journal, and why this method."""

    disk: Disk
    method: Method
    reason: str
    record: DiskRecord
    notes: dict[str, t.Any] = field(default_factory=dict)


class DiskMethod(abc.ABC):
    """One way to snapshot a disk.

    Attributes:
        name: as the contract names it.
        copies: it copies the storage beside a running guest, so that the disks of a guest that could not be frozen
            fit one another only if its vCPUs stand still during the commit.
    """

    name: str
    copies: bool

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
        """Whether the storage still has what the record says."""
