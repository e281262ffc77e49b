# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backing chains that do not hold: images that are gone, are not what is said of them, or are written to from aside."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _chain
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._problem import Problem
from ansible_collections.disksnap.libvirt.plugins.module_utils._storage import Storage
from ansible_collections.disksnap.libvirt.plugins.module_utils._survey import DiskView, DomainView, Layer, Survey
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk, Source

# formats that a look at the first bytes tells apart
_TOLD = ('raw', 'qcow2')
# what to do about a disk whose image is the other one, by what the definition says
_IMAGE_REMEDY = {
    'raw': 'Correct the type of the <driver> with virsh edit before the domain starts again: a guest that writes raw '
    'to a qcow2 image destroys it.',
    'qcow2': 'The domain does not start so. Put the image back that belongs there, or correct the type of the <driver> '
    'with virsh edit.',
}
_FORGED = (
    'Leave the type as it is unless you know that the image was made as qcow2 and that no guest ran with it as raw. '
    'Whoever has it as a raw disk may have written this header, and as qcow2 QEMU would open the file that it names, '
    'be it any of the host, for the guest to read. Ask whoever has the guest; xxd -l 4096 shows what the header names.'
)


def chains(view: DomainView, storage: Storage) -> t.Iterator[Problem]:
    """What is wrong with the chains of a domain."""
    for disk in view.disks:
        gone = _gone(disk, storage)
        if gone is not None:
            yield gone
        elif disk.fault is not None:
            yield Problem(
                'broken_chain',
                f'The backing chain of disk {disk.target} cannot be followed: {_clause(disk.fault)}.',
                disk.fault.hint or 'Look at its layers with qemu-img info --backing-chain, and correct them.',
                disk.target,
                path=disk.layers[-1].path if disk.layers else None,
            )
        yield from _formats(disk)
        if view.live:
            yield from _other_backing(disk, storage)


def _clause(error: DiskSnapError) -> str:
    return (error.why or error.what).strip().rstrip('.')


def _gone(disk: DiskView, storage: Storage) -> Problem | None:
    for place, layer in enumerate(disk.layers):
        if layer.path is None or layer.image is not None or not storage.missing(layer.path):
            continue
        if place == 0:
            return Problem(
                'missing_image',
                f'The image {layer.path} of disk {disk.target} is not there.',
                'Put it back, or correct the definition of the domain. A domain that runs has it open still: copy it '
                'with virsh blockcopy before the domain is shut off.',
                disk.target,
                path=layer.path,
            )
        return Problem(
            'missing_backing',
            f'{layer.path} is not there, on which {disk.layers[place - 1].path} of disk {disk.target} stands.',
            'Put it back; nothing of the disk can be read without it. A domain that runs has it open still: copy the '
            'disk with virsh blockcopy before the domain is shut off.',
            disk.target,
            path=layer.path,
        )
    return None


def _formats(disk: DiskView, *, later: bool = False) -> t.Iterator[Problem]:
    for place, layer in enumerate(disk.layers):
        found = (layer.image.claims or layer.image.info.format) if layer.image else None
        if found not in _TOLD:
            continue
        above = disk.layers[place - 1] if place else None
        stated = above.image.info.backing_format if above and above.image else layer.source.format
        if stated not in _TOLD or stated == found:
            continue
        if above is None:
            when = 'At its next start the domain will take' if later else 'The domain takes'
            message = f'{when} {layer.path} of disk {disk.target} for {stated}, and it is {found}.'
            remedy = _IMAGE_REMEDY[stated]
        else:
            message = (
                f'The header of {above.path} says that its backing file {layer.path} is {stated}, and it is {found}.'
            )
            remedy = f'While the domain is shut off: qemu-img rebase -u -F {found} -b {layer.path} {above.path}'
        if layer.image and layer.image.claims:
            message = message.replace(f'it is {found}.', f'it begins as {found} does.')
            remedy = _FORGED
        yield Problem('backing_format' if above else 'image_format', message, remedy, disk.target, path=layer.path)


def _other_backing(disk: DiskView, storage: Storage) -> t.Iterator[Problem]:
    """Headers that name another backing file than the one that QEMU has open."""
    for above, layer in zip(disk.layers, disk.layers[1:]):
        named = above.image.info.backing_path if above.image else None
        if not named or not above.path or not layer.path or ':' in named.partition('/')[0]:
            continue
        named = os.path.join(os.path.dirname(above.path), named)
        if storage.canonical(named) != storage.canonical(layer.path):
            yield Problem(
                'backing_differs',
                f'The header of {above.path} names {named} as its backing file, and the running domain uses '
                f'{layer.path}.',
                f'Before it is started anew, and while it is shut off: qemu-img rebase -u -F {layer.source.format} '
                f'-b {layer.path} {above.path}',
                disk.target,
                path=above.path,
            )


