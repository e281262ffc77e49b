# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backing chains: the layers of one disk, and who else on the host stands on them."""

from __future__ import annotations

import contextlib
import posixpath
import typing as t
from dataclasses import replace

from ansible_collections.disksnap.libvirt.plugins.module_utils import _journal
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained, xml_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._paths import is_device
from ansible_collections.disksnap.libvirt.plugins.module_utils._pool import Pools
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import (
    Disk,
    Source,
    find_disk,
    read_domain,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.volume import VolumeInfo

# longer than any chain that QEMU opens (libvirt stops at 200: VIR_STORAGE_SOURCE MAX depth)
MAX_DEPTH = 200


class Images(t.Protocol):
    """Where a chain is followed: ``Pools`` asks libvirt for each image, ``Storage`` has read them all."""

    def volume(self, path: str) -> VolumeInfo | None:
        """What the storage says of the image at a path."""

    def volume_path(self, pool_name: str, volume_name: str) -> str:
        """The path of a ``<source pool= volume=>``."""


def local_path(source: Source, pools: Images) -> str | None:
    """The file or device that holds a layer; None for a network source.

    Raises:
        DiskSnapError: if a ``<source pool= volume=>`` names what is not there.
    """
    if source.type == 'volume' and source.path is None:
        return pools.volume_path(source.pool or '', source.volume or '')
    return source.path


def whole(disk: Disk, pools: Images, domain: str) -> Disk:
    """The disk with its chain down to the last layer, which a shut-off domain's XML does not tell.

    Raises:
        DiskSnapError: if a backing file is missing or the chain has a loop.
    """
    layers: list[Source] = []
    _follow(disk, pools, domain, layers)
    return replace(disk, chain=tuple(layers), complete=True)


def seen(disk: Disk, pools: Images, domain: str) -> tuple[Disk, DiskSnapError | None]:
    """The disk with its chain as far down as it can be followed, and why not further; None where that is the end."""
    layers: list[Source] = []
    try:
        _follow(disk, pools, domain, layers)
    except DiskSnapError as error:
        return replace(disk, chain=tuple(layers)), error
    return replace(disk, chain=tuple(layers), complete=True), None


def _follow(disk: Disk, pools: Images, domain: str, layers: list[Source]) -> None:
    """Append the layers of a disk; where one of them cannot be read, those above it are there all the same."""
    layers += disk.chain
    if disk.complete or disk.source is None:
        return
    seen = {layer.key for layer in layers}
    while len(layers) < MAX_DEPTH:
        path = local_path(layers[-1], pools)
        if layers[-1].format == 'raw' and is_device(path or ''):
            return  # it stands on nothing; and a device that is in no pool, as a thin volume, nobody can look at
        backing = _backing_of(path, pools, disk, domain) if path else None
        if backing is None or layers[-1].format == 'raw':
            return  # whatever the first bytes of a raw image look like: a guest can have written them
        if backing.key in seen:
            raise DiskSnapError(
                'Failed to follow the backing chain', domain=domain, disk=disk.target, why=f'{backing.key} backs itself'
            )
        seen.add(backing.key)
        layers.append(backing)
    raise DiskSnapError(
        'Failed to follow the backing chain',
        domain=domain,
        disk=disk.target,
        why=f'it is deeper than {MAX_DEPTH} layers',
    )


def find(disks: t.Sequence[Disk], wanted: str, domain: Domain) -> Disk:
    """The one disk that ``wanted`` names, be it by a layer that only the storage tells.

    Raises:
        DiskSnapError: if there is none, or more than one.
    """
    try:
        return find_disk(disks, wanted, domain.name)
    except DiskSnapError:
        if not wanted.startswith('/') or all(disk.complete for disk in disks):
            raise
    # one that cannot be followed is not the one that is looked for, or cannot be found
    followed = [seen(disk, domain.host.pools, domain.name)[0] for disk in disks]
    target = find_disk(followed, wanted, domain.name).target
    return next(disk for disk in disks if disk.target == target)


def _backing_of(path: str, pools: Images, disk: Disk, domain: str) -> Source | None:
    volume = pools.volume(path)
    if volume is None:
        raise DiskSnapError(
            'Failed to follow the backing chain',
            domain=domain,
            disk=disk.target,
            why=f'{path} is not there or cannot be read',
            hint='Put the missing image back, or correct the domain.',
        )
    if volume.backing_path is None:
        return None
    backing = volume.backing_path
    if '://' in backing or backing.startswith(('json:', 'nbd:', 'rbd:')):
        return Source(type='network', format=volume.backing_format, protocol=backing.partition(':')[0], name=backing)
    if not backing.startswith('/'):
        backing = posixpath.join(posixpath.dirname(path), backing)
    return Source(
        type='block' if is_device(backing) else 'file',
        format=volume.backing_format,
        path=posixpath.normpath(backing),
    )


class Users:
    """Which domains and which images of this host stand on an image: read once per module run.

    ``unknown`` are the domains that may stand on more than they show, each with the reason: one of their images cannot
    be read, or libvirt does not tell their definition.
    """

    def __init__(self, connection: t.Any, pools: Pools) -> None:
        self._pools = pools
        self._domains: dict[str, set[str]] = {}
        self._images: dict[str, set[str]] = {}
        # layers that somebody has as raw, and those that somebody has as another format
        self._raw: set[str] = set()
        self._formatted: set[str] = set()
        self.unknown: dict[str, str] = {}
        with explained('Failed to list the domains of the host'):
            domains = connection.listAllDomains(0)
        for domain in domains:
            self._add_domain(domain)
        for volume in pools.all_volumes():
            if volume.backing_path and volume.path and not self._forged(volume.path):
                self._images.setdefault(pools.canonical(volume.backing_path), set()).add(volume.path)

    def _forged(self, path: str) -> bool:
        """Whether a guest can have written the header of an image: a raw disk has none of its own."""
        key = self._pools.canonical(path)
        return key in self._raw and key not in self._formatted

    def _add_domain(self, domain: t.Any) -> None:
        name = domain.name()
        for _again in range(2):  # the first look may fall into another task's change of this domain
            try:
                reasons = [reason for disk in _disks_of(domain) if (reason := self._add_disk(disk, name))]
                self._add_copies(domain)
            except DiskSnapError as error:
                if error.code == libvirt.VIR_ERR_NO_DOMAIN:
                    return  # the domain went away since it was listed
                reasons = [error.why or str(error)]
            if not reasons:
                return
        self.unknown[name] = '; '.join(dict.fromkeys(reasons))

    def _add_copies(self, domain: t.Any) -> None:
        """Note what the copies stand on that a snapshot of ours holds: nothing but the journal may know of them."""
        for snapshot in _journal.load(domain).snapshots.values():
            for one in snapshot.disks:
                for path in one.backing:
                    self._images.setdefault(self._pools.canonical(path), set()).add(one.backup_source.path or '')

    def _add_disk(self, disk: Disk, name: str) -> str | None:
        """Note all layers that can be seen; why there may be more, or None."""
        layers: list[Source] = []
        reason = None
        try:
            _follow(disk, self._pools, name, layers)
        except DiskSnapError as error:
            last = layers[-1]
            if last.format != 'raw':  # a raw image stands on nothing, there or not
                reason = f'disk {disk.target}: {error.why or error}'
                if last.path:
                    with contextlib.suppress(DiskSnapError, libvirt.libvirtError):
                        self._pools.refresh(last.path)
        for layer in layers:
            try:
                key = local_path(layer, self._pools) or layer.key
            except DiskSnapError:
                key = layer.key
            key = self._pools.canonical(key)
            self._domains.setdefault(key, set()).add(name)
            if layer.format:
                (self._raw if layer.format == 'raw' else self._formatted).add(key)
        return reason

    def domains_on(self, path: str) -> set[str]:
        """Names of the domains whose disks, live or at their next start, include this image."""
        return set(self._domains.get(self._pools.canonical(path), ()))

    def images_on(self, path: str) -> set[str]:
        """Paths of the images that have this one as backing file, as far as the active pools show them."""
        return set(self._images.get(self._pools.canonical(path), ()))

    def of_all(self, path: str) -> dict[str, list[str]]:
        """Who stands on what would be gone with this path, be it an image or a directory with all that is in it.

        Returns:
            Path of each image that somebody needs -> domains, and images that lie elsewhere, as words.
        """
        top = self._pools.canonical(path)
        found: dict[str, list[str]] = {}
        for key in sorted({*self._domains, *self._images}):
            if key == top or key.startswith(f'{top}/'):
                words = [f'the domain {name}' for name in sorted(self._domains.get(key, ()))]
                above = sorted(self._images.get(key, ()))
                words += [one for one in above if not self._pools.canonical(one).startswith(f'{top}/')]
                if words:
                    found[path + key[len(top) :]] = words
        return found


def _disks_of(domain: t.Any) -> list[Disk]:
    """The disks of now, and those of the next start that begin with another layer."""
    disks = list(read_domain(xml_of(domain)).disks)
    with explained('Failed to read the state of the domain'):
        both = domain.isActive() and domain.isPersistent()
    if both:
        known = {layer.key for disk in disks if disk.complete for layer in disk.chain[:1]}
        lasting = read_domain(xml_of(domain, inactive=True)).disks
        disks += [disk for disk in lasting if disk.source is not None and disk.source.key not in known]
    return disks
