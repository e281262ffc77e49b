# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which file system of this machine holds a path, and whether it can share blocks between files."""

from __future__ import annotations

import fcntl
import os
import re
import sys
import typing as t
from dataclasses import dataclass

from ansible_collections.disksnap.libvirt.plugins.module_utils import _ioctl
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError

MOUNTINFO = '/proc/self/mountinfo'
# file systems whose files can share blocks, as far as these methods know them
CLONING = ('btrfs', 'xfs')


@dataclass(frozen=True)
class Mount:
    """One mounted file system.

    Attributes:
        point: where it is mounted.
        type: ``btrfs``, ``xfs``, ``ext4``, ...
        source: what is mounted, mostly a device.
        read_only: whether this mount, or the whole file system, is.
    """

    point: str
    type: str
    source: str
    read_only: bool


def _unescaped(text: str) -> str:
    return re.sub(r'\\([0-7]{3})', lambda match: chr(int(match.group(1), 8)), text)


def parse(text: str) -> list[Mount]:
    """Read /proc/self/mountinfo, in its order: of two mounts on one point, the later one is seen."""
    mounts = []
    for line in text.splitlines():
        left, separator, right = line.partition(' - ')
        fields, rest = left.split(' '), right.split(' ')
        if not separator or len(fields) < 6 or len(rest) < 3:
            continue
        options = {*fields[5].split(','), *rest[2].split(',')}
        mounts.append(Mount(_unescaped(fields[4]), rest[0], _unescaped(rest[1]), 'ro' in options))
    return mounts


def holding(mounts: t.Sequence[Mount], path: str) -> Mount | None:
    """The mount that an absolute path without symbolic links lies on."""
    found = None
    for mount in mounts:
        inside = mount.point == '/' or path == mount.point or path.startswith(mount.point + '/')
        if inside and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def mount_of(path: str) -> Mount:
    """The file system that holds a path, which is resolved first; the path itself need not be there.

    Raises:
        DiskSnapError: if the machine does not say.
    """
    real = os.path.realpath(path)
    try:
        # surrogateescape, as names are bytes, and as os.path does
        with open(MOUNTINFO, encoding=sys.getfilesystemencoding(), errors='surrogateescape') as handle:
            found = holding(parse(handle.read()), real)
    except OSError as error:
        raise DiskSnapError(f'Failed to read {MOUNTINFO}', why=error.strerror) from error
    if found is None:
        raise DiskSnapError(f'Failed to find the file system that holds {real}', why=f'{MOUNTINFO} does not name it')
    return found


def answer(path: str, request: int, size: int) -> bytes:
    """What the file system says of the file or directory at ``path`` to an ioctl that reads.

    Raises:
        OSError: if the path cannot be opened, or the file system does not know the question.
    """
    buffer = bytearray(size)
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.ioctl(handle, request, buffer, True)
    finally:
        os.close(handle)
    return bytes(buffer)


def clone_refusal(path: str) -> str | None:
    """Why the file system that holds this file cannot share blocks between files, as a clause; None if it can.

    Raises:
        DiskSnapError: if it cannot be told.
    """
    mount = mount_of(path)
    if mount.type not in CLONING:
        return f'{path} is on {mount.type}, whose files cannot share blocks; {" and ".join(CLONING)} can'
    if mount.type == 'xfs':
        try:
            flags = answer(path, _ioctl.XFS_GEOMETRY, _ioctl.XFS_GEOMETRY_SIZE)[_ioctl.XFS_GEOMETRY_FLAGS]
        except OSError as error:
            return f'the xfs that holds {path} cannot be asked: {error.strerror}'
        if not int.from_bytes(flags, sys.byteorder) & _ioctl.XFS_HAS_REFLINK:
            return f'{path} is on an xfs that was made without reflink (mkfs.xfs -m reflink=1 makes one with it)'
    return None


def same_file_system(one: str, other: str) -> bool:
    """Whether two existing paths are on one file system; the subvolumes of a btrfs are of one.

    Raises:
        DiskSnapError: if one of them cannot be asked.
    """
    try:
        if mount_of(one).type == mount_of(other).type == 'btrfs':
            return btrfs_id(one) == btrfs_id(other)
        return os.stat(one).st_dev == os.stat(other).st_dev
    except OSError as error:
        raise DiskSnapError(f'Failed to look at {error.filename or other}', why=error.strerror) from error


def btrfs_id(path: str) -> bytes:
    """The fsid of the btrfs that holds an existing path.

    Raises:
        OSError: if it is not there, or not on btrfs.
    """
    return answer(path, _ioctl.BTRFS_FS_INFO, _ioctl.BTRFS_FS_INFO_SIZE)[_ioctl.BTRFS_FSID]


def available(directory: str) -> int:
    """Bytes that are free there for everybody.

    Raises:
        DiskSnapError: if the file system does not say.
    """
    try:
        found = os.statvfs(directory)
    except OSError as error:
        raise DiskSnapError(f'Failed to ask how much room is left on {directory}', why=error.strerror) from error
    return found.f_bavail * found.f_frsize