def definitions(view: DomainView, storage: Storage) -> t.Iterator[Problem]:
    """Disks that will be other images at the next start, or the same ones taken for something else, or not there."""
    if view.later is None:
        return
    now, then = (_images(disks) for disks in (view.now.disks, view.later.disks))
    for target, source in now.items():
        if target not in then:
            yield Problem(
                'definitions_differ',
                f'Disk {target}, {source.key}, is attached to the domain that runs, and will not be there at its next '
                'start.',
                'If the guest is to keep it, add it to the persistent definition with virsh edit. If it is there for a '
                'time, as for a backup, detach it when that is over.',
                target,
                path=source.path,
            )
        elif _key(source, storage) != _key(then[target], storage):
            yield _another(target, source, then[target])
        elif source.format and then[target].format and source.format != then[target].format:
            yield _retyped(target, source, then[target])
    for target, source in then.items():
        if target not in now:
            yield Problem(
                'definitions_differ',
                f'Disk {target}, {source.key}, is not attached to the domain that runs, and will be at its next start.',
                'If the guest is to have it, attach it with virsh attach-disk --live. If not, take it out of the '
                'persistent definition with virsh edit.',
                target,
                path=source.path,
            )
    yield from _later_formats(view, storage)


def _images(disks: t.Iterable[Disk]) -> dict[str, Source]:
    return {disk.target: disk.active for disk in disks if disk.device in ('disk', 'lun') and disk.chain}


def _another(target: str, now: Source, then: Source) -> Problem:
    return Problem(
        'definitions_differ',
        f'Disk {target} is {now.key} now, and will be {then.key} at the next start of the domain.',
        f'If {now.key} is right, correct the persistent definition with virsh edit before the domain is shut off: else '
        'its guest finds other data.',
        target,
        path=then.path,
    )


def _retyped(target: str, now: Source, then: Source) -> Problem:
    return Problem(
        'definitions_differ',
        f'Disk {target}, {now.key}, is taken for {now.format} now, and will be for {then.format} at the next start of '
        'the domain.',
        f'Set the type of the <driver> to {now.format} in the persistent definition, with virsh edit, before the '
        'domain is shut off: a guest whose qcow2 image is taken for raw destroys it, and one whose raw image is taken '
        'for qcow2 can have QEMU open any file of the host.',
        target,
        path=then.path,
    )


def _later_formats(view: DomainView, storage: Storage) -> t.Iterator[Problem]:
    """What is wrong with the formats of the next start, where that is not what is wrong now."""
    known = {(disk.target, _key(disk.disk.active, storage), disk.disk.active.format) for disk in view.disks}
    for disk in view.later_disks:
        if (disk.target, _key(disk.disk.active, storage), disk.disk.active.format) not in known:
            yield from _formats(disk, later=True)


def _key(source: Source, storage: Storage) -> str:
    try:
        return storage.canonical(_chain.local_path(source, storage) or source.key)
    except DiskSnapError:
        return source.key


def written_bases(found: Survey) -> dict[str, list[Problem]]:
    """Layers that another domain, which runs, writes to; by the UUID of the domain that stands on them."""
    writers: dict[str, DomainView] = {}
    for view in found.domains:
        for disk in view.disks if view.live else ():
            path = disk.layers[0].path
            if path and not disk.disk.readonly:
                writers[found.storage.canonical(path)] = view
    problems: dict[str, list[Problem]] = {}
    for view in found.domains:
        for disk in view.disks:
            for above, layer in zip(disk.layers, disk.layers[1:]):
                writer = writers.get(found.storage.canonical(layer.path)) if layer.path else None
                if writer is not None and writer.uuid != view.uuid:
                    problems.setdefault(view.uuid, []).append(_written(disk, above, layer, writer))
    return problems


def _written(disk: DiskView, above: Layer, layer: Layer, writer: DomainView) -> Problem:
    return Problem(
        'base_written',
        f'{layer.path}, on which {above.path} of disk {disk.target} stands, is written to by the domain {writer.name}, '
        'which runs.',
        f'Shut {writer.name} off. What stands on an image that changes is damaged: restore the disk from a backup.',
        disk.target,
        path=layer.path,
    )
