# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take one domain back to a recorded snapshot: stop it, put its disks back, start it as it was.

From the first byte that is put back there is no way but on, so each stage is in the journal before it begins, and
the next run of any task on the domain ends what a killed one began (``recover``).
"""

from __future__ import annotations

import time
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _chain, _foreign, _journal, _records
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained, xml_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.by_play import not_back
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.registry import method_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    RESTORING,
    STARTING,
    STOPPING,
    DiskRecord,
    RevertRecord,
    SnapshotRecord,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import read_domain

# seconds that the storage may take to put the disks back, where no task of its own says
RECOVERY_TIMEOUT = 3600.0
WHAT = 'Failed to revert to the snapshot'


class Restoration:
    """One domain on its way back; ``begin``, ``stop``, ``restore`` and ``start`` in this order.

    Args:
        domain: that goes back.
        name: of the snapshot.
    """

    def __init__(self, domain: Domain, name: str) -> None:
        self.domain = domain
        self.name = name

    @property
    def record(self) -> SnapshotRecord:
        """The snapshot as the journal has it now."""
        return _journal.load(self.domain.handle).snapshots[self.name]

    def _note(self, state: str, revert: RevertRecord | None, *, afresh: bool = False) -> None:
        journal = _journal.load(self.domain.handle)
        record = journal.snapshots[self.name]
        record.state, record.revert = state, revert
        if afresh:
            for disk in record.disks:
                disk.reverted = False
        record.owner = _records.owner() if revert is not None else record.owner
        _journal.store(self.domain.handle, journal)

    def _revert(self) -> RevertRecord:
        revert = self.record.revert
        if revert is None:
            raise DiskSnapError(f'{WHAT} {self.name}', domain=self.domain.name, why='the journal has no revert of it')
        return revert

    def begin(self, *, halted: bool = False) -> None:
        """Write down what is about to happen, and what the domain is now.

        Args:
            halted: a play goes on with it, once an array has taken its volumes back.
        """
        state = self.domain.state
        with explained(f'{WHAT} {self.name}', domain=self.domain.name):
            transient = not self.domain.handle.isPersistent()
        before = self.record.revert
        if before is not None and before.stage == RESTORING:  # some of its disks have gone back already
            off = not self.domain.live
            was = before.domain_state if off else state
            now = RevertRecord(RESTORING, was, transient or before.transient, halted)
            self._note(_records.REVERTING, now, afresh=not off)
        else:
            self._note(_records.REVERTING, RevertRecord(STOPPING, state, transient, halted), afresh=True)

    def stop(self) -> None:
        """Stop the domain where it is live; a transient one gets a definition to come back with.

        Raises:
            DiskSnapError: if it is live still; then nothing was changed.
        """
        handle, revert = self.domain.handle, self._revert()
        with explained('Failed to stop the domain', domain=self.domain.name):
            definition = xml_of(handle, inactive=True, secure=True)
            self._keep(definition, revert)
            if handle.isActive():
                _end(handle)
            self._keep(definition, revert)  # it may have been undefined in that moment
        revert.stage = RESTORING
        self._note(_records.REVERTING, revert)

    def _keep(self, definition: str, revert: RevertRecord) -> None:
        """Define a domain that has no definition to come back with: it was transient, or was undefined as it ran."""
        try:
            if self.domain.handle.isPersistent():
                return
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
        self.domain.host.connection.defineXML(definition)
        revert.transient = True

    def restore(self, deadline: float) -> None:
        """Put all disks back.

        Args:
            deadline: ``time.monotonic()`` until which the storage may take.

        Raises:
            DiskSnapError: if one is not back; the next run goes on with it.
        """
        record, revert = self.record, self._revert()
        if self.domain.live:
            raise mixed_disks(self.domain, record)
        for name in dict.fromkeys(disk.method for disk in record.disks):
            disks = [disk for disk in record.disks if disk.method == name]
            with explained(f'{WHAT} {self.name}', domain=self.domain.name):
                method_of(name).revert(self.domain, disks, deadline=deadline)
        revert.stage = STARTING
        self._note(_records.REVERTING, revert)

    def start(self) -> None:
        """Start the domain as it was, and forget that it was on its way.

        Raises:
            DiskSnapError: if it does not start; the next run tries again.
        """
        handle, revert = self.domain.handle, self._revert()
        with explained('Failed to start the domain', domain=self.domain.name, hint='Its disks have gone back.'):
            if revert.domain_state != 'off' and not handle.isActive():
                handle.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED if revert.domain_state == 'paused' else 0)
            if revert.transient and handle.isActive() and handle.isPersistent():
                handle.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM)
        self._note(_records.PRESENT, None)


def _end(handle: t.Any) -> None:
    """Stop a domain as pulling the plug does, but let QEMU write out what it holds; by force if it does not end."""
    try:
        handle.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_GRACEFUL)
    except libvirt.libvirtError:
        if handle.isActive():
            handle.destroy()


def mixed_disks(domain: Domain, record: SnapshotRecord) -> DiskSnapError:
    """The error where a domain was started while its disks went back."""
    return DiskSnapError(
        f'{WHAT} {record.name}',
        domain=domain.name,
        why='an interrupted run has put back some of its disks, and something has started the domain since, so that '
        'they may not fit one another',
        hint='disk_snapshot with state: reverted and force: true puts all of them back.',
    )


# -- before ---------------------------------------------------------------------------------------------------------


def refuse(domain: Domain, record: SnapshotRecord, *, force: bool, by_play: bool = False) -> list[str]:
    """Look whether a domain can go back. Changes nothing.

    Args:
        by_play: the play takes back what only it can.

    Returns:
        What the operator should know all the same, as warnings.

    Raises:
        DiskSnapError: for whatever stands in the way.
    """
    what = f'{WHAT} {record.name}'
    if domain.live and not force:
        raise DiskSnapError(
            what,
            domain=domain.name,
            why=f'it is {domain.state}',
            hint='Shut it off first, or say force: true to have it stopped, reverted and started again.',
        )
    with explained(what, domain=domain.name):
        saved = not domain.live and domain.handle.hasManagedSaveImage(0)
    if saved:
        raise DiskSnapError(
            what,
            domain=domain.name,
            why='the domain is saved (managed save), and would come back with the memory of another time',
            hint='Discard the saved state with virsh managedsave-remove.',
        )
    begun = record.revert is not None and record.revert.stage == RESTORING
    if not by_play:
        refuse_not_back(domain, record)
    for disk in record.disks:
        _refuse_hotplugged(domain, disk, what)
        if begun:
            continue  # the storage is between two states; what is there is for the method to end
        fault = method_of(disk.method).fault(domain, disk)
        if fault is not None:
            raise DiskSnapError(what, domain=domain.name, disk=disk.target, why=fault, hint='Nothing was changed.')
        method_of(disk.method).refuse_revert(domain, disk)
        _refuse_internal(domain, disk, what)
    return _left_as_they_are(domain, record)


def refuse_not_back(domain: Domain, record: SnapshotRecord) -> None:
    """Refuse to go back where an array has not taken its volumes back for this very revert.

    Raises:
        DiskSnapError: if it has not.
    """
    for disk in record.disks:
        if method_of(disk.method).by_play and not (_is_on_its_way(domain, record) and disk.reverted):
            raise not_back(domain, disk)


def refuse_waiting(domain: Domain, record: SnapshotRecord) -> None:
    """Refuse to end a revert that waits for an array.

    Raises:
        DiskSnapError: if it does.
    """
    if _is_on_its_way(domain, record):
        refuse_not_back(domain, record)


def _is_on_its_way(domain: Domain, record: SnapshotRecord) -> bool:
    return record.revert is not None and record.revert.stage == RESTORING and not domain.live


def is_halted(domain: Domain, record: SnapshotRecord | None) -> bool:
    """Whether a play has stopped the domain for a revert, and has not gone on with it."""
    if record is None or record.revert is None:
        return False
    return record.revert.halted and _is_on_its_way(domain, record)


def _refuse_hotplugged(domain: Domain, record: DiskRecord, what: str) -> None:
    """A disk that only the running domain has is gone once that is stopped."""
    with explained(what, domain=domain.name, disk=record.target):
        both = domain.handle.isActive() and domain.handle.isPersistent()
    if not both:
        return
    now = domain.read().disk(record.target)
    lasting = read_domain(xml_of(domain.handle, inactive=True)).disk(record.target)
    if now is None or lasting is None or now.source is None or lasting.source is None:
        same = now is None  # refuse_revert says that it is gone
    else:
        same = now.source.key == lasting.source.key
    if not same:
        raise DiskSnapError(
            what,
            domain=domain.name,
            disk=record.target,
            why='the definition that the domain starts with does not have the disk as the running one does',
            hint='Attach it with virsh attach-device --persistent, or leave the snapshot as it is.',
        )


def _refuse_internal(domain: Domain, record: DiskRecord, what: str) -> None:
    """The image that the guest writes to is thrown away, and with it what it holds within itself."""
    disk = domain.read().disk(record.target)
    path = _chain.local_path(disk.active, domain.host.pools) if disk is not None and disk.chain else None
    names = set(_foreign.within(path, local=domain.host.local))
    if record.method != 'qemu':  # a copy of the image has those that were there before
        names -= set(_foreign.within(record.backup_source.path, local=domain.host.local))
    if names:
        raise DiskSnapError(
            what,
            domain=domain.name,
            disk=record.target,
            why=f'{path}, which would be dropped, holds the internal snapshot {", ".join(sorted(names))}',
            hint='If nobody needs it, delete it first with virsh snapshot-delete, or, while the domain is shut off, '
            'with qemu-img snapshot -d. Nothing was changed.',
        )


def _left_as_they_are(domain: Domain, record: SnapshotRecord) -> list[str]:
    taken = {disk.target for disk in record.disks}
    others = [
        disk.target
        for disk in domain.read().disks
        if disk.target not in taken and disk.device == 'disk' and not disk.readonly and disk.source is not None
    ]
    if not others:
        return []
    return [
        f'The snapshot {record.name} of the domain {domain.name} does not have the disk {", ".join(others)}, '
        'which keeps what is on it now.'
    ]


# -- after a run that died --------------------------------------------------------------------------------------------


def going_back(domain: Domain, record: SnapshotRecord) -> str:
    """What ``recover`` would do, as the warning of check mode."""
    return (
        f'An interrupted run has left the domain {domain.name} on its way back to the snapshot {record.name}; '
        'that would be ended first.'
    )


def recover(domain: Domain, record: SnapshotRecord) -> str:
    """End a revert that a killed run began; what was done, as a warning.

    Raises:
        DiskSnapError: if the storage or libvirt refuses; the next run tries again.
    """
    back = Restoration(domain, record.name)
    stage = record.revert.stage if record.revert is not None else STOPPING
    way = f'An interrupted run had left the domain {domain.name} on its way back to the snapshot {record.name}'
    if stage == RESTORING and domain.live:
        return (
            f'{way}, with some of its disks put back, and something has started it since: they may not fit one '
            'another. disk_snapshot with state: reverted and force: true puts all of them back.'
        )
    if stage == RESTORING:
        back.restore(time.monotonic() + RECOVERY_TIMEOUT)
    back.start()
    if stage == STOPPING:
        return f'{way}, with no disk put back yet; it was left as it is.'
    return f'{way}; that was ended.'
