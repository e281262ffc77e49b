# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images as files of this machine: what the header of a qcow2 file says, and whether a copy of one is whole."""

from __future__ import annotations

import json
import os
import stat
import struct
from dataclasses import dataclass

from ansible_collections.disksnap.libvirt.plugins.module_utils._command import run
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.volume import VolumeInfo

_MAGIC = b'QFI\xfb'
# offsets of the header of version 3, and what its bits mean (docs/interop/qcow2.txt of QEMU)
_BACKING_AT, _SIZE_AT, _SNAPSHOTS_AT, _INCOMPATIBLE_AT, _COMPATIBLE_AT, _HEADER_SIZE = 8, 24, 60, 72, 80, 104
_DIRTY, _CORRUPT, _DATA_FILE = 1 << 0, 1 << 1, 1 << 2
_LAZY_REFCOUNTS = 1 << 0
_BITMAPS = 1 << 0
# of version 2, whose extensions begin here, and of the extension that names the format of the backing file
_OLD_HEADER_SIZE, _BACKING_FORMAT = 72, 0xE2792ACA
# of an entry in the table of snapshots, up to the texts
_SNAPSHOT_HEAD = struct.Struct('>QIHHIIQII')
# what is read of a header with its extensions, and of a table of snapshots, at most
_HEADER_LIMIT, _TABLE_LIMIT = 64 << 10, 4 << 20
_CLEAN, _LEAKS = 0, 3
# bytes of a backing file's name, at most
_NAME_LIMIT = 1023


@dataclass(frozen=True)
class Header:
    """What a qcow2 header says.

    Attributes:
        size: bytes that a guest sees.
        dirty: its reference counts may be behind, and are made anew when QEMU opens it to write.
        corrupt: QEMU found it damaged.
        data_file: the data is in another file, which the header names.
        lazy_refcounts: it is dirty whenever it is open to write.
        bitmaps: it holds dirty bitmaps, which QEMU writes when it closes the image.
    """

    size: int
    dirty: bool = False
    corrupt: bool = False
    data_file: bool = False
    lazy_refcounts: bool = False
    bitmaps: bool = False


def parse_header(data: bytes) -> Header | None:
    """Read the first bytes of a file; None if it is not qcow2."""
    if data[:4] != _MAGIC or len(data) < _INCOMPATIBLE_AT:
        return None
    (version,), (size,) = struct.unpack_from('>I', data, 4), struct.unpack_from('>Q', data, _SIZE_AT)
    if version < 3 or len(data) < _HEADER_SIZE:
        return Header(size)
    incompatible, compatible, autoclear = struct.unpack_from('>QQQ', data, _INCOMPATIBLE_AT)
    return Header(
        size,
        dirty=bool(incompatible & _DIRTY),
        corrupt=bool(incompatible & _CORRUPT),
        data_file=bool(incompatible & _DATA_FILE),
        lazy_refcounts=bool(compatible & _LAZY_REFCOUNTS),
        bitmaps=bool(autoclear & _BITMAPS),
    )


def header_of(path: str) -> Header | None:
    """The header of an image, which may be in use; None if it is not qcow2.

    Raises:
        OSError: if it cannot be read.
    """
    with open(path, 'rb') as handle:
        return parse_header(handle.read(_HEADER_SIZE))


def backing_name(path: str) -> str | None:
    """What the header of an image, which may be in use, names as its backing file; None if nothing, or not qcow2.

    Raises:
        OSError: if it cannot be read.
    """
    with open(path, 'rb') as handle:
        start = handle.read(_HEADER_SIZE)
        if parse_header(start) is None:
            return None
        offset, size = struct.unpack_from('>QI', start, _BACKING_AT)
        handle.seek(offset)
        return file_in(os.fsdecode(handle.read(min(size, _NAME_LIMIT)))) if offset and size else None


def file_in(name: str) -> str:
    """The plain file of a backing file's name where QEMU's ways to write one, ``json:`` and ``file:``, name one."""
    if name.startswith('file:'):
        return name[len('file:') :]
    if not name.startswith('json:'):
        return name
    try:
        node = json.loads(name[len('json:') :])
        while isinstance(node.get('file'), dict):
            node = node['file']
    except (ValueError, AttributeError, RecursionError):
        return name
    found = node.get('filename', node.get('file.filename'))
    plain = node.get('file.driver', node.get('driver', 'file')) in ('file', 'host_device')
    return found if plain and isinstance(found, str) else name


