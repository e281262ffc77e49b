# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the path of an image says of it."""

from __future__ import annotations

_DEVICES = '/dev/'
# a file system of files below that
_FILES = 'shm/'


def is_device(path: str) -> bool:
    """Whether a path names a device node: what is below ``/dev``, but for the files in ``/dev/shm``."""
    return path.startswith(_DEVICES) and not path.startswith(_FILES, len(_DEVICES))
