# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is on the storage and belongs to a domain, and that neither a domain nor a journal knows of."""

from __future__ import annotations

import contextlib
import os
import posixpath
import typing as t
from dataclasses import replace

from ansible_collections.disksnap.libvirt.plugins.module_utils import _chain, _clone, _lvm, _mounts, _subvolume
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.btrfs import DIRECTORY
from ansible_collections.disksnap.libvirt.plugins.module_utils._paths import is_device
from ansible_collections.disksnap.libvirt.plugins.module_utils._problem import Problem
from ansible_collections.disksnap.libvirt.plugins.module_utils._storage import Image, Storage
from ansible_collections.disksnap.libvirt.plugins.module_utils._survey import DomainView, Survey
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import parse

# UUID of the domain that an orphan belongs to; None where it belongs to several, or to one that is gone
Owned = tuple[t.Optional[str], Problem]


class Known:
    """What domains and journals refer to, by canonical path.

    ``users`` are the domains whose chains have an image; ``named`` whatever else somebody refers to.
    """

    def __init__(self, found: Survey) -> None:
        self.storage = found.storage
        self.users: dict[str, dict[str, DomainView]] = {}
        self.named: set[str] = set()
        for view in found.domains:
            for disk in view.disks:
                self._use(view, [layer.path for layer in disk.layers])
            for disk in view.later_disks:
                self._use(view, [layer.path for layer in disk.layers])
            for one in view.now.disks:
                self.named.update(self.storage.canonical(path) for path in _mirrored(one, found.storage, view.name))
            self.named.update(self.storage.canonical(path) for path in _recorded(view))

    def _use(self, view: DomainView, paths: t.Iterable[str | None]) -> None:
        for path in paths:
            if path:
                self.users.setdefault(self.storage.canonical(path), {})[view.uuid] = view

    def __contains__(self, path: str) -> bool:
        key = self.storage.canonical(path)
        return key in self.users or key in self.named

    def below(self, image: Image) -> tuple[str, dict[str, DomainView]] | None:
        """The first image below this one that domains have in their chains, with these; None if there is none."""
        seen: set[str] = set()
        info = image.info
        while info.backing_path and info.path and info.path not in seen and len(seen) < _chain.MAX_DEPTH:
            seen.add(info.path)
            path = posixpath.join(posixpath.dirname(info.path), info.backing_path)
            users = self.users.get(self.storage.canonical(path))
            if users:
                return path, users
            below = self.storage.find(path)
            if below is None:
                return None
            info = below.info
        return None


def _mirrored(disk: Disk, storage: Storage, domain: str) -> t.Iterator[str]:
    """What a block job on the disk writes to, as virsh blockcopy has it do, and what that stands on."""
    if disk.mirror is None or not disk.mirror.chain:
        return
    target = replace(disk, chain=disk.mirror.chain, complete=disk.mirror.complete)
    for source in _chain.seen(target, storage, domain)[0].chain:
        with contextlib.suppress(DiskSnapError):
            path = _chain.local_path(source, storage)
            if path:
                yield path


def _recorded(view: DomainView) -> t.Iterator[str]:
    """Every path that a domain's journal, or libvirt's own snapshots of it, name."""
    for snapshot in view.journal.snapshots.values():
        for one in snapshot.disks:
            yield from (volume.path for volume in one.volumes)
            yield from one.backing
            if one.backup_source.path:
                yield one.backup_source.path
    for merge in view.journal.merges.values():
        yield from (path for path in (*merge.files, *merge.chain_before) if path.startswith('/'))
    for foreign in view.foreign:
        yield from (overlay for _target, _kind, overlay in foreign.disks if overlay)


def orphans(found: Survey) -> t.Iterator[Owned]:
    """What nobody refers to: overlays, and copies that say that they are this collection's."""
    known = Known(found)
    by_uuid = {view.uuid: view for view in found.domains}
    backups = Backups(found.storage)
    for image in list(found.storage.all()):
        # a snapshot LV stands on its origin, as libvirt has it, whoever took it: of ours, _logical_volumes tells
        if image.path in known or is_device(image.path):
            continue
        below = known.below(image)
        if below is not None:
            if not any(backups.use(view, image.path) for view in below[1].values()):
                yield from _overlay(image, *below)
        elif found.host.local:
            yield from _clone_of(image, by_uuid)
    if found.host.local:
        yield from _logical_volumes(found, known)
        yield from _subvolumes(found, known)


