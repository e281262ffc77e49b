# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storage volumes and pools: the XML that libvirt takes to make them, and reads of the XML that it gives."""

from __future__ import annotations

import dataclasses

from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import etree
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import child, parse, to_text


@dataclasses.dataclass(frozen=True)
class VolumeInfo:
    """A storage volume as virStorageVolGetXMLDesc shows it. What libvirt does not say is None.

    Attributes:
        name: name in its pool; for directory pools the file's name.
        key: libvirt's key, for local volumes the path.
        path: absolute path; for network volumes whatever libvirt gives there.
        type: ``file``, ``block``, ``dir``, ``network``, ``netdir`` or ``ploop``.
        format: ``qcow2``, ``raw``, ...; libvirt shows none for volumes of an LVM pool.
        capacity: virtual size in bytes.
        allocation: bytes that it takes on the storage.
        backing_path: path of the backing file or of an LV's origin.
        backing_format: format of that as the image itself records it or libvirt found it.
        owner: numeric user id.
        group: numeric group id.
        mode: permission bits, as 0o600.
        label: SELinux label.
        encrypted: whether the volume itself is encrypted (LUKS).
        physical: bytes that the file is long.
        mtime_ns: when it was written to last, in nanoseconds since 1970.
    """

    name: str
    key: str | None
    path: str | None
    type: str
    format: str | None
    capacity: int
    allocation: int
    backing_path: str | None
    backing_format: str | None
    owner: int | None
    group: int | None
    mode: int | None
    label: str | None
    encrypted: bool
    physical: int = 0
    mtime_ns: int | None = None


@dataclasses.dataclass(frozen=True)
class PoolInfo:
    """A storage pool as virStoragePoolGetXMLDesc shows it.

    Attributes:
        name: name of the pool.
        uuid: its UUID, None in a definition that libvirt has not seen.
        type: ``dir``, ``fs``, ``netfs``, ``logical``, ``rbd``, ...
        path: target path: the directory, or ``/dev/VG``; None for network pools.
        source_name: the volume group of a logical pool, the pool of rbd; else None.
        capacity: bytes, 0 while the pool is not active.
        available: bytes that are free, 0 while the pool is not active.
    """

    name: str
    uuid: str | None
    type: str
    path: str | None
    source_name: str | None
    capacity: int
    available: int


def overlay_volume(
    name: str,
    capacity_bytes: int | None,
    *,
    backing_path: str | None,
    backing_format: str | None,
    owner: int | None = None,
    group: int | None = None,
    mode: int | None = None,
    label: str | None = None,
) -> str:
    """Return the ``<volume>`` of a new, empty qcow2 image for virStorageVolCreateXML.

    compat 1.1 is stated, as libvirt asks qemu-img for 0.10 where nothing is said
    (storageBackendCreateQemuImgOpts in libvirt's storage_util.c).

    Args:
        name: name of the volume, in a directory pool the file's name.
        capacity_bytes: virtual size in bytes; libvirt rounds it up to KiB
            (virStorageBackendCreateQemuImgSetInfo). None leaves it to qemu-img, which takes exactly the size of
            the backing file; libvirt allows that with a backing file only.
        backing_path: absolute path that the overlay stands on, or None. libvirt refuses one that it cannot read.
        backing_format: its format, which must come with the path: unstated, libvirt takes the pool's default.
        owner: numeric user id; None leaves it to libvirt.
        group: numeric group id, likewise.
        mode: permission bits, at most 0o777; libvirt's default is 0o600.
        label: SELinux label. libvirt reads it but does not set it on the file.

    Raises:
        DiskSnapError: a value has characters that XML cannot hold.
        ValueError: a backing path without a format, or no capacity and no backing path.
    """
    if (backing_path is None) != (backing_format is None):
        raise ValueError('backing_path and backing_format come together')
    root = etree.Element('volume', type='file')
    child(root, 'name', name)
    if capacity_bytes is not None:
        child(root, 'capacity', str(capacity_bytes), unit='bytes')
    elif backing_path is None:
        raise ValueError('a volume without a backing file needs a capacity')
    child(root, 'allocation', '0', unit='bytes')
    target = child(root, 'target')
    child(target, 'format', type='qcow2')
    _permissions(target, owner, group, mode, label)
    child(target, 'compat', '1.1')
    if backing_path is not None:
        backing = child(root, 'backingStore')
        child(backing, 'path', backing_path)
        child(backing, 'format', type=backing_format)
    return to_text(root)


def raw_volume(name: str, capacity_bytes: int, *, mode: int) -> str:
    """Return the ``<volume>`` of a new raw file that takes no space, for virStorageVolCreateXML and -XMLFrom.

    Args:
        name: the file's name.
        capacity_bytes: its size; 0 for an empty file.
        mode: permission bits.

    Raises:
        DiskSnapError: a value has characters that XML cannot hold.
    """
    root = etree.Element('volume', type='file')
    child(root, 'name', name)
    child(root, 'capacity', str(capacity_bytes), unit='bytes')
    child(root, 'allocation', '0', unit='bytes')
    target = child(root, 'target')
    child(target, 'format', type='raw')
    _permissions(target, None, None, mode, None)
    return to_text(root)


