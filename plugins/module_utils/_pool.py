# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storage pools: every new file is a volume of the pool that holds its directory, and leaves through it.

Where no pool covers the directory, a transient one is opened for the time of the call. Its name carries our
pid, so that a later run can tell one that a killed run left behind.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import secrets
import time
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained, is_local
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._paths import is_device
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.volume import (
    PoolInfo,
    VolumeInfo,
    directory_pool,
    overlay_volume,
    plain_name,
    raw_volume,
    read_pool,
    read_volume,
)

TRANSIENT_PREFIX = 'disksnap-'
# pools whose volumes are files in a directory that the pool's target path names
DIRECTORY_TYPES = ('dir', 'fs', 'netfs')
# Where many runs work side by side, the transient pool of a directory may be another's, which closes it at any moment;
# libvirt allows one pool a directory. So what failed for that is tried again for as long.
_PATIENCE = 30.0
_PAUSE = 0.02

T = t.TypeVar('T')


class Pools:
    """The storage pools of one connection; a context manager that closes what it opened.

    Args:
        connection: a ``virConnect``.
        uri: its URI: only on the local host can a pid tell whether the run that left a pool is still alive.
    """

    def __init__(self, connection: t.Any, uri: str) -> None:
        self._connection = connection
        self._local = is_local(uri)
        self._ours: set[str] = set()
        self._started: list[t.Any] = []
        self._refreshed: set[str] = set()
        # what was found is asked for again and again: by directory, and by the names of a pool and a volume
        self._known: dict[str, tuple[t.Any, PoolInfo]] = {}
        self._paths: dict[tuple[str, str], str] = {}

    def __enter__(self) -> Pools:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the transient pools of this run and of runs that died, and stop what this run started."""
        self._known = {}
        for pool in self._started:
            with contextlib.suppress(libvirt.libvirtError):
                pool.destroy()
        self._started = []
        with contextlib.suppress(libvirt.libvirtError):
            for pool in self._connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_TRANSIENT):
                if pool.name() in self._ours or self._left_behind(pool.name()):
                    with contextlib.suppress(libvirt.libvirtError):
                        pool.destroy()
        self._ours = set()

    def _left_behind(self, name: str) -> bool:
        pid = name[len(TRANSIENT_PREFIX) :].partition('-')[0]
        if not name.startswith(TRANSIENT_PREFIX) or not pid.isdigit() or not self._local:
            return False
        return not os.path.exists(f'/proc/{pid}')

    def canonical(self, path: str) -> str:
        """One spelling for all paths of a file: without symbolic links where the host is this one."""
        if self._local and path.startswith('/'):
            return os.path.realpath(path)
        return posixpath.normpath(path) if path.startswith('/') else path

    # -- finding ------------------------------------------------------------------------------------------

    def by_name(self, name: str) -> tuple[t.Any, PoolInfo]:
        """The pool of this name, if it is one of files started for the time of the call where it is not active.

        To start and stop another one does more: to stop a logical pool deactivates every volume of the group that
        nobody has open (virStorageBackendLogicalStopPool in libvirt's storage_backend_logical.c).

        Raises:
            DiskSnapError: if there is none, or it does not start.
        """
        with explained(f'Failed to look up the storage pool {name}', hint='List them with virsh pool-list --all.'):
            pool = self._connection.storagePoolLookupByName(name)
            if read_pool(pool.XMLDesc(0)).type in DIRECTORY_TYPES:
                self._start(pool)
            return pool, read_pool(pool.XMLDesc(0))

    def _start(self, pool: t.Any) -> None:
        if not pool.isActive():
            pool.create(0)
            self._started.append(pool)

    def find(self, directory: str) -> tuple[t.Any, PoolInfo] | None:
        """The pool whose target path is ``directory``, started if it is not active; None if there is none.

        One that was found before is taken to be there still, see ``_with_pool_at``.

        Args:
            directory: absolute path on the hypervisor.

        Raises:
            DiskSnapError: if it does not start.
        """
        wanted = posixpath.normpath(directory)
        if wanted in self._known:
            return self._known[wanted]
        with self._opening(wanted):
            for pool in self._connection.listAllStoragePools(0):
                info = _info(pool)
                if info is None or info.type not in DIRECTORY_TYPES or not info.path:
                    continue
                if posixpath.normpath(info.path) == wanted:
                    if not info.name.startswith(TRANSIENT_PREFIX):
                        self._start(pool)
                        self._known[wanted] = pool, info
                    return pool, info
        return None

    def at(self, directory: str) -> tuple[t.Any, PoolInfo]:
        """The pool of this directory, as ``find`` has it; else a transient one.

        Raises:
            DiskSnapError: if none can be opened there.
        """
        found = self.find(directory)
        if found is not None:
            return found
        wanted = posixpath.normpath(directory)
        with self._opening(wanted):
            name = f'{TRANSIENT_PREFIX}{os.getpid()}-{secrets.token_hex(4)}'
            pool = self._connection.storagePoolCreateXML(directory_pool(name, wanted), 0)
            self._ours.add(name)
            self._known[wanted] = pool, read_pool(pool.XMLDesc(0))
            return self._known[wanted]

    @staticmethod
    def _opening(directory: str) -> t.ContextManager[None]:
        return explained(
            f'Failed to open a storage pool at {directory}', hint='Check that the directory is there and can be read.'
        )

    def available(self, directory: str) -> int:
        """Bytes that are free there, as of now.

        Raises:
            DiskSnapError: if no pool can be opened there.
        """

        def ask(pool: t.Any, info: PoolInfo) -> int:
            self._read_anew(pool, info)
            return read_pool(pool.XMLDesc(0)).available

        with explained(f'Failed to ask how much room is left on {directory}'):
            return self._with_pool_at(directory, ask)

    def _with_pool_of(self, path: str, action: t.Callable[[t.Any, PoolInfo], T]) -> T:
        return self._with_pool_at(posixpath.dirname(path), action)

    def _with_pool_at(self, directory: str, action: t.Callable[[t.Any, PoolInfo], T]) -> T:
        """Run ``action`` on the pool of a directory.

        Again if it has gone since it was found, or if another run opens or closes a transient one meanwhile.
        """
        gone = (libvirt.VIR_ERR_NO_STORAGE_POOL, libvirt.VIR_ERR_OPERATION_INVALID)
        deadline = time.monotonic() + _PATIENCE
        while True:
            late = time.monotonic() >= deadline
            known = posixpath.normpath(directory) in self._known
            try:
                pool, info = self.at(directory)
            except DiskSnapError as error:
                # "Storage source conflict": another run has opened a pool there since we looked
                if late or error.code not in (libvirt.VIR_ERR_OPERATION_FAILED, *gone):
                    raise
                time.sleep(_PAUSE)
                continue
            try:
                return action(pool, info)
            except libvirt.libvirtError as error:
                transient = info.name.startswith(TRANSIENT_PREFIX)
                if late or error.get_error_code() not in gone or not (known or transient):
                    raise
                self._known.pop(posixpath.normpath(directory), None)
            time.sleep(_PAUSE)

    # -- volumes ------------------------------------------------------------------------------------------

    def volume(self, path: str) -> VolumeInfo | None:
        """What the storage says of the file or device at ``path``; None if no pool can see it.

        The pool is read anew once per run, as files made behind libvirt's back are not in it.
        """
        if is_device(path):
            return self._known_volume(path)

        def look(pool: t.Any, info: PoolInfo) -> VolumeInfo | None:
            self._read_anew(pool, info)
            return _volume_in(pool, posixpath.basename(path))

        with explained(f'Failed to look at {path}'):
            try:
                return self._with_pool_of(path, look)
            except DiskSnapError:
                return None  # the directory is not there, or libvirt cannot read it

    def _read_anew(self, pool: t.Any, info: PoolInfo) -> None:
        if info.name in self._refreshed:
            return
        try:
            pool.refresh(0)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_INTERNAL_ERROR:
                raise
            return  # another task makes or deletes a volume there at this moment: what libvirt knows is fresh enough
        self._refreshed.add(info.name)

    def _known_volume(self, path: str) -> VolumeInfo | None:
        try:
            return read_volume(self._connection.storageVolLookupByPath(path).XMLDesc(0))
        except libvirt.libvirtError:
            return None

    def volume_path(self, pool_name: str, volume_name: str) -> str:
        """The path of a ``<source pool= volume=>``.

        Raises:
            DiskSnapError: if the pool or the volume is not there.
        """
        names = pool_name, volume_name
        if names not in self._paths:
            self._paths[names] = self._path(*names)
        return self._paths[names]

    def _path(self, pool_name: str, volume_name: str) -> str:
        pool, info = self.by_name(pool_name)
        if info.type == 'logical' and not pool.isActive():
            return posixpath.join(
                info.path or f'/dev/{info.source_name or info.name}', plain_name(volume_name, pool_name)
            )
        with explained(f'Failed to look up the volume {volume_name} of the storage pool {pool_name}'):
            return t.cast(str, pool.storageVolLookupByName(volume_name).path())

    def pool_name_of(self, path: str) -> str | None:
        """Name of the lasting pool that holds the file; None where only a transient one would."""
        try:
            found = self.find(posixpath.dirname(path))
        except DiskSnapError:
            return None
        return found[1].name if found and not found[1].name.startswith(TRANSIENT_PREFIX) else None

    def exists(self, path: str) -> bool:
        """Whether the pool of the directory holds such a file."""
        return self.volume(path) is not None

    def create_overlay(
        self,
        path: str,
        capacity: int | None,
        *,
        backing_path: str | None,
        backing_format: str | None,
        like: VolumeInfo | None,
    ) -> VolumeInfo:
        """Make a qcow2 volume over ``backing_path`` through the pool of its directory.

        Args:
            path: absolute path of the new file.
            capacity: its virtual size in bytes.
            backing_path: the base image; None for an empty image.
            backing_format: the base image's format (``raw``, ``qcow2``).
            like: the volume whose owner, group and mode the new one gets.

        Raises:
            libvirt.libvirtError: if the storage refuses: the name is taken, the file system is full or read-only.
        """
        xml = overlay_volume(
            posixpath.basename(path),
            capacity,
            backing_path=backing_path,
            backing_format=backing_format,
            owner=like.owner if like else None,
            group=like.group if like else None,
            mode=like.mode if like else None,
        )
        return self._with_pool_of(path, lambda pool, _info: read_volume(pool.createXML(xml, 0).XMLDesc(0)))

    def create_empty(self, path: str, *, mode: int) -> VolumeInfo:
        """Make an empty file through the pool of its directory, for content that comes by other ways.

        Raises:
            libvirt.libvirtError: if the storage refuses.
        """
        xml = raw_volume(posixpath.basename(path), 0, mode=mode)
        return self._with_pool_of(path, lambda pool, _info: read_volume(pool.createXML(xml, 0).XMLDesc(0)))

    def clone(self, path: str, source: str, *, mode: int) -> VolumeInfo:
        """Make a raw file that shares its blocks with the raw file ``source``; libvirt clones no other format.

        Raises:
            libvirt.libvirtError: if the storage refuses, or cannot share blocks between the two.
        """

        def make(pool: t.Any, _info: PoolInfo) -> VolumeInfo:
            def clone_of(origin_pool: t.Any, _info: PoolInfo) -> VolumeInfo:
                origin = origin_pool.storageVolLookupByName(posixpath.basename(source))
                xml = raw_volume(posixpath.basename(path), origin.info()[1], mode=mode)
                made = pool.createXMLFrom(xml, origin, libvirt.VIR_STORAGE_VOL_CREATE_REFLINK)
                return read_volume(made.XMLDesc(0))

            return self._with_pool_of(source, clone_of)

        return self._with_pool_of(path, make)

    def delete(self, path: str) -> bool:
        """Delete a volume through its pool; False if it is not there.

        Raises:
            libvirt.libvirtError: if the storage refuses.
        """

        def remove(pool: t.Any, _info: PoolInfo) -> bool:
            try:
                volume = pool.storageVolLookupByName(posixpath.basename(path))
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                    raise
                pool.refresh(0)
                try:
                    volume = pool.storageVolLookupByName(posixpath.basename(path))
                except libvirt.libvirtError as again:
                    if again.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                        raise
                    return False
            volume.delete(0)
            return True

        return self._with_pool_of(path, remove)

    def refresh(self, path: str) -> None:
        """Have the pool of the file's directory read anew. Best effort: it is a service to other users of the pool."""
        with contextlib.suppress(DiskSnapError, libvirt.libvirtError):
            found = self.find(posixpath.dirname(path))
            if found:
                found[0].refresh(0)

    def all_volumes(self) -> t.Iterator[VolumeInfo]:
        """Every volume of every active pool of files, each pool read anew."""
        for info, volumes in self.listings():
            if info.type in DIRECTORY_TYPES:
                yield from volumes

    def listings(self) -> t.Iterator[tuple[PoolInfo, list[VolumeInfo]]]:
        """Every active pool with its volumes; those of files are read anew.

        Raises:
            DiskSnapError: if libvirt does not list the pools.
        """
        for pool, info in self.active():
            volumes = self.volumes_of(pool, info)
            if volumes is not None:
                yield info, volumes

    def active(self) -> list[tuple[t.Any, PoolInfo]]:
        """Every active pool, with what libvirt knows of it without a look at its storage.

        Raises:
            DiskSnapError: if libvirt does not list the pools.
        """
        with explained('Failed to list the storage pools'):
            pools = self._connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)
        return [(pool, info) for pool in pools if (info := _info(pool)) is not None]

    def volumes_of(self, pool: t.Any, info: PoolInfo) -> list[VolumeInfo] | None:
        """The volumes of a pool, which is read anew if it is one of files: a call for each of them.

        None of one that another run has closed, or whose directory is gone.
        """
        try:
            if info.type in DIRECTORY_TYPES:
                self._read_anew(pool, info)
            return _volumes_of(pool)
        except libvirt.libvirtError:
            return None

    def listing(self, directory: str) -> list[VolumeInfo]:
        """The volumes in a directory, through its pool or a transient one.

        Raises:
            DiskSnapError: if no pool can be opened there.
        """

        def read(pool: t.Any, info: PoolInfo) -> list[VolumeInfo]:
            self._read_anew(pool, info)
            return _volumes_of(pool)

        with explained(f'Failed to list the volumes at {directory}'):
            return self._with_pool_at(directory, read)


def _volumes_of(pool: t.Any) -> list[VolumeInfo]:
    found = []
    for volume in pool.listAllVolumes(0):
        with contextlib.suppress(libvirt.libvirtError):  # it went away since it was listed
            found.append(read_volume(volume.XMLDesc(0)))
    return found


def _info(pool: t.Any) -> PoolInfo | None:
    """What the pool's XML says; None if the pool went away since it was listed."""
    try:
        return read_pool(pool.XMLDesc(0))
    except libvirt.libvirtError:
        return None


def _volume_in(pool: t.Any, name: str) -> VolumeInfo | None:
    try:
        return read_volume(pool.storageVolLookupByName(name).XMLDesc(0))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_STORAGE_VOL:
            return None
        raise