def backing_format(path: str) -> str | None:
    """The format that the header of a qcow2 image says its backing file has; None if it says none, or is not qcow2.

    Raises:
        OSError: if it cannot be read.
    """
    with open(path, 'rb') as handle:
        data = handle.read(_HEADER_LIMIT)
    if parse_header(data) is None:
        return None
    (version,) = struct.unpack_from('>I', data, 4)
    at = _OLD_HEADER_SIZE if version < 3 else struct.unpack_from('>I', data, _HEADER_SIZE - 4)[0]
    while at + 8 <= len(data):
        kind, size = struct.unpack_from('>II', data, at)
        if kind == 0:
            return None
        if kind == _BACKING_FORMAT:
            return data[at + 8 : at + 8 + size].decode('ascii', errors='replace')
        at += 8 + -(-size // 8) * 8
    return None


def internal_snapshots(path: str) -> list[str]:
    """Names of the snapshots that a qcow2 image holds within itself; none of one that is not qcow2, or is damaged.

    Raises:
        OSError: if it cannot be read.
    """
    with open(path, 'rb') as handle:
        start = handle.read(_HEADER_SIZE)
        if parse_header(start) is None:
            return []
        count, offset = struct.unpack_from('>IQ', start, _SNAPSHOTS_AT)
        if not count or not offset:
            return []
        handle.seek(offset)
        table = handle.read(_TABLE_LIMIT)
    names, at = [], 0
    for _entry in range(count):
        if at + _SNAPSHOT_HEAD.size > len(table):
            break
        head = _SNAPSHOT_HEAD.unpack_from(table, at)
        id_size, name_size, extra = head[2], head[3], head[8]
        text = at + _SNAPSHOT_HEAD.size + extra + id_size
        names.append(table[text : text + name_size].decode(errors='replace'))
        at = -(-(text + name_size) // 8) * 8
    return names


def describe(path: str) -> VolumeInfo:
    """A regular file as a storage pool would show it. The format is ``qcow2``, or ``raw`` for whatever is not that.

    Raises:
        OSError: if it cannot be read, or is no regular file.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f'{path} is no regular file')
    header = header_of(path)
    backing = backing_name(path) if header else None
    return VolumeInfo(
        name=os.path.basename(path),
        key=path,
        path=path,
        type='file',
        format='qcow2' if header else 'raw',
        capacity=header.size if header else found.st_size,
        allocation=found.st_blocks * 512,
        backing_path=backing,
        backing_format=backing_format(path) if backing else None,
        owner=found.st_uid,
        group=found.st_gid,
        mode=stat.S_IMODE(found.st_mode),
        label=None,
        encrypted=False,
        physical=found.st_size,
        mtime_ns=found.st_mtime_ns,
    )


def check(path: str, *, timeout: float, domain: str | None = None, disk: str | None = None) -> None:
    """Have ``qemu-img check`` look whether a qcow2 copy is whole; clusters that nothing refers to are harmless.

    Args:
        path: of a file that nobody writes to.
        timeout: seconds that it may take; it reads all metadata.

    Raises:
        DiskSnapError: if it is not whole, or cannot be checked.
    """
    what = f'Failed to check {path}'
    argv = ['qemu-img', 'check', '-U', '-f', 'qcow2', path]
    run(argv, what, timeout=timeout, domain=domain, disk=disk, accept=(_CLEAN, _LEAKS))


def repair(path: str, *, timeout: float, domain: str | None = None, disk: str | None = None) -> None:
    """Make the reference counts of a qcow2 copy anew, as QEMU does when it opens an image that is dirty.

    Raises:
        DiskSnapError: if that fails.
    """
    what = f'Failed to repair the reference counts of {path}'
    run(['qemu-img', 'check', '-q', '-r', 'all', '-f', 'qcow2', path], what, timeout=timeout, domain=domain, disk=disk)


def unfit(path: str) -> str | None:
    """Why a copy of this qcow2 file would not be a copy of the disk, as a clause; None if it would.

    Raises:
        OSError: if it cannot be read.
    """
    header = header_of(path)
    if header is None:
        return f'{path} is not the qcow2 file that the domain says it is'
    if header.data_file:
        return f'{path} keeps its data in another file, which a copy would share with the disk'
    if header.corrupt:
        return f'{path} is marked as corrupt'
    return None
