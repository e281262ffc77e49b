# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks and backing chains as a domain's XML shows them.

A running domain's XML carries the whole chain (``<backingStore>`` in ``<backingStore>``); a shut-off domain's
carries at most what its author wrote, so its chain must be asked of the storage (see ``_chain.py``).
"""

from __future__ import annotations

import copy
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import etree
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import parse, to_text

# where a source element keeps what names it, by the disk's type
_PATH_ATTRIBUTE = {'file': 'file', 'block': 'dev', 'dir': 'dir', 'vhostvdpa': 'dev'}
# libvirt counts layers in an unsigned int
_INDEX = re.compile('[0-9]{1,10}')


@dataclass(frozen=True)
class Source:
    """One layer: the ``<source>`` of a disk or of a ``<backingStore>``, with its format.

    ``path`` is None for a volume or network source; ``key`` names any source and is equal for equal ones.
    ``xml`` is the ``<source>`` element as text, without what libvirt only reports (``index``, ``<privateData>``).
    """

    type: str
    format: str | None
    path: str | None = None
    pool: str | None = None
    volume: str | None = None
    protocol: str | None = None
    name: str | None = None
    hosts: tuple[str, ...] = ()
    index: int | None = None
    encrypted: bool = False
    authenticated: bool = False
    xml: str = field(default='', compare=False)

    @property
    def key(self) -> str:
        """A text that names the storage: a path, ``pool/volume``, or ``protocol://host/name``."""
        if self.path is not None:
            return self.path
        if self.type == 'volume':
            return f'{self.pool}/{self.volume}'
        return f'{self.protocol or self.type}://{",".join(self.hosts)}/{self.name or ""}'


@dataclass(frozen=True)
class Mirror:
    """A copy or active-commit job on a disk, from ``<mirror job= ready=>``; ``ready`` is yes, no, abort or pivot.

    ``chain`` is what the job writes to and all below it, as far as the XML tells, ``complete`` whether that is all.
    """

    job: str
    ready: str
    chain: tuple[Source, ...] = field(default=(), compare=False)
    complete: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Disk:
    """One ``<disk>``; ``chain`` is every layer from the active one down, as far as the XML tells."""

    target: str
    device: str
    alias: str | None
    chain: tuple[Source, ...]
    complete: bool
    readonly: bool
    shareable: bool
    transient: bool
    snapshot: str | None
    mirror: Mirror | None
    xml: str

    @property
    def source(self) -> Source | None:
        """The active layer; None for an empty drive."""
        return self.chain[0] if self.chain else None

    @property
    def active(self) -> Source:
        """The active layer of a drive that is known not to be empty.

        Raises:
            DiskSnapError: if it is empty all the same.
        """
        if not self.chain:
            raise DiskSnapError('Failed to look at the disk', disk=self.target, why='the drive is empty')
        return self.chain[0]

    def layer(self, wanted: str) -> int | None:
        """Position in the chain of a path or of libvirt's ``vda[1]``; None if it is not there."""
        for position, source in enumerate(self.chain):
            if wanted == source.key or (source.index is not None and wanted == f'{self.target}[{source.index}]'):
                return position
        return None


@dataclass(frozen=True)
class DomainXml:
    """What we read of ``<domain>``.

    agent_channel: whether it has a channel for the guest agent. agent_connected: whether something in the guest
    has that open, or had when libvirtd last knew.
    """

    name: str
    uuid: str
    disks: tuple[Disk, ...]
    agent_channel: bool
    agent_connected: bool

    def disk(self, target: str) -> Disk | None:
        """The disk with this target name, or None."""
        return next((disk for disk in self.disks if disk.target == target), None)


def _hosts(source: t.Any) -> tuple[str, ...]:
    found = []
    for host in source.findall('host'):
        if host.get('socket'):
            found.append(f'unix:{host.get("socket")}')
        else:
            name = host.get('name', '')
            name = f'[{name}]' if ':' in name else name  # an IPv6 address
            found.append(f'{name}:{host.get("port")}' if host.get('port') else name)
    return tuple(found)


def _without_reported(source: t.Any) -> str:
    reduced = copy.deepcopy(source)
    etree.strip_attributes(reduced, 'index')
    for private in reduced.findall('privateData'):
        reduced.remove(private)
    return to_text(reduced)


def _source(holder: t.Any, kind: str, fmt: str | None) -> Source | None:
    """Read the ``<source>`` below a ``<disk>`` or ``<backingStore>``; None where there is none."""
    element = holder.find('source')
    if element is None:
        return None
    path = element.get(_PATH_ATTRIBUTE[kind]) if kind in _PATH_ATTRIBUTE else None
    if path is None and kind in _PATH_ATTRIBUTE:
        return None
    index = element.get('index') or holder.get('index')  # libvirt shows it on <backingStore>, not on its <source>
    return Source(
        type=kind,
        format=fmt,
        path=path,
        pool=element.get('pool'),
        volume=element.get('volume'),
        protocol=element.get('protocol'),
        name=element.get('name'),
        hosts=_hosts(element),
        index=int(index) if index and _INDEX.fullmatch(index) else None,
        encrypted=element.find('encryption') is not None or holder.find('encryption') is not None,
        authenticated=element.find('auth') is not None or holder.find('auth') is not None,
        xml=_without_reported(element),
    )