class Backups:
    """Which images the backup jobs of libvirt write to; a domain is asked only if it is suspected, and once."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._paths: dict[str, set[str]] = {}

    def use(self, view: DomainView, path: str) -> bool:
        """Whether a backup of this domain has an image: where it keeps what the guest overwrites, or its target."""
        if not view.live:
            return False
        if view.uuid not in self._paths:
            self._paths[view.uuid] = {self._storage.canonical(one) for one in self._of(view)}
        return self._storage.canonical(path) in self._paths[view.uuid]

    def _of(self, view: DomainView) -> list[str]:
        try:
            root = parse(view.handle.backupGetXMLDesc(0), 'the XML of a backup')
        except libvirt.libvirtError:  # none runs
            return []
        found = [*root.iterfind('./disks/disk/scratch'), *root.iterfind('./disks/disk/target')]
        return [path for one in found if (path := one.get('file') or one.get('dev'))]


def _overlay(image: Image, base: str, users: dict[str, DomainView]) -> t.Iterator[Owned]:
    if any(view.damaged is not None for view in users.values()):
        return  # its journal may name it
    names = ', '.join(sorted(view.name for view in users.values()))
    way = f'virsh vol-delete --pool {image.pool} {image.info.name}' if image.pool else f'rm {image.path}'
    yield (
        _only(users),
        Problem(
            'orphaned_overlay',
            f'{image.path} stands on {base}, which {names} uses, and neither a domain nor a journal refers to it.',
            f'If nobody needs what is in it: {way}',
            path=image.path,
        ),
    )


def _only(users: dict[str, DomainView]) -> str | None:
    """UUID of the domain that has an image; None if there is none, or more than one."""
    if len(users) != 1:
        return None
    [uuid] = users
    return uuid


# -- copies -------------------------------------------------------------------------------------------------------


def _orphaned_copy(path: str, of: str, way: str) -> Problem:
    return Problem(
        'orphaned_copy',
        f'{path} is a snapshot by this collection of {of}, and no journal has it.',
        f'If nobody needs it: {way}',
        path=path,
    )


def _clone_of(image: Image, by_uuid: t.Mapping[str, DomainView]) -> t.Iterator[Owned]:
    mark = _clone.marked(image.path) if image.info.type == 'file' else None
    if mark is None:
        return
    uuid, _space, target = mark.partition(' ')
    view = by_uuid.get(uuid)
    if view is not None and view.damaged is not None:
        return
    of = f'disk {target} of the domain {view.name}' if view else f'a disk of a domain that is gone ({uuid})'
    yield view.uuid if view else None, _orphaned_copy(image.path, of, f'rm -f {image.path}')


def _logical_volumes(found: Survey, known: Known) -> t.Iterator[Owned]:
    """Snapshot LVs with our tag."""
    if not any(path.startswith('/dev/') for path in (*known.users, *known.named)):
        return
    try:
        volumes = _lvm.volumes()
    except DiskSnapError:  # LVM is not there, or not for this user
        return
    for lv in volumes:
        if _lvm.TAG not in lv.tags or lv.path in known:
            continue
        users = known.users.get(found.storage.canonical(f'/dev/{lv.vg}/{lv.origin}'), {}) if lv.origin else {}
        if any(view.damaged is not None for view in users.values()):
            continue
        of = f'{lv.vg}/{lv.origin}' if lv.origin else 'a logical volume that is gone'
        yield _only(users), _orphaned_copy(lv.path, of, f'lvremove {lv.key}')


def _subvolumes(found: Survey, known: Known) -> t.Iterator[Owned]:
    """Read-only snapshots of subvolumes, at the places and with the names that the method gives them."""
    with open(_mounts.MOUNTINFO, encoding='utf-8', errors='replace') as text:
        mounts = _mounts.parse(text.read())
    if not any(mount.type == 'btrfs' for mount in mounts):
        return
    roots: dict[str, dict[str, DomainView]] = {}
    for path, users in known.users.items():
        mount = _mounts.holding(mounts, path)
        if mount is not None and mount.type == 'btrfs':
            try:
                root = _subvolume.root_of(path)
            except (OSError, DiskSnapError):
                continue
            if root is not None:
                roots.setdefault(root, {}).update(users)
    for root, users in roots.items():
        for view in users.values():
            if view.damaged is None:
                yield from ((view.uuid, problem) for problem in _snapshots_of(root, view, known))


def _snapshots_of(root: str, view: DomainView, known: Known) -> t.Iterator[Problem]:
    beside = f'{os.path.basename(root)}.{view.name}.'
    for directory, start in ((os.path.join(root, DIRECTORY), f'{view.name}.'), (os.path.dirname(root), beside)):
        try:
            names = [name for name in os.listdir(directory) if name.startswith(start)]
            source = _subvolume.read(root) if names else None
            for name in names:
                path = os.path.join(directory, name)
                one = _subvolume.read(path)
                if source is None or one is None or not one.read_only or one.parent_uuid != source.uuid:
                    continue
                if path not in known:
                    yield _orphaned_copy(path, f'the subvolume {root}', f'btrfs subvolume delete {path}')
        except (OSError, DiskSnapError):
            continue
