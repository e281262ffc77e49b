# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All images of a host, read directory by directory rather than one by one: for who looks at many domains at once.

What it says is of the moment when it was read.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.disksnap.libvirt.plugins.module_utils import _images
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._paths import is_device
from ansible_collections.disksnap.libvirt.plugins.module_utils._pool import DIRECTORY_TYPES, TRANSIENT_PREFIX, Pools
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.volume import PoolInfo, VolumeInfo


@dataclass(frozen=True)
class Image:
    """An image, and the name of the lasting pool that it is a volume of, or None.

    ``info`` has what may be believed. ``claims`` is the format that the first bytes of a raw image make it look like:
    a guest can have written them, so nothing else that they say is in ``info``.
    """

    info: VolumeInfo
    pool: str | None
    claims: str | None = None

    @property
    def path(self) -> str:
        """Where it is; libvirt has given one to whatever is here."""
        return self.info.path or ''


class Storage:
    """The images of one host.

    It stands in for ``Pools`` where a chain is followed: see ``volume``, ``volume_path`` and ``canonical``.

    Args:
        pools: of the connection.
        local: whether files of the hypervisor are those of this machine. Then directories are read as such, and of the
            pools only what they are called; libvirt would be asked for each volume.

    Attributes:
        pools: the active storage pools that last.
        unreadable: directories that could not be read, each with the reason.

    Raises:
        DiskSnapError: if libvirt does not list the pools.
    """

    def __init__(self, pools: Pools, *, local: bool) -> None:
        self._pools = pools
        self._local = local
        self._images: dict[str, Image] = {}
        self._by_name: dict[tuple[str, str], str] = {}
        self._read: set[str] = set()
        self._spelt: dict[str, str] = {}
        # by canonical path: the formats that users of an image say that it has, and whether it is open as raw
        self._stated: dict[str, set[str]] = {}
        self._open_as_raw: set[str] = set()
        self.pools: list[PoolInfo] = []
        self.unreadable: dict[str, str] = {}
        for pool, info in pools.active():
            self._add_pool(pool, info)

    def _add_pool(self, pool: t.Any, info: PoolInfo) -> None:
        lasting = not info.name.startswith(TRANSIENT_PREFIX)
        volumes = None
        if self._local and info.type in DIRECTORY_TYPES and info.path:
            with contextlib.suppress(OSError):  # libvirt may be allowed what this user is not
                volumes = self._files(info.path, strict=True)
                room = os.statvfs(info.path)
                info = replace(info, capacity=room.f_blocks * room.f_frsize, available=room.f_bavail * room.f_frsize)
        if volumes is None:
            volumes = self._pools.volumes_of(pool, info)
        if volumes is None:
            return
        if lasting:
            self.pools.append(info)
        if info.type in DIRECTORY_TYPES and info.path:
            self._read.add(self.canonical(info.path))
        for volume in volumes:
            self._add(volume, info.name if lasting else None)

    def _add(self, volume: VolumeInfo, pool: str | None) -> None:
        if not volume.path:
            return
        if pool is not None:
            self._by_name[pool, volume.name] = volume.path
        if volume.type in ('file', 'block'):
            self._images.setdefault(self.canonical(volume.path), Image(volume, pool))

    def canonical(self, path: str) -> str:
        """One spelling for all paths of a file; each is looked up once."""
        if path not in self._spelt:
            self._spelt[path] = self._pools.canonical(path)
        return self._spelt[path]

    def find(self, path: str) -> Image | None:
        """The image at a path; None if there is none, or it cannot be seen."""
        key = self.canonical(path)
        found = self._images.get(key)
        directory = posixpath.dirname(key)
        if found is None and directory not in self._read and not is_device(key) and key.startswith('/'):
            self._read.add(directory)
            self._look_into(directory)
            found = self._images.get(key)
        return self._believed(key, found) if found is not None else None

    def _look_into(self, directory: str) -> None:
        try:
            volumes = self._files(directory) if self._local else self._pools.listing(directory)
        except (OSError, DiskSnapError) as error:
            self.unreadable[directory] = str(error)
            return
        for volume in volumes:
            self._add(volume, None)

    def _files(self, directory: str, *, strict: bool = False) -> list[VolumeInfo]:
        """The files of a directory.

        Args:
            directory: absolute path.
            strict: fail where one may not be read.

        Raises:
            OSError: if the directory cannot be read.
        """
        found = []
        real = os.path.realpath(directory)
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    found.append(_images.describe(entry.path))
                    if not entry.is_symlink():
                        self._spelt[entry.path] = os.path.join(real, entry.name)
                except PermissionError:
                    if strict:
                        raise
                except OSError:  # it is no file, or has gone
                    continue
        return found

    def missing(self, path: str) -> bool:
        """Whether a file is surely not there: its directory can be read, and it is not in it."""
        key = self.canonical(path)
        if not key.startswith('/') or is_device(key) or self.find(key) is not None:
            return False
        if self._local:
            return not os.path.lexists(key)
        return posixpath.dirname(key) not in self.unreadable

    def all(self) -> t.Iterator[Image]:
        """Every image that was read: those of active pools, and those beside an image that was asked for."""
        for key, image in self._images.items():
            yield self._believed(key, image)

    # -- what may be believed -------------------------------------------------------------------------------

    def state(self, path: str, format_: str | None, *, live: bool = False) -> None:
        """Note which format somebody who uses an image says that it has.

        Args:
            path: of the image.
            format_: ``raw``, ``qcow2``, ...; None says nothing.
            live: a QEMU process has it open so.
        """
        if format_:
            key = self.canonical(path)
            self._stated.setdefault(key, set()).add(format_)
            if live and format_ == 'raw':
                self._open_as_raw.add(key)

    def _believed(self, key: str, image: Image) -> Image:
        """The image without what a guest may have written: whoever has it as a raw disk writes its first bytes."""
        info = image.info
        if info.type != 'file' or info.format in (None, 'raw'):
            return image
        if key not in self._open_as_raw and self._stated.get(key) != {'raw'}:
            return image
        plain = replace(
            info, format='raw', capacity=info.physical or info.capacity, backing_path=None, backing_format=None
        )
        return Image(plain, image.pool, info.format)

    # -- in the place of Pools ------------------------------------------------------------------------------

    def volume(self, path: str) -> VolumeInfo | None:
        """What the storage says of the image at a path; None if it cannot be seen."""
        found = self.find(path)
        return found.info if found else None

    def volume_path(self, pool_name: str, volume_name: str) -> str:
        """The path of a ``<source pool= volume=>``.

        Raises:
            DiskSnapError: if the pool or the volume is not there.
        """
        known = self._by_name.get((pool_name, volume_name))
        return known if known is not None else self._pools.volume_path(pool_name, volume_name)
