# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Method ``reflink``: a clone of the image file that shares its blocks is the backup source; the guest writes on.

The clone is made beforehand as an empty volume of its storage pool, and is open already when the guest freezes: what is
left for then is one ioctl. Where libvirt is on another machine, its storage pool clones instead.
"""

from __future__ import annotations

import os
import posixpath
import stat
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _clone, _copies, _images, _mounts, _place, _space
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.base import DiskMethod, DiskPlan, Subject
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    DiskRecord,
    Volume,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.change import settled
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import Method, to_xml

_WHAT_PLAN = 'Failed to plan the clone'
# nobody writes to the clone, and only its owner and root read it
_MODE = 0o400
_MODE_WHILE_MADE = 0o600


class ReflinkMethod(DiskMethod):
    """Clones of image files on file systems that share blocks between files."""

    name = 'reflink'
    copies = True

    def auto_reason(self, disk: Disk, domain: Domain) -> str | None:
        return None

    def refusal(self, disk: Disk, domain: Domain) -> str | None:
        refusal = _copies.refusal(disk, domain)
        if refusal is not None:
            return refusal
        if not domain.host.local:
            if _copies.is_qcow2(disk.active):
                return 'a qcow2 image is cloned only where the module runs on the hypervisor itself'
            return None
        return _copies.asked(lambda: _mounts.clone_refusal(_place.image_of(disk, domain)))

    # -- plan ---------------------------------------------------------------------------------------------

    def plan(self, subject: Subject, disk: Disk, method: Method, reason: str) -> DiskPlan:
        domain, qcow2 = subject.domain, _copies.is_qcow2(disk.active)
        _place.refuse_busy(domain, disk, _WHAT_PLAN, live=subject.live)
        _place.refuse_saved(domain, disk, _WHAT_PLAN, _copies.SAVED, live=subject.live)
        name = f'{domain.name}-{disk.target}.{subject.snapshot_name}.{"qcow2" if qcow2 else "raw"}'
        image = _place.image_of(disk, domain)
        path, pool = _place.place(domain, disk, method, name, _WHAT_PLAN, beside=posixpath.dirname(image))
        if domain.host.local:
            self._refuse_place(domain, disk, image, path)
        _place.refuse_taken(domain, disk, path, _WHAT_PLAN, reclaimed=subject.reclaimed)
        name = posixpath.basename(path)
        resolved = Method('reflink', pool=pool, file=name if pool else path)
        fmt = 'qcow2' if qcow2 else 'raw'
        record = DiskRecord(
            target=disk.target,
            method='reflink',
            method_xml=to_xml(resolved),
            original=settled(disk.xml),
            modified_disk=None,
            backup_source=_copies.backup_source(disk.active, path, pool=pool),
            volumes=[
                Volume(
                    path=path,
                    name=name,
                    format=fmt,
                    pool=pool,
                    capacity=_place.capacity_of(domain, disk, image, live=subject.live),
                )
            ],
            reason=reason,
            backing=_copies.backing_of(disk, domain, path),
        )
        _copies.refuse_stray_backing(domain, disk, record, _WHAT_PLAN)
        return DiskPlan(disk, resolved, record, still=qcow2, notes={'image': image})

    def _refuse_place(self, domain: Domain, disk: Disk, image: str, path: str) -> None:
        """The clone must be on the file system of the image, and that one must take it."""
        _copies.refuse_unfit(domain, disk, image, _WHAT_PLAN)
        directory = posixpath.dirname(path)
        _copies.refuse_elsewhere(domain, disk, image, directory, _WHAT_PLAN)

    def space(self, subject: Subject, plan: DiskPlan) -> list[_space.Need]:
        [volume] = plan.record.volumes
        taken = _space.taken(plan.disk, subject.domain, whole=False)
        return [] if taken is None else _space.beside(subject.domain, volume.path, taken, volume.pool)

    # -- prepare, commit, finish --------------------------------------------------------------------------

    def prepare(self, subject: Subject, plans: t.Sequence[DiskPlan]) -> None:
        if not subject.domain.host.local:
            return
        for plan in plans:
            self._make_empty(subject.domain, plan)

    def _make_empty(self, domain: Domain, plan: DiskPlan) -> None:
        record, image = plan.record, plan.notes['image']
        path = record.volumes[0].path
        what = f'Failed to make {path} for the clone'
        with explained(what, domain=domain.name, disk=record.target):
            try:
                domain.host.pools.create_empty(path, mode=_MODE_WHILE_MADE)
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_STORAGE_VOL_EXIST:
                    record.volumes.clear()
                raise
        try:
            source = open(image, 'rb')  # noqa: SIM115 - both stay open until the clone is made
            target = open(path, 'r+b')  # noqa: SIM115
            plan.notes['files'] = (source, target)
            _clone.match_cow(source.fileno(), target.fileno())
            _clone.mark(target.fileno(), _mark(domain, record))
            os.fchmod(target.fileno(), _MODE)
            os.fdatasync(source.fileno())  # what the host still holds of the image would be written in the commit
        except OSError as error:
            raise _clone.failure(what, error, domain=domain.name, disk=record.target) from error

    def commit(self, subject: Subject, plans: t.Sequence[DiskPlan]) -> None:
        for plan in plans:
            if subject.domain.host.local:
                source, target = plan.notes['files']
                try:
                    _clone.share(source.fileno(), target.fileno())
                except OSError as error:
                    what = f'Failed to clone {plan.notes["image"]}'
                    raise _clone.failure(what, error, domain=subject.domain.name, disk=plan.disk.target) from error
            else:
                self._clone_by_pool(subject.domain, plan)

    def _clone_by_pool(self, domain: Domain, plan: DiskPlan) -> None:
        image, path = plan.notes['image'], plan.record.volumes[0].path
        with explained(f'Failed to clone {image}', domain=domain.name, disk=plan.disk.target):
            try:
                domain.host.pools.clone(path, image, mode=_MODE)
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_STORAGE_VOL_EXIST:
                    plan.record.volumes.clear()
                raise

    def finish(self, subject: Subject, plans: t.Sequence[DiskPlan]) -> None:
        domain = subject.domain
        for plan in plans:
            record = plan.record
            if domain.host.local:
                self._close(domain, plan)
                _copies.refuse_size(domain, record, record.volumes[0].capacity)
            if record.volumes[0].format == 'qcow2':
                self._check(domain, record)
            domain.host.pools.refresh(record.volumes[0].path)

    def _check(self, domain: Domain, record: DiskRecord) -> None:
        """A qcow2 in use with lazy_refcounts is as after a power cut; QEMU would repair it when it opens it."""
        path = record.volumes[0].path
        where: dict[str, t.Any] = {'timeout': _copies.CHECK_TIMEOUT, 'domain': domain.name, 'disk': record.target}
        header = _images.header_of(path)
        if header is not None and header.dirty:
            os.chmod(path, _MODE_WHILE_MADE)
            _images.repair(path, **where)
            os.chmod(path, _MODE)
        _images.check(path, **where)

    def _close(self, domain: Domain, plan: DiskPlan) -> None:
        """Have the clone on the disk: the journal is about to say that it is there."""
        source, target = plan.notes.pop('files')
        try:
            with source, target:
                os.fsync(target.fileno())
            _clone.sync_directory(posixpath.dirname(plan.record.volumes[0].path))
        except OSError as error:
            what = 'Failed to write the clone to the disk'
            raise _clone.failure(what, error, domain=domain.name, disk=plan.disk.target) from error

    # -- undo ---------------------------------------------------------------------------------------------

    def rollback(self, domain: Domain, records: t.Sequence[DiskRecord]) -> None:
        for record in records:
            for volume in record.volumes:
                if self._is_ours(domain, record, volume):
                    with explained(f'Failed to delete {volume.path}', domain=domain.name, disk=record.target):
                        domain.host.pools.delete(volume.path)

    def _is_ours(self, domain: Domain, record: DiskRecord, volume: Volume) -> bool:
        """Whether the file is the clone that the record speaks of.

        A run that was killed before it made the file may have left the name to someone else.
        """
        if not domain.host.local:
            found = domain.host.pools.volume(volume.path)
            return found is not None and found.mode == _MODE and found.capacity == volume.capacity
        try:
            status = os.lstat(volume.path)
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(status.st_mode):
            return False
        mark = _clone.marked(volume.path)
        if mark is not None:
            return mark == _mark(domain, record)
        # died before it was marked; or the storage pool cloned it, for a module that ran elsewhere
        return status.st_size == 0 or (stat.S_IMODE(status.st_mode) == _MODE and status.st_size == volume.capacity)

    def present(self, domain: Domain, record: DiskRecord) -> bool:
        if not record.volumes:
            return False
        path = record.volumes[0].path
        return os.path.lexists(path) if domain.host.local else domain.host.pools.volume(path) is not None

    def fault(self, domain: Domain, record: DiskRecord) -> str | None:
        return _copies.fault(domain, record)

    # -- revert -------------------------------------------------------------------------------------------

    def refuse_revert(self, domain: Domain, record: DiskRecord) -> None:
        _copies.refuse_revert(domain, record, self.fault(domain, record))

    def revert(self, domain: Domain, records: t.Sequence[DiskRecord], *, deadline: float) -> None:
        for record in records:
            _copies.revert(domain, record)


def _mark(domain: Domain, record: DiskRecord) -> str:
    """What a clone says of itself: whose disk it is of."""
    return f'{domain.uuid} {record.target}'
