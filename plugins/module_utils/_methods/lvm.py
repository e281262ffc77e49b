# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Method ``lvm``: a read-only snapshot of the logical volume that is the disk, or holds it, is the backup source.

The guest writes on to the original. A classic snapshot is a volume of libvirt's logical pool, where there is one; thin
ones libvirt cannot make. Disks of one domain whose images are on one LV share one snapshot.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import (
    _chain,
    _copies,
    _images,
    _logical,
    _lvm,
    _lvm_place,
    _lvm_revert,
    _lvm_rules,
    _lvm_snapshots,
    _place,
    _space,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._command import run
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import etree, libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._lvm import LogicalVolume
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.base import (
    DiskMethod,
    DiskPlan,
    Subject,
    one_each,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    BackupSource,
    DiskRecord,
    Volume,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.change import settled
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk, Source
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import Method, to_xml
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import parse, to_text

_WHAT_PLAN = _lvm_place.WHAT_PLAN
_FLUSH_TIMEOUT = 600.0
_FORMATS = ('raw', 'qcow2')


class LvmMethod(DiskMethod):
    """Snapshots of logical volumes, classic and thin."""

    name = 'lvm'
    copies = True
    shares = True

    def __init__(self) -> None:
        # path of a snapshot that was planned -> its VG and bytes: what one plan takes, the next does not have
        self._promised: dict[str, tuple[str, int]] = {}

    def auto_reason(self, disk: Disk, domain: Domain) -> str | None:
        source = disk.source
        if source is None or source.type not in ('block', 'volume') or not domain.host.local:
            return None
        found: list[str] = []

        def look() -> str | None:
            lv = _lvm_place.named(_lvm.volumes(), _lvm_place.device_of(source, domain) or '')
            pool = _logical.pool_of(domain.host.connection, lv.vg, active=False) if lv else None
            if lv is not None and pool is not None:
                found.append(f'its image is a logical volume of the pool {pool[1].name}')
            elif lv is not None and lv.thin:
                found.append('its image is a thin logical volume')
            return None

        _copies.asked(look)
        return found[0] if found else None

    def refusal(self, disk: Disk, domain: Domain) -> str | None:
        source = disk.source
        if source is None:
            return 'the drive is empty'
        if not domain.host.local:
            return _lvm_snapshots.NOT_LOCAL
        if source.type not in ('block', 'volume', 'file'):
            return f'it takes no disks of type {source.type}'
        if source.format not in (None, *_FORMATS):
            return f'it takes images of format {" and ".join(_FORMATS)}, not {source.format}'
        if source.encrypted and _copies.is_qcow2(source):
            return 'its image is encrypted qcow2, whose copy could not be checked without the key'
        return _copies.asked(lambda: _lvm_place.not_on_any(_lvm.volumes(), disk, domain))

    # -- plan ---------------------------------------------------------------------------------------------

    def plan(self, subject: Subject, disk: Disk, method: Method, reason: str) -> DiskPlan:
        domain = subject.domain
        _place.refuse_busy(domain, disk, _WHAT_PLAN, live=subject.live)
        _place.refuse_saved(domain, disk, _WHAT_PLAN, _copies.SAVED, live=subject.live)
        image = _lvm_place.image_of(disk.active, domain)
        if _copies.is_qcow2(disk.active):
            _copies.refuse_unfit(domain, disk, image, _WHAT_PLAN)
            _copies.refuse_lazy(domain, disk, image, _WHAT_PLAN, 'Turn', live=subject.live)
        with _lvm_snapshots.of_disk(domain, disk.target):
            found = _lvm.volumes()
            origin, own = _lvm_place.origin_of(found, disk, domain, method.device)
            _lvm_place.refuse_origin(origin, found, domain, disk)
            size = _lvm_place.cow_size(origin, method.size, domain, disk)
            name = _lvm_rules.snapshot_name(origin.name, subject.snapshot_name, None if own else domain.name)
            _lvm_place.refuse_name(origin, name, size, domain, disk)
            self._refuse_taken(subject, disk, origin, name, found)
            self._promise(subject, disk, origin, name, size, found)
            if f'/dev/{origin.vg}/{name}' not in subject.reclaimed:
                _lvm.create_snapshot(origin, name, size, test=True)
        named = method.device is not None or _lvm.split_path(image) is None
        resolved = Method(
            'lvm', device=origin.path if named else None, size=_lvm_rules.size_option(size) if size else None
        )
        record = self._record(subject, disk, resolved, reason, origin, name, own=own)
        notes = {'origin': origin, 'size': size, 'own': own, 'image': image}
        return DiskPlan(
            disk, resolved, record, still=_copies.is_qcow2(disk.active), shared=f'{origin.key} {size}', notes=notes
        )

    def space(self, subject: Subject, plan: DiskPlan) -> list[_space.Need]:
        origin, size = plan.notes['origin'], plan.notes['size']
        if size is not None:
            group = _lvm.group(origin.vg)
            storage = _space.Storage(f'vg {origin.vg}', f'The volume group {origin.vg}', group.free, group.size)
            return [_space.Need(storage, size)]
        thin = _lvm_place.thin_storage(origin, _lvm.volumes())
        if thin is None or origin.data_percent is None:
            return []
        return [_space.Need(thin, round(origin.size * origin.data_percent / 100))]

    def _refuse_taken(
        self, subject: Subject, disk: Disk, origin: LogicalVolume, name: str, found: t.Sequence[LogicalVolume]
    ) -> None:
        taken = _lvm.by_name(found, origin.vg, name)
        if taken is not None and taken.path not in subject.reclaimed:
            raise _taken(subject.domain, disk.target, taken.path)

    def _promise(
        self,
        subject: Subject,
        disk: Disk,
        origin: LogicalVolume,
        name: str,
        size: int | None,
        found: t.Sequence[LogicalVolume],
    ) -> None:
        """Refuse what the VG has no room for beside all that was planned before and is not there yet."""
        path = f'/dev/{origin.vg}/{name}'
        if size is None:
            return
        self._promised[path] = (origin.vg, size)
        there = {one.path for one in found}
        needed = sum(bytes_ for one, (vg, bytes_) in self._promised.items() if vg == origin.vg and one not in there)
        free_soon = sum(one.size for one in found if one.path in subject.reclaimed and one.vg == origin.vg)
        _lvm_place.refuse_no_room(origin.vg, needed - free_soon, subject.domain, disk.target)

    def _record(
        self,
        subject: Subject,
        disk: Disk,
        resolved: Method,
        reason: str,
        origin: LogicalVolume,
        name: str,
        *,
        own: bool,
    ) -> DiskRecord:
        domain = subject.domain
        path = f'/dev/{origin.vg}/{name}'
        # libvirt 9.0 shows no thin volume in its pools
        pool = None if origin.thin else _logical.pool_of(domain.host.connection, origin.vg)
        pool_name = pool[1].name if pool else None
        source = _backup_source(disk.active, path, pool_name, own=own)
        return DiskRecord(
            target=disk.target,
            method='lvm',
            method_xml=to_xml(resolved),
            original=settled(disk.xml),
            modified_disk=None,
            backup_source=source,
            volumes=[Volume(path, name, source.format or 'raw', pool_name, origin.size)],
            reason=reason,
            backing=_backing(disk, domain) if _copies.is_qcow2(disk.active) else [],
        )

    # -- prepare, commit, finish --------------------------------------------------------------------------

    def prepare(self, subject: Subject, plans: t.Sequence[DiskPlan]) -> None:
        domain = subject.domain
        pools: dict[str, t.Any] = {}
        _lvm.forget()
        for plan in one_each(plans):
            record, origin, size = plan.record, plan.notes['origin'], plan.notes['size']
            with _lvm_snapshots.of_disk(domain, record.target):
                found = _lvm.volumes()
                taken = _lvm.by_name(found, origin.vg, record.volumes[0].name)
                if taken is not None:
                    _give_up(plans, taken.path)
                    raise _taken(domain, record.target, taken.path)
                self._promise(subject, plan.disk, origin, record.volumes[0].name, size, found)
                if not plan.notes['own']:  # the snapshot writes that file system out too, and better now than then
                    what = f'Failed to write out the file system of {plan.notes["image"]}'
                    run(['sync', '-f', plan.notes['image']], what, timeout=_FLUSH_TIMEOUT)
                if size is not None and origin.vg not in pools:
                    pools[origin.vg] = _logical.pool_of(domain.host.connection, origin.vg)
                    _logical.refresh(domain.host.connection, origin.vg)
            plan.notes['pool'] = pools.get(origin.vg) if size is not None else None

    def commit(self, subject: Subject, plans: t.Sequence[DiskPlan]) -> None:
        for plan in plans:
            if 'pool' not in plan.notes:
                continue  # it shares the snapshot of another disk
            volume, origin, size = plan.record.volumes[0], plan.notes['origin'], plan.notes['size']
            what = f'Failed to snapshot the logical volume {origin.path}'
            try:
                with _lvm_snapshots.of_disk(subject.domain, plan.disk.target), explained(what):
                    if plan.notes['pool'] is None:
                        _lvm.create_snapshot(origin, volume.name, size)
                    else:
                        xml = _logical.snapshot_volume(volume.name, size, origin.path)
                        plan.notes['pool'][0].createXML(xml, 0)
            except DiskSnapError as error:
                if error.code == libvirt.VIR_ERR_STORAGE_VOL_EXIST or 'already exists' in (error.why or ''):
                    _give_up(plans, volume.path)
                raise

    def finish(self, subject: Subject, plans: t.Sequence[DiskPlan]) -> None:
        domain = subject.domain
        _lvm.forget()
        for plan in plans:
            if 'pool' in plan.notes:
                self._complete(domain, plan.record, through_pool=plan.notes['pool'] is not None)
        for plan in plans:
            record = plan.record
            with _lvm_snapshots.of_disk(domain, record.target):
                fault = self.fault(domain, record)
                path = record.volumes[0].path
                if fault is None and not os.path.exists(path):
                    fault = f'udev has not made {path}'
                if fault is not None:
                    raise DiskSnapError('Failed to snapshot the logical volume', why=fault)
                if record.backup_source.format == 'qcow2':
                    _images.check(path, timeout=_copies.CHECK_TIMEOUT)
        for vg in dict.fromkeys(plan.notes['origin'].vg for plan in plans):
            _logical.refresh(domain.host.connection, vg)

    def _complete(self, domain: Domain, record: DiskRecord, *, through_pool: bool) -> None:
        """Do what could wait until the guest runs on."""
        snapshot = _lvm_snapshots.find(domain, record)
        if snapshot is None or snapshot.invalid:
            return  # fault() says so
        with _lvm_snapshots.of_disk(domain, record.target):
            if through_pool:
                _lvm.protect(snapshot)
            if not snapshot.active:
                _lvm.activate(snapshot)

    # -- undo ---------------------------------------------------------------------------------------------

    def rollback(self, domain: Domain, records: t.Sequence[DiskRecord]) -> None:
        paths = {volume.path: record for record in records for volume in record.volumes}
        for path, record in paths.items():
            self._promised.pop(path, None)
            _lvm_snapshots.delete(domain, record)

    def present(self, domain: Domain, record: DiskRecord) -> bool:
        return _lvm_snapshots.find(domain, record) is not None

    def fault(self, domain: Domain, record: DiskRecord) -> str | None:
        return _lvm_snapshots.fault(domain, record)

    # -- revert -------------------------------------------------------------------------------------------

    def refuse_revert(self, domain: Domain, record: DiskRecord) -> None:
        _lvm_revert.refuse(domain, record)

    def revert(self, domain: Domain, records: t.Sequence[DiskRecord], *, deadline: float) -> None:
        for record in records:
            _lvm_revert.revert(domain, record, deadline=deadline)


def _backing(disk: Disk, domain: Domain) -> list[str]:
    """The layers below a qcow2 image, from top to bottom; no storage pool reads them from a logical volume."""
    if disk.complete or disk.active.type == 'file':
        return _copies.backing_of(disk, domain)
    found: list[str] = []
    path = _lvm_place.image_of(disk.active, domain)

    def follow() -> None:
        name, at = _images.backing_name(path), path
        while name is not None and len(found) < _chain.MAX_DEPTH:
            remote = ':' in name.partition('/')[0]
            at = name if remote else os.path.join(os.path.dirname(at), name)
            found.append(at)
            name = None if remote or not os.path.exists(at) else _images.backing_name(at)

    _copies.asked(follow)  # plan() has read that header already
    return found


def _give_up(plans: t.Sequence[DiskPlan], path: str) -> None:
    """Someone else's volume has the name: it must not be deleted when this snapshot is undone."""
    for plan in plans:
        plan.record.volumes = [volume for volume in plan.record.volumes if volume.path != path]


def _backup_source(source: Source, path: str, pool: str | None, *, own: bool) -> BackupSource:
    """The snapshot LV as a disk's source; where it holds a file system with the image in it, that as raw bytes."""
    element = etree.Element('source', dev=path)
    if own and source.xml:
        for encryption in parse(source.xml, 'source XML').findall('encryption'):
            element.append(encryption)
    return BackupSource(
        xml=to_text(element),
        type='block',
        path=path,
        format=(source.format or 'raw') if own else 'raw',
        pool=pool,
        volume=os.path.basename(path) if pool else None,
    )


def _taken(domain: Domain, target: str, path: str) -> DiskSnapError:
    return DiskSnapError(
        _WHAT_PLAN,
        domain=domain.name,
        disk=target,
        why=f'there is a logical volume {path} already',
        hint='Take another snapshot_name, or remove that one if nothing uses it.',
    )
