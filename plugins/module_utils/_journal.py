# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What this collection did to a domain, kept in the domain's own ``<metadata>``.

It travels with the domain when it migrates and shows in ``virsh dumpxml``. It says what was intended; what is
there is for the storage to say. Every step that must survive a crash is written here before it is done.
"""

from __future__ import annotations

import datetime
import os
import socket
import time
import typing as t
from dataclasses import MISSING, dataclass, field, fields, replace

from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import affected, explained
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import etree, libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import parse, to_text

NAMESPACE = 'urn:disksnap:libvirt:journal:1'
PREFIX = 'disksnap'
QUIESCE_NAMESPACE = 'urn:disksnap:libvirt:quiesce:1'
QUIESCE_PREFIX = 'disksnap-quiesce'

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


@dataclass
class Volume:
    """A storage volume that a method made. ``pool`` is None where the pool was transient."""

    path: str
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
class DiskRecord:
    """One disk in one snapshot; ``original`` is its ``<disk>`` before, ``modified_disk`` after (None: unchanged).

    ``reason`` says why this method. ``made``, which is not written, says that this very run made the volumes, so that
    whatever has their names now is what became of them. ``backing`` are the images that a copy's own header names, from
    top to bottom: the backup source is right only as long as none of them changes.

    Of a volume that the tasks of a play have an array take: ``identity`` is what they returned, as JSON; ``reverted``
    says that the array has taken the volume back, during a revert; ``gone`` that it has no snapshot any more.
    """

    target: str
    method: str
    method_xml: str
    original: str
    modified_disk: str | None
    backup_source: BackupSource
    volumes: list[Volume] = field(default_factory=list)
    reason: str = ''
    made: bool = field(default=False, metadata={'written': False})
    backing: list[str] = field(default_factory=list)
    identity: str | None = None
    reverted: bool = False
    gone: bool = False


@dataclass
class FreezeRecord:
    """How the guest stood still: milliseconds from the freeze command to the end of the thaw, and who thawed."""

    filesystems: int
    presynced: bool
    window_ms: float | None = None
    thawed_by: str | None = None


@dataclass
class Owner:
    """The process that takes a snapshot: where it runs, and what tells it from any other process of that machine."""

    host: str
    boot_id: str
    pid: int
    start: int


# How far a revert is.
STOPPING = (
    'stopping'  # no disk is touched yet.                    Died here: start the domain again, forget the revert.
)
RESTORING = 'restoring'  # disks are put back, the domain is off.   Died here: put all of them back, start it.
STARTING = 'starting'  # all disks are back.                        Died here: start it.


@dataclass
class RevertRecord:
    """A revert under way: its stage, and what the domain was before (``running``, ``paused`` or ``off``).

    ``transient``: the domain had no definition of its own, and has one only for as long as this takes. ``halted``: a
    play has it stopped while an array takes its volumes back, and goes on with it.
    """

    stage: str
    domain_state: str
    transient: bool = False
    halted: bool = False


@dataclass
class SnapshotRecord:
    """One snapshot of one domain. ``group`` is equal for all domains that were taken together.

    ``owner`` is the run that takes or reverts it, so that another run can tell whether that one is still at it.
    ``pauses``: that run may have stopped the vCPUs of a domain that was running. ``decide_by``: until when, as a
    timestamp, the play that takes it on several hosts may still say what is to become of it.
    """

    name: str
    state: str
    created_at: str
    group: str
    description: str | None = None
    consistency: str = 'crash'
    freeze: FreezeRecord | None = None
    disks: list[DiskRecord] = field(default_factory=list)
    owner: Owner | None = None
    revert: RevertRecord | None = None
    pauses: bool = False
    decide_by: str | None = None


@dataclass
class QuiesceRecord:
    """A freeze that outlives the task that made it, with the watchdog that bounds it."""

    state: str
    token: str
    frozen_at: str
    filesystems: int = 0
    presynced: bool = False
    max_frozen: float = 0.0
    started_ns: int = 0
    boot_id: str = ''
    thawed_at: str | None = None
    thawed_by: str | None = None
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
    try:
        then = datetime.datetime.strptime(moment, '%Y-%m-%dT%H:%M:%S.%fZ').replace(tzinfo=datetime.timezone.utc)
    except ValueError:
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
    """A merge of one disk under way: its ends as they were when it began."""

    target: str
    direction: str
    base: str
    top: str
    active: bool
    chain_before: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


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


# -- XML ------------------------------------------------------------------------------------------------------
#
# A record is an element whose attributes are its scalar fields; a field that holds XML or free text is a child
# with that text; a field that holds records is a child per record. None is absence.

_TEXTS = ('xml', 'original', 'modified_disk', 'method_xml', 'description', 'reason', 'identity')


def _scalar(value: t.Any) -> str:
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    return str(value)


def _write(tag: str, record: t.Any) -> t.Any:
    element = etree.Element(tag)
    for item in fields(record):
        value = getattr(record, item.name)
        if value is None or not item.metadata.get('written', True):
            continue
        if isinstance(value, (list, tuple)):
            for entry in value:
                if isinstance(entry, str):
                    etree.SubElement(element, item.name).text = entry
                else:
                    element.append(_write(item.name, entry))
        elif hasattr(value, '__dataclass_fields__'):
            element.append(_write(item.name, value))
        elif item.name in _TEXTS:
            etree.SubElement(element, item.name).text = value
        else:
            element.set(item.name.replace('_', '-'), _scalar(value))
    return element


def to_xml(journal: Journal) -> str:
    """The journal as the text of one element."""
    root = etree.Element('journal', version='1')
    for snapshot in journal.snapshots.values():
        root.append(_write('snapshot', snapshot))
    if journal.quiesce is not None:
        root.append(_write('quiesce', journal.quiesce))
    for merge in journal.merges.values():
        root.append(_write('merge', merge))
    return to_text(root)


_NESTED: dict[type, dict[str, type]] = {
    SnapshotRecord: {'freeze': FreezeRecord, 'disks': DiskRecord, 'owner': Owner, 'revert': RevertRecord},
    DiskRecord: {'backup_source': BackupSource, 'volumes': Volume},
}
_CONVERT: dict[str, t.Callable[[str], t.Any]] = {
    'int': int,
    'float': float,
    'bool': lambda text: {'yes': True, 'no': False}[text],
}


def _read_field(cls: type, item: t.Any, element: t.Any) -> t.Any:
    """One field of a record; raises KeyError where it is missing and needed, ValueError where it is damaged."""
    kind = str(item.type).replace(' | None', '')
    nested = _NESTED.get(cls, {}).get(item.name)
    children = element.findall(item.name)
    if nested is not None:
        records = [_read(nested, child) for child in children]
        if kind.startswith('list'):
            return records
        return records[0] if records else None
    if kind == 'list[str]':
        return [child.text or '' for child in children]
    if item.name in _TEXTS:
        return (children[0].text or '') if children else None
    text = element.get(item.name.replace('_', '-'))
    if text is None:
        return None
    return _CONVERT.get(kind, str)(text)


def _read(cls: t.Any, element: t.Any) -> t.Any:
    values = {}
    for item in fields(cls):
        try:
            value = _read_field(cls, item, element)
        except (KeyError, ValueError) as error:
            raise ValueError(f'{item.name} of <{element.tag}>: {error}') from error
        has_default = item.default is not MISSING or item.default_factory is not MISSING
        if value is None and has_default:
            continue
        if value is None and '| None' not in str(item.type):
            raise ValueError(f'{item.name} of <{element.tag}> is missing')
        values[item.name] = value
    return cls(**values)


def from_xml(text: str) -> Journal:
    """Read a journal.

    Raises:
        ValueError: if it is damaged; the message names the field.
    """
    try:
        root = parse(text, 'journal')
    except DiskSnapError as error:
        raise ValueError(str(error)) from error
    if root.tag != 'journal' or root.get('version') != '1':
        raise ValueError(f'version {root.get("version")} of <{root.tag}> is not known to this release')
    journal = Journal()
    for element in root:
        if element.tag == 'snapshot':
            snapshot = _read(SnapshotRecord, element)
            journal.snapshots[snapshot.name] = snapshot
        elif element.tag == 'quiesce':
            journal.quiesce = _read(QuiesceRecord, element)
        elif element.tag == 'merge':
            merge = _read(MergeRecord, element)
            journal.merges[merge.target] = merge
    return journal


# -- the domain's metadata --------------------------------------------------------------------------------------


def load(domain: t.Any) -> Journal:
    """What is recorded of a domain, its freeze included; an empty journal where there is nothing.

    Raises:
        DiskSnapError: if libvirt fails or the journal was damaged.
    """
    journal = _get(domain, NAMESPACE)
    journal.quiesce = _get(domain, QUIESCE_NAMESPACE).quiesce
    return journal


def store(domain: t.Any, journal: Journal) -> None:
    """Write snapshots and merges to the live and the persistent definition; none remove the element.

    Raises:
        DiskSnapError: if libvirt fails.
    """
    _put(domain, NAMESPACE, PREFIX, replace(journal, quiesce=None))


def store_quiesce(domain: t.Any, record: QuiesceRecord | None) -> None:
    """Write the record of a freeze, or remove it.

    It is an element of its own, since the watchdog writes it at a moment of its own, and must not overwrite what a
    task says of snapshots at that moment.

    Raises:
        DiskSnapError: if libvirt fails.
    """
    _put(domain, QUIESCE_NAMESPACE, QUIESCE_PREFIX, Journal(quiesce=record))


def _get(domain: t.Any, namespace: str) -> Journal:
    try:
        text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, namespace, libvirt.VIR_DOMAIN_AFFECT_CURRENT)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            return Journal()
        raise DiskSnapError(
            'Failed to read the journal',
            domain=domain.name(),
            why=error.get_error_message(),
            code=error.get_error_code(),
        ) from error
    try:
        return from_xml(text)
    except ValueError as error:
        raise DiskSnapError(
            'Failed to read the journal',
            domain=domain.name(),
            why=str(error),
            hint=f'It is the element of namespace {namespace} in the <metadata> of the domain; correct or remove it '
            'with virsh metadata.',
        ) from error


def _put(domain: t.Any, namespace: str, prefix: str, journal: Journal) -> None:
    text = None if journal.empty else to_xml(journal)
    with explained('Failed to write the journal', domain=domain.name()):
        try:
            domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, prefix, namespace, affected(domain))
        except libvirt.libvirtError as error:
            if text is not None or error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_METADATA:
                raise
