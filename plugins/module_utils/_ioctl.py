# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file system ioctls that Python has no function for: their numbers, and where their answers keep what is asked.

From linux/fs.h, linux/btrfs.h and xfs_fs.h. They are the kernel's interface and never change.
"""

from __future__ import annotations

import platform

_NONE, _WRITE, _READ = 0, 1, 2


def number(direction: int, kind: int, code: int, size: int, machine: str = '') -> int:
    """The number of an ioctl, as the kernel's macros ``_IO``, ``_IOR`` and ``_IOW`` make it.

    Args:
        direction: 0 for none, 1 for one that is told something, 2 for one that answers.
        kind: the type byte.
        code: the number within the type.
        size: bytes of the argument.
        machine: as ``uname -m`` says it; empty for this one. PowerPC and a few others count differently.
    """
    if (machine or platform.machine()).startswith(('ppc', 'powerpc', 'mips', 'sparc', 'alpha')):
        return {_NONE: 1, _READ: 2, _WRITE: 4}[direction] << 29 | size << 16 | kind << 8 | code
    return direction << 30 | size << 16 | kind << 8 | code


# one file's blocks for another: the argument is the file descriptor of the source
CLONE = number(_WRITE, 0x94, 9, 4)

# the inode flags that chattr shows, a long that the kernel treats as an int
GET_FLAGS = number(_READ, ord('f'), 1, 8)
SET_FLAGS = number(_WRITE, ord('f'), 2, 8)
NO_COW = 0x00800000

# struct btrfs_ioctl_vol_args_v2: s64 fd, u64 transid, u64 flags, 32 unused bytes, name
BTRFS_SNAPSHOT = number(_WRITE, 0x94, 23, 4096)
BTRFS_SNAPSHOT_NAME_AT = 56
BTRFS_READ_ONLY = 1 << 1
# struct btrfs_ioctl_vol_args: s64 fd, name
BTRFS_DELETE = number(_WRITE, 0x94, 15, 4096)
BTRFS_DELETE_NAME_AT = 8
BTRFS_SYNC = number(_NONE, 0x94, 8, 0)
# struct btrfs_ioctl_fs_info_args: u64 max_id, u64 num_devices, fsid
BTRFS_FS_INFO_SIZE = 1024
BTRFS_FS_INFO = number(_READ, 0x94, 31, BTRFS_FS_INFO_SIZE)
BTRFS_FSID = slice(16, 32)
# struct btrfs_ioctl_get_subvol_info_args
BTRFS_SUBVOLUME_INFO_SIZE = 504
BTRFS_SUBVOLUME_INFO = number(_READ, 0x94, 60, BTRFS_SUBVOLUME_INFO_SIZE)
BTRFS_SUBVOLUME_FLAGS = slice(288, 296)
BTRFS_SUBVOLUME_UUID = slice(296, 312)
BTRFS_SUBVOLUME_PARENT_UUID = slice(312, 328)
BTRFS_SUBVOLUME_IS_READ_ONLY = 1 << 0

# struct xfs_fsop_geom_v1, which every kernel and every xfs answers
XFS_GEOMETRY_SIZE = 112
XFS_GEOMETRY = number(_READ, ord('X'), 100, XFS_GEOMETRY_SIZE)
XFS_GEOMETRY_FLAGS = slice(92, 96)
XFS_HAS_REFLINK = 1 << 20