def directory_pool(name: str, path: str) -> str:
    """Return the ``<pool>`` of a directory, for virStoragePoolCreateXML.

    Args:
        name: name of the pool; libvirt refuses one with ``/``.
        path: absolute path of the directory.

    Raises:
        DiskSnapError: a value has characters that XML cannot hold.
    """
    root = etree.Element('pool', type='dir')
    child(root, 'name', name)
    child(child(root, 'target'), 'path', path)
    return to_text(root)


def plain_name(volume: str, pool: str) -> str:
    """The name of a volume, for a path that is made of it.

    Raises:
        DiskSnapError: it would lead out of its pool.
    """
    if '/' in volume or volume in ('', '.', '..'):
        raise DiskSnapError(
            f'Failed to look up the volume {volume!r} of the storage pool {pool}',
            why='that is not the name of a volume, which is a plain one',
            hint='Correct the <source> of the disk.',
        )
    return volume


def read_volume(xml: str) -> VolumeInfo:
    """Read what virStorageVolGetXMLDesc returns.

    Raises:
        DiskSnapError: it is not the XML of a volume.
    """
    root = _root(xml, 'volume')
    mode = _text(root, 'target/permissions/mode')
    return VolumeInfo(
        name=_name(root),
        key=_text(root, 'key'),
        path=_text(root, 'target/path'),
        type=root.get('type', 'file'),
        format=_attribute(root, 'target/format', 'type'),
        capacity=_bytes(root, 'capacity'),
        allocation=_bytes(root, 'allocation'),
        backing_path=_text(root, 'backingStore/path'),
        backing_format=_attribute(root, 'backingStore/format', 'type'),
        owner=_id(root, 'target/permissions/owner'),
        group=_id(root, 'target/permissions/group'),
        mode=None if mode is None else _number(root, mode, 8),
        label=_text(root, 'target/permissions/label'),
        encrypted=root.find('target/encryption') is not None,
        physical=_bytes(root, 'physical'),
        mtime_ns=_moment(root, 'target/timestamps/mtime'),
    )


def read_pool(xml: str) -> PoolInfo:
    """Read what virStoragePoolGetXMLDesc returns.

    Raises:
        DiskSnapError: it is not the XML of a pool.
    """
    root = _root(xml, 'pool')
    kind = root.get('type')
    if kind is None:
        raise DiskSnapError('Failed to read the XML of a pool', why='it has no type')
    return PoolInfo(
        name=_name(root),
        uuid=_text(root, 'uuid'),
        type=kind,
        path=_text(root, 'target/path'),
        source_name=_text(root, 'source/name'),
        capacity=_bytes(root, 'capacity'),
        available=_bytes(root, 'available'),
    )


def _permissions(
    target: etree._Element, owner: int | None, group: int | None, mode: int | None, label: str | None
) -> None:
    values = {
        'mode': None if mode is None else f'0{mode:o}',
        'owner': None if owner is None else str(owner),
        'group': None if group is None else str(group),
        'label': label,
    }
    if any(value is not None for value in values.values()):
        permissions = child(target, 'permissions')
        for tag, value in values.items():
            if value is not None:
                child(permissions, tag, value)


def _root(xml: str, tag: str) -> etree._Element:
    root = parse(xml, f'the XML of a {tag}')
    if root.tag != tag:
        raise DiskSnapError(f'Failed to read the XML of a {tag}', why=f'its root is <{root.tag}>')
    return root


def _name(root: etree._Element) -> str:
    # a pool that libvirt has not seen may go by the name of its source (virStoragePoolDefParseXML)
    name = _text(root, 'name') or (_text(root, 'source/name') if root.tag == 'pool' else None)
    if name is None:
        raise DiskSnapError(f'Failed to read the XML of a {root.tag}', why='it has no name')
    return name


def _text(root: etree._Element, path: str) -> str | None:
    return root.findtext(path) or None


def _attribute(root: etree._Element, path: str, name: str) -> str | None:
    element = root.find(path)
    return None if element is None else element.get(name)


def _bytes(root: etree._Element, path: str) -> int:
    """Return a size; libvirt writes them in bytes, and 0 stands for one that is not there."""
    unit = _attribute(root, path, 'unit')
    if unit not in (None, 'bytes', 'B', 'b'):
        raise DiskSnapError(f'Failed to read the XML of a {root.tag}', why=f'{path} is in {unit!r}, not in bytes')
    return _number(root, _text(root, path) or '0', 10)


def _moment(root: etree._Element, path: str) -> int | None:
    """Return nanoseconds; libvirt writes seconds, with nine places if need be (virStorageVolTimestampFormat)."""
    text = _text(root, path)
    if text is None:
        return None
    seconds, _point, rest = text.partition('.')
    return _number(root, seconds + rest.ljust(9, '0')[:9], 10)


def _id(root: etree._Element, path: str) -> int | None:
    """Return a user or group id. libvirt prints them signed, and -1 for unknown (virStorageVolTargetDefFormat)."""
    text = _text(root, path)
    value = -1 if text is None else _number(root, text, 10)
    return None if value == -1 else value % 2**32


def _number(root: etree._Element, text: str, base: int) -> int:
    try:
        return int(text, base)
    except ValueError as exc:
        raise DiskSnapError(f'Failed to read the XML of a {root.tag}', why=f'{text!r} is not a number') from exc
