# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which block device a path is or lies on, and which devices that one stands on, as the kernel shows it in sysfs."""

from __future__ import annotations

import os
import stat

from ansible_collections.disksnap.libvirt.plugins.module_utils import _mounts

SYS = '/sys/dev/block'

# major and minor number
Number = tuple[int, int]


def number_of(path: str) -> Number | None:
    """The block device at a path; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISBLK(status.st_mode):
        return None
    return os.major(status.st_rdev), os.minor(status.st_rdev)


def holding(path: str) -> Number | None:
    """The block device that a path is, or whose file system it lies on; None if it is on no device of its own.

    A file of btrfs has a device number that no device has, so there the mount says what was mounted.

    Raises:
        DiskSnapError: if the machine does not say what is mounted.
        OSError: if there is no such path.
    """
    own = number_of(path)
    if own is not None:
        return own
    device = os.stat(path).st_dev
    if os.major(device) != 0:
        return os.major(device), os.minor(device)
    return number_of(_mounts.mount_of(path).source)


def _parents(number: Number) -> list[Number]:
    """The devices that this one is made of: the disk of a partition, or what a mapping maps."""
    place = os.path.realpath(f'{SYS}/{number[0]}:{number[1]}')
    if os.path.exists(f'{place}/partition'):
        names = [os.path.dirname(place)]
    else:
        try:
            names = [f'{place}/slaves/{name}' for name in sorted(os.listdir(f'{place}/slaves'))]
        except OSError:
            return []
    found = []
    for name in names:
        try:
            with open(f'{name}/dev', encoding='ascii') as text:
                major, minor = text.read().strip().split(':')
                found.append((int(major), int(minor)))
        except (OSError, ValueError):
            continue
    return found


def below(number: Number) -> list[Number]:
    """The device and those that it stands on as a whole, from the top: up to one that is made of several."""
    found = [number]
    while True:
        parents = _parents(found[-1])
        if len(parents) != 1 or parents[0] in found:
            return found
        found.append(parents[0])