def _chain(disk: t.Any) -> tuple[tuple[Source, ...], bool]:
    """The layers from the active one down, and whether the XML says where the chain ends (``<backingStore/>``)."""
    driver = disk.find('driver')
    top = _source(disk, disk.get('type', 'file'), driver.get('type') if driver is not None else None)
    return _below(disk, top) if top is not None else ((), True)


def _below(holder: t.Any, top: Source) -> tuple[tuple[Source, ...], bool]:
    layers = [top]
    while True:
        holder = holder.find('backingStore')
        if holder is None:
            return tuple(layers), False
        if len(holder) == 0:
            return tuple(layers), True
        fmt = holder.find('format')
        layer = _source(holder, holder.get('type', 'file'), fmt.get('type') if fmt is not None else None)
        if layer is None:
            return tuple(layers), False
        layers.append(layer)


def _mirror(element: t.Any) -> Mirror:
    fmt = element.find('format')
    top = _source(element, element.get('type', 'file'), fmt.get('type') if fmt is not None else None)
    chain, complete = _below(element, top) if top is not None else ((), False)
    return Mirror(element.get('job', 'copy'), element.get('ready', 'no'), chain, complete)


def read_disk(element: t.Any) -> Disk:
    """Read one ``<disk>`` element."""
    chain, complete = _chain(element)
    target = element.find('target')
    alias = element.find('alias')
    mirror = element.find('mirror')
    return Disk(
        target=target.get('dev', '') if target is not None else '',
        device=element.get('device', 'disk'),
        alias=alias.get('name') if alias is not None else None,
        chain=chain,
        complete=complete,
        readonly=element.find('readonly') is not None,
        shareable=element.find('shareable') is not None,
        transient=element.find('transient') is not None,
        snapshot=element.get('snapshot'),
        mirror=_mirror(mirror) if mirror is not None else None,
        xml=to_text(element),
    )


def read_domain(xml: str) -> DomainXml:
    """Read ``virDomainGetXMLDesc`` output.

    Raises:
        DiskSnapError: if the text is not XML or not a domain.
    """
    root = parse(xml, 'domain XML')
    if root.tag != 'domain':
        raise DiskSnapError('Failed to read the domain XML', why=f'the root element is <{root.tag}>, not <domain>')
    channels = [
        channel
        for channel in root.findall('./devices/channel/target')
        if channel.get('name') == 'org.qemu.guest_agent.0'
    ]
    return DomainXml(
        name=root.findtext('name', ''),
        uuid=root.findtext('uuid', ''),
        disks=tuple(read_disk(element) for element in root.findall('./devices/disk')),
        agent_channel=bool(channels),
        agent_connected=any(channel.get('state') == 'connected' for channel in channels),
    )


def find_disk(disks: t.Sequence[Disk], wanted: str, domain: str) -> Disk:
    """The one disk that ``wanted`` names: its target, its source (path), a layer below that, or its alias.

    Raises:
        DiskSnapError: if there is none, or more than one.
    """
    for of in (
        lambda disk: [disk.target],
        lambda disk: [layer.key for layer in disk.chain[:1]],
        lambda disk: [layer.key for layer in disk.chain[1:]],  # what was the source before a snapshot
        lambda disk: [disk.alias],
    ):
        found = [disk for disk in disks if wanted in of(disk)]
        if len(found) == 1:
            return found[0]
        if found:
            targets = ', '.join(disk.target for disk in found)
            raise DiskSnapError(
                'Failed to select a disk',
                domain=domain,
                disk=wanted,
                why=f'it names more than one ({targets})',
                hint='Name the disk by its target.',
            )
    raise DiskSnapError(
        'Failed to select a disk',
        domain=domain,
        disk=wanted,
        why='no disk of the domain has this target, source or alias',
        hint=f'Its disks are {", ".join(disk.target for disk in disks) or "none"}.',
    )


def left_out_reason(disk: Disk) -> str | None:
    """Why a disk is left out when nobody names it, and an error when somebody does; None if it takes part."""
    if disk.device == 'cdrom':
        return 'it is a CD-ROM'
    if disk.device == 'floppy':
        return 'it is a floppy'
    if disk.source is None:
        return 'the drive is empty'
    if disk.readonly:
        return 'it is read-only'
    return None


def refusal_reason(disk: Disk) -> str | None:
    """Why no method can snapshot a writable disk; None if one could."""
    source = disk.source
    if disk.device == 'lun':
        return (
            'it is a pass-through LUN (device="lun"): its guest talks SCSI to the storage, which no snapshot here sees'
        )
    if source is not None and source.type in ('vhostuser', 'vhostvdpa', 'nvme', 'dir'):
        return (
            f"a disk of type {source.type} does not go through QEMU's block layer or has no image that can be layered"
        )
    if source is not None and source.path is not None and not source.path.startswith('/'):
        return f'its image {source.path} has no absolute path, and nobody can tell from where QEMU would look for it'
    if disk.shareable:
        return 'it is shareable: another domain may write to it at any moment'
    if disk.transient:
        return 'it is transient: libvirt throws its changes away when the domain stops'
    return None
