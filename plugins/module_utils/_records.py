# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is recorded of a domain: its snapshots, a freeze, its merges. ``_journal.py`` keeps it."""

from __future__ import annotations

import datetime
import os
import socket
import time
from dataclasses import dataclass, field

from ansible_collections.disksnap.libvirt.plugins.module_utils import _values
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk, read_disk
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import snapshot_name_fault
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import parse

# The states of a snapshot. Each is written before the act that it names.
PREPARING = 'preparing'  # volumes may exist, no domain uses them.  Died here: delete them, forget the entry.
COMMITTING = 'committing'  # the disks may or may not have moved.   Died here: move them back, delete, forget.
COMMITTED = 'committed'  # taken here; other hosts may fail.     Died here: undo it once its time is over.
PRESENT = 'present'  # taken, proved and recorded.
REMOVING = 'removing'  # its layers are being merged or deleted.    Died here: go on; removal is its only way out.
REVERTING = 'reverting'  # the domain goes back to it.              Died here: go on, as its RevertRecord says.

# The states of a quiesce.
FREEZING = 'freezing'  # guests may be frozen; the watchdog is armed.
FROZEN = 'frozen'  # frozen on purpose, until the thaw or the watchdog.
THAWED = 'thawed'  # over; kept so that the thaw task can say who ended it.

_THAWER = _values.one_of('module', 'watchdog', 'guest')


@dataclass
class Volume:
    """A storage volume that a method made. ``pool`` is None where the pool was transient."""

    path: str = field(metadata={'check': _values.path})
    name: str
    format: str
    pool: str | None = None
    capacity: int = 0


@dataclass
class BackupSource:
    """A read-only view of a disk at the snapshot's instant: what a backup reads."""

    xml: str
    type: str
    path: str | None
    format: str | None
    pool: str | None = None
    volume: str | None = None


@dataclass
class Stamp:
    """The bytes that a file is long, and when it was written to last, in nanoseconds since 1970."""

    size: int
    mtime_ns: int


def _disk_fault(text: str) -> str | None:
    """Why a text is not the XML of a disk, as a clause; None if it is."""
    try:
        root = parse(text, 'it')
    except DiskSnapError as error:
        return error.why
    return None if root.tag == 'disk' else f'it is a <{root.tag}>, not a <disk>'


@dataclass
class DiskRecord:
    """One disk in one snapshot; ``original`` is its ``<disk>`` before, ``modified_disk`` after (None: unchanged).

    ``reason`` says why this method. ``made``, which is not written, says that this very run made the volumes, so that
    whatever has their names now is what became of them. ``backing`` are the images that a copy's own header names, from
    top to bottom: the backup source is right only as long as none of them changes.

    Of a volume that the tasks of a play have an array take: ``identity`` is what they returned, as JSON; ``reverted``
    says that the array has taken the volume back, during a revert; ``gone`` that it has no snapshot any more.

    ``base_stamp`` is of the image below an overlay, which nobody may write to from then on; None if it tells nothing.
    """

    target: str = field(metadata={'check': _values.something})
    method: str = field(metadata={'check': _values.something})
    method_xml: str
    original: str = field(metadata={'check': _disk_fault})
    modified_disk: str | None = field(metadata={'check': _disk_fault})
    backup_source: BackupSource
    volumes: list[Volume] = field(default_factory=list)
    reason: str = ''
    made: bool = field(default=False, metadata={'written': False})
    backing: list[str] = field(default_factory=list)
    identity: str | None = field(default=None, metadata={'check': _values.json_object})
    reverted: bool = False
    gone: bool = False
    base_stamp: Stamp | None = None


@dataclass
class FreezeRecord:
    """How the guest stood still: milliseconds from the freeze command to the end of the thaw, and who thawed.

    ``frozen_at`` is when the freeze was asked for, by the clock of the host; journals of earlier releases lack it.
    """

    filesystems: int
    presynced: bool
    window_ms: float | None = None
    thawed_by: str | None = field(default=None, metadata={'check': _THAWER})
    frozen_at: str | None = field(default=None, metadata={'check': _values.moment})


@dataclass
class Owner:
    """The process that takes a snapshot: where it runs, and what tells it from any other process of that machine."""

    host: str
    boot_id: str
    pid: int
    start: int


# How far a revert is.
STOPPING = 'stopping'  # no disk is touched yet.           Died here: start the domain again, forget the revert.
RESTORING = 'restoring'  # disks are put back, the domain is off.   Died here: put all of them back, start it.
STARTING = 'starting'  # all disks are back.                        Died here: start it.


@dataclass
class RevertRecord:
    """A revert under way: its stage, and what the domain was before (``running``, ``paused`` or ``off``).

    ``transient``: the domain had no definition of its own, and has one only for as long as this takes. ``halted``: a
    play has it stopped while an array takes its volumes back, and goes on with it.
    """

    stage: str = field(metadata={'check': _values.one_of(STOPPING, RESTORING, STARTING)})
    domain_state: str = field(metadata={'check': _values.one_of('running', 'paused', 'off')})
    transient: bool = False
    halted: bool = False


