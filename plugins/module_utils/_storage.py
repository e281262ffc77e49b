# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All images of a host, read pool by pool rather than one by one: for who looks at many domains at once.

What it says is of the moment when it was read.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import typing as t
from dataclasses import dataclass

from ansible_collections.disksnap.libvirt.plugins.module_utils import _images
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._pool import DIRECTORY_TYPES, TRANSIENT_PREFIX, Pools
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.volume import PoolInfo, VolumeInfo


@dataclass(frozen=True)
class Image:
    """An image, and the name of the lasting pool that it is a volume of, or None."""

    info: VolumeInfo
    pool: str | None

    @property
    def path(self) -> str:
        """Where it is; libvirt has given one to whatever is here."""
        return self.info.path or ''


class Storage:
    """The images of one host.

    It stands in for ``Pools`` where a chain is followed: see ``volume``, ``volume_path`` and ``canonical``.

    Args:
        pools: of the connection.
        local: whether files of the hypervisor are those of this machine; then directories that no lasting pool has are
            read without a pool.

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
        self.pools: list[PoolInfo] = []
        self.unreadable: dict[str, str] = {}
        for info, volumes in pools.listings():
            lasting = not info.name.startswith(TRANSIENT_PREFIX)
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
        if found is not None or directory in self._read or directory.startswith('/dev') or not key.startswith('/'):
            return found
        self._read.add(directory)
        self._look_into(directory)
        return self._images.get(key)

    def _look_into(self, directory: str) -> None:
        try:
            volumes = self._files(directory) if self._local else self._pools.listing(directory)
        except (OSError, DiskSnapError) as error:
            self.unreadable[directory] = str(error)
            return
        for volume in volumes:
            self._add(volume, None)

    def _files(self, directory: str) -> list[VolumeInfo]:
        found = []
        with os.scandir(directory) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # it is no file, or has gone
                    found.append(_images.describe(entry.path))
        return found

    def missing(self, path: str) -> bool:
        """Whether a file is surely not there: its directory can be read, and it is not in it."""
        key = self.canonical(path)
        if not key.startswith('/') or key.startswith('/dev/') or self.find(key) is not None:
            return False
        if self._local:
            return not os.path.lexists(key)
        return posixpath.dirname(key) not in self.unreadable

    def all(self) -> t.Iterator[Image]:
        """Every image that was read: those of active pools, and those beside an image that was asked for."""
        yield from self._images.values()

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
