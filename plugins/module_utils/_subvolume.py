# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Subvolumes of btrfs: which one holds a path, snapshot it, delete a snapshot.

By ioctl, since a program would have to be started while the guest is frozen, and may not be installed.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from dataclasses import dataclass

from ansible_collections.disksnap.libvirt.plugins.module_utils import _ioctl, _mounts

# the inode number of the root directory of every subvolume (BTRFS_FIRST_FREE_OBJECTID)
_ROOT_INODE = 256


@dataclass(frozen=True)
class Subvolume:
    """What btrfs says of a subvolume; ``parent_uuid`` is of the one that it is a snapshot of, or all zeros."""

    path: str
    uuid: bytes
    parent_uuid: bytes
    read_only: bool


def is_root(path: str) -> bool:
    """Whether a path is the root of a subvolume.

    Raises:
        OSError: if it cannot be looked at.
    """
    return (
        os.path.isdir(path)
        and not os.path.islink(path)
        and os.stat(path).st_ino == _ROOT_INODE
        and _mounts.mount_of(path).type == 'btrfs'
    )


def root_of(path: str) -> str | None:
    """The root of the subvolume that holds a file, by its path without symbolic links; None if no path leads there.

    A bind mount of some directory of a subvolume hides its root.

    Raises:
        OSError: if a directory cannot be looked at.
    """
    point = _mounts.mount_of(path).point
    here = path
    while True:
        if is_root(here):
            return here
        if here in (point, '/'):
            return None
        here = os.path.dirname(here)


def read(path: str) -> Subvolume | None:
    """What btrfs says of the subvolume whose root is ``path``; None if there is none.

    Raises:
        OSError: if btrfs does not answer (before Linux 4.18).
    """
    if not os.path.lexists(path) or not is_root(path):
        return None
    info = _mounts.answer(path, _ioctl.BTRFS_SUBVOLUME_INFO, _ioctl.BTRFS_SUBVOLUME_INFO_SIZE)
    flags = int.from_bytes(info[_ioctl.BTRFS_SUBVOLUME_FLAGS], sys.byteorder)
    return Subvolume(
        path,
        info[_ioctl.BTRFS_SUBVOLUME_UUID],
        info[_ioctl.BTRFS_SUBVOLUME_PARENT_UUID],
        bool(flags & _ioctl.BTRFS_SUBVOLUME_IS_READ_ONLY),
    )


def open_directory(path: str) -> int:
    """A descriptor of a directory, for ``snapshot``.

    Raises:
        OSError: if it cannot be opened.
    """
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def snapshot(source: int, directory: int, name: str) -> None:
    """Take a read-only snapshot; it is on the disk when this returns.

    Args:
        source: descriptor of the subvolume's root.
        directory: descriptor of the directory that gets it.
        name: of the snapshot there.

    Raises:
        OSError: if btrfs refuses; FileExistsError if the name is taken.
    """
    arguments = bytearray(4096)
    struct.pack_into('=qQQ', arguments, 0, source, 0, _ioctl.BTRFS_READ_ONLY)
    _put_name(arguments, _ioctl.BTRFS_SNAPSHOT_NAME_AT, name)
    fcntl.ioctl(directory, _ioctl.BTRFS_SNAPSHOT, arguments, True)


def delete(path: str) -> None:
    """Delete a subvolume; btrfs frees its space afterwards.

    Raises:
        OSError: if btrfs refuses.
    """
    arguments = bytearray(4096)
    _put_name(arguments, _ioctl.BTRFS_DELETE_NAME_AT, os.path.basename(path))
    directory = open_directory(os.path.dirname(path))
    try:
        fcntl.ioctl(directory, _ioctl.BTRFS_DELETE, arguments, True)
    finally:
        os.close(directory)


def flush(handle: int) -> None:
    """Have the whole btrfs written out, so that a snapshot has little left to write.

    Raises:
        OSError: if that fails.
    """
    fcntl.ioctl(handle, _ioctl.BTRFS_SYNC)


def _put_name(arguments: bytearray, at: int, name: str) -> None:
    encoded = os.fsencode(name)
    arguments[at : at + len(encoded)] = encoded
