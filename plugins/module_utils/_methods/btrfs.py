# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Method ``btrfs``: a read-only snapshot of the subvolume that holds the image is the backup source.

The guest writes on. Disks of one domain whose images are in one subvolume share one snapshot. It goes beside the
subvolume; where that is the root of the mount, so that nothing is beside it, into a directory of ours within it.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import (
    _clone,
    _copies,
    _images,
    _mounts,
    _place,
    _space,
    _subvolume,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.base import (
    DiskMethod,
    DiskPlan,
    Subject,
    one_each,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    DiskRecord,
    Volume,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.change import settled
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import Method, to_xml

_WHAT_PLAN = 'Failed to plan the snapshot of the subvolume'
# holds the snapshots of a subvolume that is the root of its mount
DIRECTORY = '.disksnap'


class BtrfsMethod(DiskMethod):
    """Read-only snapshots of the btrfs subvolumes that hold the images."""

    name = 'btrfs'
    copies = True
    shares = True

    def auto_reason(self, disk: Disk, domain: Domain) -> str | None:
        return None

    def refusal(self, disk: Disk, domain: Domain) -> str | None:
        if not domain.host.local:
            return 'the module must run on the hypervisor itself, as libvirt has no call that snapshots a subvolume'
        if os.geteuid() != 0:
            return 'the module must run as root, as nobody else may delete a subvolume'
        refusal = _copies.refusal(disk, domain)
        if refusal is not None:
            return refusal
        return _copies.asked(lambda: _not_in_a_subvolume(_place.image_of(disk, domain)))

    # -- plan ---------------------------------------------------------------------------------------------

    def plan(self, subject: Subject, disk: Disk, method: Method, reason: str) -> DiskPlan:
        domain = subject.domain
        _place.refuse_busy(domain, disk, _WHAT_PLAN, live=subject.live)
        _place.refuse_saved(domain, disk, _WHAT_PLAN, _copies.SAVED, live=subject.live)
        image = _place.image_of(disk, domain)
        _copies.refuse_unfit(domain, disk, image, _WHAT_PLAN)
        _copies.refuse_lazy(domain, disk, image, _WHAT_PLAN, 'Use the method reflink, or turn', live=subject.live)
        real = os.path.realpath(image)
        root = _subvolume.root_of(real) or ''  # refusal() has seen that there is one
        path = self._place(subject, disk, method, root)
        copy = os.path.join(path, os.path.relpath(real, root))
        resolved = Method('btrfs', file=path)
        record = DiskRecord(
            target=disk.target,
            method='btrfs',
            method_xml=to_xml(resolved),
            original=settled(disk.xml),
            modified_disk=None,
            backup_source=_copies.backup_source(disk.active, copy),
            volumes=[Volume(path=path, name=os.path.basename(path), format='subvolume')],
            reason=reason,
            backing=_copies.backing_of(disk, domain, copy),
        )
        _copies.refuse_stray_backing(domain, disk, record, _WHAT_PLAN, inside=path)
        capacity = _place.capacity_of(domain, disk, image, live=subject.live)
        notes = {'root': root, 'capacity': capacity}
        return DiskPlan(disk, resolved, record, still=_copies.is_qcow2(disk.active), shared=root, notes=notes)

    def _place(self, subject: Subject, disk: Disk, method: Method, root: str) -> str:
        """Path of the snapshot."""
        domain = subject.domain
        inside = root == _mounts.mount_of(root).point
        name = method.file or f'{domain.name}.{subject.snapshot_name}'
        if not method.file:
            name = name if inside else f'{os.path.basename(root)}.{name}'
            _place.refuse_astray(domain, disk, name, _WHAT_PLAN)
        path = name if name.startswith('/') else os.path.join(_home(root), name)
        _place.refuse_long(domain, disk, os.path.basename(path), _WHAT_PLAN)
        directory = os.path.dirname(path)
        made = directory == os.path.join(root, DIRECTORY) and not os.path.lexists(directory)
        _copies.refuse_elsewhere(domain, disk, root, root if made else directory, _WHAT_PLAN)
        if path not in subject.reclaimed and os.path.lexists(path):
            raise _taken(domain, disk.target, path)
        return path

    def space(self, subject: Subject, plan: DiskPlan) -> list[_space.Need]:
        [volume] = plan.record.volumes
        taken = _space.taken(plan.disk, subject.domain, whole=False)
        return [] if taken is None else _space.beside(subject.domain, volume.path, taken, volume.pool)

    # -- prepare, commit, finish --------------------------------------------------------------------------

    def prepare(self, subject: Subject, plans: t.Sequence[DiskPlan]) -> None:
        domain = subject.domain
        for plan in one_each(plans):
            path, root = plan.record.volumes[0].path, plan.notes['root']
            if os.path.lexists(path):
                for one in plans:
                    one.record.volumes = [volume for volume in one.record.volumes if volume.path != path]
                raise _taken(domain, plan.disk.target, path)
            try:
                directory = os.path.dirname(path)
                if directory == os.path.join(root, DIRECTORY):
                    os.makedirs(directory, mode=0o700, exist_ok=True)
                plan.notes['open'] = (_Directory(root), _Directory(directory))
                _subvolume.flush(plan.notes['open'][0].handle)
            except OSError as error:
                what = f'Failed to prepare the snapshot of {root}'
                raise _clone.failure(what, error, domain=domain.name, disk=plan.disk.target) from error

    def commit(self, subject: Subject, plans: t.Sequence[DiskPlan]) -> None:
        for plan in plans:
            if 'open' not in plan.notes:
                continue
            source, directory = plan.notes['open']
            path = plan.record.volumes[0].path
            try:
                _subvolume.snapshot(source.handle, directory.handle, os.path.basename(path))
            except OSError as error:
                if isinstance(error, FileExistsError):
                    for one in plans:
                        one.record.volumes = [volume for volume in one.record.volumes if volume.path != path]
                what = f'Failed to snapshot the subvolume {plan.notes["root"]}'
                raise _clone.failure(what, error, domain=subject.domain.name, disk=plan.disk.target) from error

    def finish(self, subject: Subject, plans: t.Sequence[DiskPlan]) -> None:
        domain = subject.domain
        for plan in plans:
            plan.notes.pop('open', None)
            record = plan.record
            fault = self.fault(domain, record)
            if fault is not None:
                what = 'Failed to snapshot the subvolume'
                raise DiskSnapError(what, domain=domain.name, disk=record.target, why=fault)
            _copies.refuse_size(domain, record, plan.notes['capacity'])
            if record.backup_source.format == 'qcow2':
                path = record.backup_source.path or ''
                _images.check(path, timeout=_copies.CHECK_TIMEOUT, domain=domain.name, disk=record.target)

    # -- undo ---------------------------------------------------------------------------------------------

    def rollback(self, domain: Domain, records: t.Sequence[DiskRecord]) -> None:
        self._delete_all(domain, records, sure=False)

    def remove(self, domain: Domain, records: t.Sequence[DiskRecord]) -> None:
        self._delete_all(domain, records, sure=True)

    def _delete_all(self, domain: Domain, records: t.Sequence[DiskRecord], *, sure: bool) -> None:
        """Delete the snapshots of these records, each once.

        Args:
            sure: they were taken. Else the run may have died before, and left the name to someone else.
        """
        paths = {volume.path: record for record in records for volume in record.volumes}
        for path, record in paths.items():
            try:
                self._delete(domain, record, path, sure=sure)
            except OSError as error:
                what = f'Failed to delete the snapshot {path}'
                raise _clone.failure(what, error, domain=domain.name, disk=record.target) from error

    def _delete(self, domain: Domain, record: DiskRecord, path: str, *, sure: bool) -> None:
        """Delete a snapshot of the disk's subvolume, and our directory if it is empty."""
        found = _subvolume.read(path)
        if found is not None:
            root = _source_of(domain, record)
            source = _subvolume.read(root) if root else None
            if source is not None and found.read_only and found.parent_uuid == source.uuid:
                _subvolume.delete(path)
            elif sure or source is None:
                raise DiskSnapError(
                    f'Failed to delete {path}',
                    domain=domain.name,
                    disk=record.target,
                    why='it is not a read-only snapshot of the subvolume that holds the image of the disk now',
                    hint=f'If nobody needs it, delete it with btrfs subvolume delete {path} and run the task again.',
                )
        if os.path.basename(os.path.dirname(path)) == DIRECTORY:
            with contextlib.suppress(OSError):  # others may be in it
                os.rmdir(os.path.dirname(path))

    def present(self, domain: Domain, record: DiskRecord) -> bool:
        return bool(record.volumes) and os.path.lexists(record.volumes[0].path)

    def fault(self, domain: Domain, record: DiskRecord) -> str | None:
        if not self.present(domain, record):
            return 'the snapshot of the subvolume is not there any more'
        path = record.volumes[0].path

        def look() -> str | None:
            found = _subvolume.read(path)
            if found is None:
                return f'{path} is no subvolume'
            return None if found.read_only else f'the snapshot {path} has been made writable'

        return _copies.asked(look) or _copies.fault(domain, record)

    # -- revert -------------------------------------------------------------------------------------------

    def refuse_revert(self, domain: Domain, record: DiskRecord) -> None:
        _copies.refuse_revert(domain, record, self.fault(domain, record))

    def revert(self, domain: Domain, records: t.Sequence[DiskRecord], *, deadline: float) -> None:
        for record in records:
            _copies.revert(domain, record)


class _Directory:
    """An open directory, which is closed when nobody knows it any more."""

    def __init__(self, path: str) -> None:
        self.handle = _subvolume.open_directory(path)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self.handle)


def _not_in_a_subvolume(image: str) -> str | None:
    """Why an image cannot be snapshotted with its subvolume, as a clause; None if it can."""
    real = os.path.realpath(image)
    mount = _mounts.mount_of(real)
    if mount.type != 'btrfs':
        return f'{image} is on {mount.type}, not on btrfs'
    if _subvolume.root_of(real) is None:
        return f'{image} is outside any subvolume that can be reached: only a part of one is mounted at {mount.point}'
    return None


def _home(root: str) -> str:
    """The directory of the snapshots of a subvolume: the one that it is in, or ours within it."""
    if root == _mounts.mount_of(root).point:
        return os.path.join(root, DIRECTORY)
    return os.path.dirname(root)


def _source_of(domain: Domain, record: DiskRecord) -> str | None:
    """The root of the subvolume that a record's snapshot is of, by the image that the disk had."""
    try:
        return _subvolume.root_of(os.path.realpath(_copies.original_image(domain, record)))
    except (DiskSnapError, OSError):
        return None


def _taken(domain: Domain, target: str, path: str) -> DiskSnapError:
    return DiskSnapError(
        _WHAT_PLAN,
        domain=domain.name,
        disk=target,
        why=f'{path} already exists',
        hint='Take another snapshot_name, name a file, or remove that one if nothing uses it.',
    )
