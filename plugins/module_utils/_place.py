# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every method asks that makes a file for a disk: whether the disk can be taken now, and where the file goes."""

from __future__ import annotations

import os
import posixpath
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _blockjob, _chain
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._pool import DIRECTORY_TYPES
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk, Source
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import Method

# bytes that must be free for a new file that holds next to nothing: an empty qcow2 of any size takes less
ROOM = 1024 * 1024
_NAME_LIMIT = 255


def is_file(source: Source, domain: Domain) -> bool:
    """Whether a layer is a file: of type file, or a volume of a pool over a directory.

    Raises:
        DiskSnapError: if the pool is not there.
    """
    if source.type == 'volume':
        return domain.host.pools.by_name(source.pool or '')[1].type in DIRECTORY_TYPES
    return source.type == 'file'


def image_of(disk: Disk, domain: Domain) -> str:
    """Path of the file that is the disk's active layer; where the host is this one, without symbolic links.

    The directory stays as it was named where only that is reached by links: a storage pool may go by that name.

    Raises:
        DiskSnapError: if it is no file, or the volume is not there.
    """
    source = disk.active
    path = source.path or _chain.local_path(source, domain.host.pools) or ''
    if not domain.host.local:
        return path
    real = os.path.realpath(path)
    directory, name = os.path.split(path)
    return path if os.path.join(os.path.realpath(directory), name) == real else real


def refuse_busy(domain: Domain, disk: Disk, what: str, *, live: bool) -> None:
    """Refuse a disk that a block job runs on.

    Raises:
        DiskSnapError: if one does.
    """
    job = _blockjob.look(domain.handle, disk.target) if live else None
    if job is not None:
        raise DiskSnapError(
            what,
            domain=domain.name,
            disk=disk.target,
            why=f'a block job ({job.kind}) runs on it',
            hint='Let snapshot_merge finish it, or end it with state: aborted.',
        )


def refuse_saved(domain: Domain, disk: Disk, what: str, consequence: str, *, live: bool) -> None:
    """Refuse a domain that is saved: it is shut off, but its guest has not ended.

    Args:
        consequence: what would be wrong, as the end of a sentence that says that the domain is saved.

    Raises:
        DiskSnapError: if it is.
    """
    if live:
        return
    with explained(what, domain=domain.name, disk=disk.target):
        saved = domain.handle.hasManagedSaveImage(0)
    if saved:
        raise DiskSnapError(
            what,
            domain=domain.name,
            disk=disk.target,
            why=f'the domain is saved (managed save), and {consequence}',
            hint='Start it first, or discard the saved state with virsh managedsave-remove.',
        )


def place(
    domain: Domain, disk: Disk, method: Method, name: str, what: str, *, beside: str | None
) -> tuple[str, str | None]:
    """Path of the new file, and the lasting pool that will hold it (None: a transient one).

    Args:
        method: whose options ``pool`` and ``file`` count.
        name: of the file, where ``file`` does not say.
        what: what fails, for errors.
        beside: directory for it, where neither ``pool`` nor ``file`` says; None if there is none.

    Raises:
        DiskSnapError: if it cannot go there: not within the pool named, the name too long, no room.
    """
    pools = domain.host.pools
    if not method.file:
        refuse_astray(domain, disk, name, what)
    name = method.file or name
    directory = _directory(domain, disk, method, name, what, beside)
    if name.startswith('/'):
        if posixpath.dirname(name) != directory:
            raise DiskSnapError(
                what,
                domain=domain.name,
                disk=disk.target,
                why=f'the file {name} is outside the pool {method.pool}, whose directory is {directory}',
            )
        name = posixpath.basename(name)
    refuse_long(domain, disk, name, what)
    available = pools.available(directory)
    if available < ROOM:
        raise DiskSnapError(
            what,
            domain=domain.name,
            disk=disk.target,
            why=f'no space is left on {directory} ({available} bytes)',
            hint='Make room, or name another pool.',
        )
    path = posixpath.join(directory, name)
    return path, pools.pool_name_of(path)


def refuse_astray(domain: Domain, disk: Disk, name: str, what: str) -> None:
    """Refuse the name of a new file that is made of other names, where these would lead out of its directory.

    libvirt takes a target name with ``/`` from a disk that has an address.

    Raises:
        DiskSnapError: if it is one.
    """
    if '/' in name:
        raise DiskSnapError(
            what,
            domain=domain.name,
            disk=disk.target,
            why=f'the new file would be named {name} after the domain and its disk, and a file name has no "/"',
            hint='Name one with file.',
        )


def refuse_long(domain: Domain, disk: Disk, name: str, what: str) -> None:
    """Refuse a file name that no file system takes.

    Raises:
        DiskSnapError: if it is one.
    """
    if len(name.encode()) > _NAME_LIMIT:
        raise DiskSnapError(
            what,
            domain=domain.name,
            disk=disk.target,
            why=f'the file name {name} is too long',
            hint='Name a shorter one with file.',
        )


def _directory(domain: Domain, disk: Disk, method: Method, name: str, what: str, beside: str | None) -> str:
    if method.pool is not None:
        info = domain.host.pools.by_name(method.pool)[1]
        if info.type not in DIRECTORY_TYPES or not info.path:
            raise DiskSnapError(
                what,
                domain=domain.name,
                disk=disk.target,
                why=f'the pool {method.pool} is of type {info.type}, and a file is to be made',
                hint=f'Name a pool of type {", ".join(DIRECTORY_TYPES)}.',
            )
        return posixpath.normpath(info.path)
    if name.startswith('/'):
        return posixpath.dirname(name)
    if beside is not None:
        return beside
    raise DiskSnapError(
        what,
        domain=domain.name,
        disk=disk.target,
        why=f'its image is of type {disk.active.type}, so there is no directory beside it',
        hint='Name a pool (of directory type) for it, or a file by its absolute path.',
    )


def refuse_taken(domain: Domain, disk: Disk, path: str, what: str, *, reclaimed: t.Collection[str] = ()) -> None:
    """Refuse a path where something is already.

    Args:
        reclaimed: paths that will be free by then.

    Raises:
        DiskSnapError: if something is.
    """
    if path in reclaimed:
        return
    if (domain.host.local and os.path.lexists(path)) or domain.host.pools.volume(path) is not None:
        raise DiskSnapError(
            what,
            domain=domain.name,
            disk=disk.target,
            why=f'{path} already exists',
            hint='Take another snapshot_name, name a file, or remove that one if nothing uses it.',
        )


def capacity_of(domain: Domain, disk: Disk, path: str | None, *, live: bool) -> int:
    """Bytes that the guest sees.

    Args:
        path: of the active layer; None for a network disk, which only a running domain has.

    Raises:
        DiskSnapError: if nobody can tell.
    """
    if live:
        with explained('Failed to read the size of the disk', domain=domain.name, disk=disk.target):
            return t.cast(int, domain.handle.blockInfo(disk.target)[0])
    volume = domain.host.pools.volume(path) if path else None
    if volume is None:
        raise DiskSnapError(
            'Failed to read the size of the disk',
            domain=domain.name,
            disk=disk.target,
            why=f'{path} is not there, or no storage pool can see it',
        )
    return volume.capacity
