# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Empty file systems, made once and then copied sparsely for each guest."""

from __future__ import annotations

from pathlib import Path

from .commands import run
from .errors import LabError
from .guest_image import GuestImage
from .paths import locked

# xfsprogs refuses less than 300 MiB. Small journals and no lazy initialisation keep the copies small and quiet.
DEFAULT_MIB = {'ext4': 96, 'xfs': 300, 'none': 96}
_MKFS = {
    'ext4': ['mkfs.ext4', '-q', '-F', '-L', 'lab', '-J', 'size=4', '-E', 'lazy_itable_init=0,lazy_journal_init=0'],
    'xfs': ['mkfs.xfs', '-q', '-f', '-L', 'lab'],
}


def size_mib(fs: str, size: int | None) -> int:
    """The size asked for, or the default of this file system."""
    if fs not in DEFAULT_MIB:
        raise LabError(f'File system {fs!r} is not one of {", ".join(DEFAULT_MIB)}')
    return size or DEFAULT_MIB[fs]


def base_disk(image: GuestImage, fs: str, format_: str, size: int | None = None) -> Path:
    """A pristine disk image with this file system (or 'none') in this format; made on first use."""
    mib = size_mib(fs, size)
    path = image.disks / f'{fs}-{mib}.{format_}'
    if not path.exists():
        with locked(image.disks / 'lock'):
            _make(image.disks, fs, mib, format_)
    return path


def _make(directory: Path, fs: str, mib: int, format_: str) -> Path:
    path = directory / f'{fs}-{mib}.{format_}'
    if path.exists():
        return path
    unfinished = path.with_suffix('.new')
    unfinished.unlink(missing_ok=True)
    if format_ == 'raw':
        with open(unfinished, 'wb') as handle:
            handle.truncate(mib << 20)
        if fs in _MKFS:
            run([*_MKFS[fs], unfinished], timeout=120)
            run(['fallocate', '--dig-holes', unfinished])
    else:
        raw = _make(directory, fs, mib, 'raw')
        run(['qemu-img', 'convert', '-f', 'raw', '-O', format_, raw, unfinished], timeout=120)
    unfinished.rename(path)
    return path


def copy_disk(source: Path, destination: Path) -> None:
    """A sparse copy, by reflink where the file system can."""
    run(['cp', '--reflink=auto', '--sparse=always', source, destination], timeout=300)