@dataclass
class SnapshotRecord:
    """One snapshot of one domain. ``group`` is equal for all domains that were taken together.

    ``owner`` is the run that takes or reverts it, so that another run can tell whether that one is still at it.
    ``pauses``: that run may have stopped the vCPUs of a domain that was running. ``decide_by``: until when, as a
    timestamp, the play that takes it on several hosts may still say what is to become of it.
    """

    name: str = field(metadata={'check': snapshot_name_fault})
    state: str = field(
        metadata={'check': _values.one_of(PREPARING, COMMITTING, COMMITTED, PRESENT, REMOVING, REVERTING)}
    )
    created_at: str
    group: str
    description: str | None = None
    consistency: str = field(default='crash', metadata={'check': _values.one_of('filesystem', 'crash', 'offline')})
    freeze: FreezeRecord | None = None
    disks: list[DiskRecord] = field(default_factory=list)
    owner: Owner | None = None
    revert: RevertRecord | None = None
    pauses: bool = False
    decide_by: str | None = field(default=None, metadata={'check': _values.moment})


@dataclass
class QuiesceRecord:
    """A freeze that outlives the task that made it, with the watchdog that bounds it."""

    state: str = field(metadata={'check': _values.one_of(FREEZING, FROZEN, THAWED)})
    token: str
    frozen_at: str
    filesystems: int = 0
    presynced: bool = False
    max_frozen: float = 0.0
    started_ns: int = 0
    boot_id: str = ''
    thawed_at: str | None = None
    thawed_by: str | None = field(default=None, metadata={'check': _THAWER})
    window_ms: float | None = None
    watchdog_host: str = ''
    watchdog_pid: int = 0
    watchdog_start: int = 0


def timestamp(*, ahead: float = 0.0) -> str:
    """Now, or so many seconds from now, in UTC, as ISO 8601 with milliseconds."""
    now = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=ahead)
    return now.strftime('%Y-%m-%dT%H:%M:%S.') + f'{now.microsecond // 1000:03d}Z'


def boot_id() -> str:
    """What tells this boot of this host from any other: monotonic times are comparable only within one."""
    try:
        with open('/proc/sys/kernel/random/boot_id', encoding='ascii') as text:
            return text.read().strip()
    except OSError:
        return ''


def process_start(pid: int) -> int:
    """Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat); 0 if there is none.

    With the pid it names a process for certain: pids are used again. One that has ended and whose parent has not asked
    how (state Z, field 3) does nothing any more.
    """
    try:
        with open(f'/proc/{pid}/stat', encoding='utf-8', errors='replace') as stat:
            words = stat.read().rpartition(')')[2].split()
        return 0 if words[0] == 'Z' else int(words[19])
    except (OSError, IndexError, ValueError):
        return 0


def owner() -> Owner:
    """This process."""
    return Owner(socket.gethostname(), boot_id(), os.getpid(), process_start(os.getpid()))


def age(moment: str) -> float:
    """Seconds since a ``timestamp()``, below zero if it is yet to come; infinite for a text that is none."""
    then = _values.parsed(moment)
    if then is None:
        return float('inf')
    return (datetime.datetime.now(datetime.timezone.utc) - then).total_seconds()


def end_quiesce(record: QuiesceRecord, thawed_by: str, ended_ns: int | None = None) -> None:
    """Note in the record that the freeze is over; the window is known only on the host and boot that froze.

    Args:
        record: of the freeze.
        thawed_by: ``module``, ``watchdog`` or ``guest``.
        ended_ns: ``time.monotonic_ns()`` at the end of the thaw; None for now.
    """
    record.state = THAWED
    record.thawed_by = thawed_by
    record.thawed_at = timestamp()
    if record.boot_id and record.boot_id == boot_id():
        ended = time.monotonic_ns() if ended_ns is None else ended_ns
        record.window_ms = round((ended - record.started_ns) / 1e6, 1)


@dataclass
class MergeRecord:
    """A merge of one disk under way: its ends as they were when it began.

    ``pivoting``: libvirt was told to pivot. Died here: the guest may write to the base already, whatever libvirt says.
    """

    target: str = field(metadata={'check': _values.something})
    direction: str = field(metadata={'check': _values.one_of('commit', 'pull')})
    base: str
    top: str
    active: bool
    chain_before: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    pivoting: bool = False


@dataclass
class Journal:
    """All that is recorded of one domain."""

    snapshots: dict[str, SnapshotRecord] = field(default_factory=dict)
    quiesce: QuiesceRecord | None = None
    merges: dict[str, MergeRecord] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to keep."""
        return not self.snapshots and self.quiesce is None and not self.merges


def original_disk(record: DiskRecord) -> Disk:
    """The disk as it was when the snapshot was taken.

    Raises:
        DiskSnapError: if the journal was damaged.
    """
    what = 'original of <disks> in the journal'
    element = parse(record.original, what, disk=record.target)
    disk = read_disk(element)
    if element.tag != 'disk' or disk.source is None:
        why = f'it is a <{element.tag}>' if element.tag != 'disk' else 'the drive is empty'
        raise DiskSnapError(f'Failed to read {what}', disk=record.target, why=why)
    return disk
