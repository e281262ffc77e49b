# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copies of an image file that share its blocks: what they can be made of, and how a disk goes back to one."""

from __future__ import annotations

import os
import posixpath
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import (
    _chain,
    _clone,
    _images,
    _mounts,
    _overlay,
    _place,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import etree
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    BackupSource,
    DiskRecord,
    original_disk,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk, Source
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import parse, to_text

# qemu-img reads all metadata of a copy: of one of some TB that is GB
CHECK_TIMEOUT = 3600.0
# why a saved domain is refused
SAVED = 'its image lacks what the guest still holds in memory'
_FORMATS = ('raw', 'qcow2')
_SECTOR = 512


def is_qcow2(source: Source) -> bool:
    """Whether an image has metadata of its own."""
    return source.format == 'qcow2'


# -- what can be copied -----------------------------------------------------------------------------------------


def refusal(disk: Disk, domain: Domain) -> str | None:
    """Why the disk's image is no file that could be copied, as a clause; None if it is one."""
    source = disk.source
    if source is None:
        return 'the drive is empty'
    if source.type not in ('file', 'volume'):
        return f'it copies image files, and takes no disk of type {source.type}'
    if source.format not in (None, *_FORMATS):
        return f'it takes images of format {" and ".join(_FORMATS)}, not {source.format}'
    if source.encrypted and is_qcow2(source):
        return 'its image is encrypted qcow2, whose copy could not be checked without the key'
    return asked(lambda: None if _place.is_file(source, domain) else f'the pool {source.pool} is not one of files')


def asked(question: t.Callable[[], str | None]) -> str | None:
    """The answer to a question about the storage; where it cannot be had, why not."""
    try:
        return question()
    except DiskSnapError as error:
        return error.why or error.what
    except OSError as error:
        return f'{error.filename}: {error.strerror}' if error.filename else str(error.strerror)


def refuse_unfit(domain: Domain, disk: Disk, image: str, what: str) -> None:
    """Refuse an image that is not there, or whose file alone is not the disk.

    Raises:
        DiskSnapError: if it is one.
    """

    def look() -> str | None:
        os.stat(image)
        return _images.unfit(image) if is_qcow2(disk.active) else None

    why = asked(look)
    if why is not None:
        raise DiskSnapError(what, domain=domain.name, disk=disk.target, why=why)


def refuse_lazy(domain: Domain, disk: Disk, image: str, what: str, advice: str, *, live: bool) -> None:
    """Refuse a qcow2 image whose copy would have to be repaired, for a method whose copies are read-only.

    Args:
        advice: how the hint begins that says how to turn lazy_refcounts off.

    Raises:
        DiskSnapError: if it is one.
    """
    header = _images.header_of(image) if is_qcow2(disk.active) else None
    if header is not None and (header.dirty or (live and header.lazy_refcounts)):
        raise DiskSnapError(
            what,
            domain=domain.name,
            disk=disk.target,
            why=f'{image} has lazy_refcounts on, so that a copy of it in use must be repaired, '
            'and nothing can be repaired in a read-only snapshot',
            hint=f'{advice} it off while the domain is shut off: qemu-img amend -o lazy_refcounts=off {image}',
        )


def refuse_elsewhere(domain: Domain, disk: Disk, image: str, directory: str, what: str) -> None:
    """Refuse a directory that is not there, not on the file system of the image, read-only or full.

    Raises:
        DiskSnapError: if it is so.
    """
    why, hint = None, 'Blocks are shared within one file system only: name another place with file.'
    if not os.path.isdir(directory):
        why = f'there is no directory {directory}'
    elif not _mounts.same_file_system(image, directory):
        why = f'{directory} ({_mounts.mount_of(directory).type}) is not on the file system of {image}'
    elif _mounts.mount_of(directory).read_only:
        why, hint = f'{directory} is on a file system that is mounted read-only', 'Mount it writable.'
    elif (available := _mounts.available(directory)) < _place.ROOM:
        why, hint = f'no space is left on {directory} ({available} bytes)', 'Make room there.'
    if why is not None:
        raise DiskSnapError(what, domain=domain.name, disk=disk.target, why=why, hint=hint)


# -- the record -------------------------------------------------------------------------------------------------


def backup_source(source: Source, path: str, *, pool: str | None = None) -> BackupSource:
    """What a backup reads: the file ``path``, a copy of the layer ``source``."""
    element = etree.Element('source', file=path)
    if source.xml:
        for encryption in parse(source.xml, 'source XML').findall('encryption'):
            element.append(encryption)
    return BackupSource(
        xml=to_text(element),
        type='file',
        path=path,
        format=source.format or 'raw',
        pool=pool,
        volume=posixpath.basename(path) if pool else None,
    )


def backing_of(disk: Disk, domain: Domain, copy: str | None = None) -> list[str]:
    """The layers below the copy of the active one, from top to bottom.

    They are those of the disk, but for names that are relative to the directory of the file whose header has them:
    in a snapshot of a whole subvolume they lead to the copies of the layers.

    Args:
        copy: path of the copy of the active layer, where that is a file.

    Raises:
        DiskSnapError: if the chain cannot be followed.
    """
    pools = domain.host.pools
    layers = _chain.whole(disk, pools, domain.name).chain
    keys = [layer.key for layer in layers]
    found: list[str] = []
    if copy is None or not domain.host.local:
        return keys[1:]
    for place, layer in enumerate(layers[:-1]):
        live = _chain.local_path(layer, pools)
        name = _relative_backing(live) if live else None
        if name is None:
            return found + keys[place + 1 :]
        copy = os.path.normpath(os.path.join(os.path.dirname(copy), name))
        found.append(copy)
    return found


def _relative_backing(path: str) -> str | None:
    """The name of the backing file in an image's header, where that is relative to the image's own directory."""
    try:
        name = _images.backing_name(path)
    except OSError as error:
        raise DiskSnapError(f'Failed to read the header of {path}', why=error.strerror) from error
    if name is None or name.startswith('/') or ':' in name.partition('/')[0]:
        return None
    return name


def refuse_stray_backing(domain: Domain, disk: Disk, record: DiskRecord, what: str, inside: str | None = None) -> None:
    """Refuse a copy whose header would lead to other images below it than the disk's.

    Args:
        inside: directory that is copied as a whole, the disk's layers in it with it; None where one file is copied.

    Raises:
        DiskSnapError: if it would.
    """
    canonical = domain.host.pools.canonical
    layers = _chain.whole(disk, domain.host.pools, domain.name).chain[1:]
    for layer, named in zip(layers, record.backing):
        within = inside is not None and named.startswith(inside + '/')
        if not within and canonical(named) != canonical(layer.key):
            raise DiskSnapError(
                what,
                domain=domain.name,
                disk=disk.target,
                why=f'the image names its backing file {layer.key} relative to its own directory, so that the copy '
                f'would stand on {named}',
                hint='Name a file in the directory of the image, or write the whole path into the image with '
                'qemu-img rebase -u while the domain is shut off.',
            )


# -- a copy that was made ---------------------------------------------------------------------------------------


def fault(domain: Domain, record: DiskRecord) -> str | None:
    """Why the copy that the record speaks of is of no use, as a clause; None if it is of use."""
    path = record.backup_source.path or ''
    if not domain.host.local:
        return None if domain.host.pools.volume(path) is not None else f'{path} is not there any more'

    def look() -> str | None:
        if not os.path.isfile(path):
            return f'{path} is not there any more'
        if record.backup_source.format == 'qcow2' and _images.header_of(path) is None:
            return f'{path} is no qcow2 image'
        lost = [one for one in record.backing if one.startswith('/') and not os.path.exists(one)]
        return f'the image below it, {lost[0]}, is not there any more' if lost else None

    return asked(look)


def refuse_size(domain: Domain, record: DiskRecord, capacity: int) -> None:
    """Refuse a copy, just made, that is not of the disk's size.

    Raises:
        DiskSnapError: if it is not, or cannot be read.
    """
    path = record.backup_source.path or ''
    found = 0

    def look() -> str | None:
        nonlocal found
        header = _images.header_of(path) if record.backup_source.format == 'qcow2' else None
        found = header.size if header else os.path.getsize(path)
        return None

    why = asked(look)
    if why is None and _sectors(found) != _sectors(capacity):
        why = f'{path} came out with {found} bytes, not {capacity}'
    if why is not None:
        raise DiskSnapError('Failed to copy the image', domain=domain.name, disk=record.target, why=why)


def _sectors(size: int) -> int:
    return -(-size // _SECTOR)


# -- revert -----------------------------------------------------------------------------------------------------


def original_image(domain: Domain, record: DiskRecord) -> str:
    """Path of the image that the snapshot is of.

    Raises:
        DiskSnapError: if the volume that it was is not there.
    """
    return _place.image_of(original_disk(record), domain)


def refuse_revert(domain: Domain, record: DiskRecord, why: str | None) -> None:
    """Look whether the copy can take the place of the disk's image.

    Args:
        why: the snapshot is of no use, as the method found; None if it is.

    Raises:
        DiskSnapError: if not.
    """
    wrong: dict[str, t.Any] = {'domain': domain.name, 'disk': record.target}
    if not domain.host.local:
        why = 'the module must run on the hypervisor itself, to put a copy in the place of an image'
    if why is not None:
        raise DiskSnapError(_overlay.WHAT_REVERT, **wrong, why=why, hint='Nothing was changed.')
    disk = domain.read().disk(record.target)
    if disk is None:
        raise DiskSnapError(_overlay.WHAT_REVERT, **wrong, why='the domain has no such disk now')
    image = original_image(domain, record)
    if disk.source is None or _chain.local_path(disk.source, domain.host.pools) is None:
        now = disk.source.key if disk.source else 'nothing'
        raise DiskSnapError(_overlay.WHAT_REVERT, **wrong, why=f'the disk now uses {now}, not {image}')
    if _place.image_of(disk, domain) != image:
        raise _other_image(domain, disk, image)
    refuse_elsewhere(domain, disk, record.backup_source.path or '', os.path.dirname(image), _overlay.WHAT_REVERT)
    users = _chain.Users(domain.host.connection, domain.host.pools)
    others = users.images_on(image) | (users.domains_on(image) - {domain.name})
    if others:
        raise DiskSnapError(
            _overlay.WHAT_REVERT,
            **wrong,
            why=f'its image {image}, which would be replaced, is in use by {", ".join(sorted(others))}',
            hint='Remove what uses it first. Nothing was changed.',
        )


def _other_image(domain: Domain, disk: Disk, image: str) -> DiskSnapError:
    """The disk's active layer is not the image of the snapshot: layers lie above that, or it is another one."""
    pools = domain.host.pools
    disk = _chain.whole(disk, pools, domain.name)
    for place, layer in enumerate(disk.chain):
        if pools.canonical(_chain.local_path(layer, pools) or '') == pools.canonical(image):
            return _overlay.newer_layers(domain, disk, place)
    return DiskSnapError(
        _overlay.WHAT_REVERT,
        domain=domain.name,
        disk=disk.target,
        why=f'the disk now uses {disk.active.key}, not {image}',
        hint='Nothing was changed.',
    )


def revert(domain: Domain, record: DiskRecord) -> None:
    """Put a clone of the copy in the place of the disk's image; of a domain that is shut off.

    Raises:
        DiskSnapError: if the file system refuses; the image is then as it was.
    """
    image = original_image(domain, record)
    try:
        _clone.replace(image, record.backup_source.path or '')
    except OSError as error:
        what = f'Failed to put the copy in the place of {image}'
        raise _clone.failure(what, error, domain=domain.name, disk=record.target) from error
    domain.host.pools.refresh(image)
