# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Method ``qemu``: a qcow2 overlay takes the guest's writes, the image below stands still and is the backup source.

The overlays are volumes made before the freeze; all disks of a domain then move onto theirs in one libvirt call
(``VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT``), without libvirt's own snapshot metadata. To revert is to put an empty
overlay in the place of the one that the guest wrote to. The files are the business of ``_overlay.py``.
"""

from __future__ import annotations

import posixpath
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _chain, _overlay, _place, _space, _stamp
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.base import DiskMethod, DiskPlan, Subject
from ansible_collections.disksnap.libvirt.plugins.module_utils._pool import DIRECTORY_TYPES
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    BackupSource,
    DiskRecord,
    Volume,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._undo import undo_overlays
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.change import overlaid, settled
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk, Source
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import Method, to_xml
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.snapshot import ExternalDisk, external

# network protocols whose image a qcow2 header can name without a secret
_HEADER_PROTOCOLS = ('nbd',)
_WHAT_PLAN = 'Failed to plan the overlay'
# more than the disks of a few snapshots that were broken off; each takes some 10 ms
_ATTEMPTS = 30
# why a saved domain is refused
_SAVED = 'would come back writing to the image below the overlay'


class QemuMethod(DiskMethod):
    """Overlays by libvirt and QEMU."""

    name = 'qemu'
    copies = False

    def auto_reason(self, disk: Disk, domain: Domain) -> str | None:
        source = disk.source
        if source is None or source.format not in ('qcow2', 'raw'):
            return None
        if source.type == 'file':
            return f'its image is a {source.format} file'
        if source.type == 'volume' and _volume_is_file(source, domain):
            return f'its image is a {source.format} file, volume of the pool {source.pool}'
        return None

    def refusal(self, disk: Disk, domain: Domain) -> str | None:
        source = disk.source
        if source is None:
            return 'the drive is empty'
        if source.encrypted:
            return 'its image is encrypted, and an overlay would hold what the guest writes in the clear'
        if source.type == 'network':
            if source.protocol not in _HEADER_PROTOCOLS or source.authenticated:
                return (
                    f'a qcow2 overlay cannot name a {source.protocol} image'
                    f'{" that needs a secret" if source.authenticated else ""} as its backing file here'
                )
            if not domain.live:
                return 'libvirt does not put an overlay over a network disk of a domain that is shut off'
            if not domain.host.local:
                return "qemu-img, which writes the overlay's backing file, must run on the hypervisor itself"
        elif source.type not in ('file', 'block', 'volume'):
            return f'it does not take disks of type {source.type}'
        return None

    # -- plan ---------------------------------------------------------------------------------------------

    def plan(self, subject: Subject, disk: Disk, method: Method, reason: str) -> DiskPlan:
        domain, source = subject.domain, disk.active
        _place.refuse_busy(domain, disk, _WHAT_PLAN, live=subject.live)
        _place.refuse_saved(domain, disk, _WHAT_PLAN, _SAVED, live=subject.live)
        path, pool = self._place(subject, disk, method)
        base = _chain.local_path(source, domain.host.pools)
        capacity = _place.capacity_of(domain, disk, base, live=subject.live)
        _place.refuse_taken(domain, disk, path, _WHAT_PLAN, reclaimed=subject.reclaimed)
        name = posixpath.basename(path)
        resolved = Method('qemu', pool=pool, file=name if pool else path)
        record = DiskRecord(
            target=disk.target,
            method='qemu',
            method_xml=to_xml(resolved),
            original=settled(disk.xml),
            modified_disk=overlaid(disk, path, live=subject.live),
            backup_source=self._backup_source(source, base, domain),
            volumes=[Volume(path=path, name=name, format='qcow2', pool=pool, capacity=capacity)],
            reason=reason,
        )
        return DiskPlan(disk, resolved, record)

    def _place(self, subject: Subject, disk: Disk, method: Method) -> tuple[str, str | None]:
        """Path of the overlay, and the lasting pool that will hold it (None: a transient one)."""
        domain = subject.domain
        name = f'{domain.name}-{disk.target}.{subject.snapshot_name}.qcow2'
        beside = None
        if _place.is_file(disk.active, domain):
            beside = posixpath.dirname(_chain.local_path(disk.active, domain.host.pools) or '')
        return _place.place(domain, disk, method, name, _WHAT_PLAN, beside=beside)

    def _backup_source(self, source: Source, base: str | None, domain: Domain) -> BackupSource:
        pool, volume = source.pool, source.volume
        if source.type == 'file' and base is not None:
            pool = domain.host.pools.pool_name_of(base)
            volume = posixpath.basename(base) if pool else None
        return BackupSource(xml=source.xml, type=source.type, path=base, format=source.format, pool=pool, volume=volume)

    def space(self, subject: Subject, plan: DiskPlan) -> list[_space.Need]:
        [volume] = plan.record.volumes
        taken = _space.taken(plan.disk, subject.domain)
        needed = volume.capacity if taken is None else min(taken, volume.capacity)
        return _space.beside(subject.domain, volume.path, needed, volume.pool)

    # -- prepare, commit, finish --------------------------------------------------------------------------

    def prepare(self, subject: Subject, plans: t.Sequence[DiskPlan]) -> None:
        for plan in plans:
            _overlay.create(subject.domain, plan.record)
        disks = [ExternalDisk(plan.disk.target, plan.record.volumes[0].path) for plan in plans]
        ours = {disk.target for disk in disks}
        omit = [disk.target for disk in subject.domain.read().disks if disk.target not in ours]
        plans[0].notes['snapshot_xml'] = external(subject.snapshot_name, subject.description, disks, omit)

    def commit(self, subject: Subject, plans: t.Sequence[DiskPlan]) -> None:
        flags = (
            libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
            | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
            | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
            | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT
        )
        with explained('Failed to move the disks onto their overlays', domain=subject.domain.name):
            _create(subject.domain, plans[0].notes['snapshot_xml'], flags)

    def finish(self, subject: Subject, plans: t.Sequence[DiskPlan]) -> None:
        now = subject.domain.read()
        for plan in plans:
            disk = now.disk(plan.disk.target)
            overlay = plan.record.volumes[0].path
            if disk is None or disk.source is None or disk.source.path != overlay:
                raise DiskSnapError(
                    'Failed to find the overlay in use after the snapshot',
                    domain=subject.domain.name,
                    disk=plan.disk.target,
                    why=f'the domain uses {disk.source.key if disk and disk.source else "nothing"}, not {overlay}',
                )
            plan.record.modified_disk = settled(disk.xml)
            _stamp.take(plan.record, subject.domain.host)

    # -- undo ---------------------------------------------------------------------------------------------

    def rollback(self, domain: Domain, records: t.Sequence[DiskRecord]) -> None:
        undo_overlays(domain, records)

    def present(self, domain: Domain, record: DiskRecord) -> bool:
        disk = domain.read().disk(record.target)
        if disk is None:
            return False
        return _chain.whole(disk, domain.host.pools, domain.name).layer(record.volumes[0].path) is not None

    def fault(self, domain: Domain, record: DiskRecord) -> str | None:
        if not self.present(domain, record):
            return 'its layer is not in the backing chain any more'
        base, below = record.backup_source.path, _overlay.below(domain, record)
        if base is None or below is None or domain.host.pools.canonical(below) == domain.host.pools.canonical(base):
            return None
        return (
            f'its layer {record.volumes[0].path} stands on {below}, not on {base}, which something else has merged, as '
            'virsh snapshot-delete does'
        )

    # -- revert -------------------------------------------------------------------------------------------

    def refuse_revert(self, domain: Domain, record: DiskRecord) -> None:
        _overlay.refuse_renewal(domain, record)

    def revert(self, domain: Domain, records: t.Sequence[DiskRecord], *, deadline: float) -> None:
        for record in records:
            _overlay.renew(domain, record)


def _create(domain: Domain, xml: str, flags: int) -> None:
    """Create a snapshot, again while its names for the new layers are taken.

    A libvirtd that died in the middle of one has forgotten which numbers it had given to QEMU's nodes. It takes the
    next one at each attempt (qemuDomainStorageIDNew in its qemu_domain.c).
    """
    for left in reversed(range(_ATTEMPTS)):
        try:
            domain.handle.snapshotCreateXML(xml, flags)
            return
        except libvirt.libvirtError as error:
            if not left or 'Duplicate nodes with node-name' not in (error.get_error_message() or ''):
                raise


def _volume_is_file(source: Source, domain: Domain) -> bool:
    return domain.host.pools.by_name(source.pool or '')[1].type in DIRECTORY_TYPES
