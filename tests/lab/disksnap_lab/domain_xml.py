# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Spec to domain XML, by lxml; and the XML of storage pools. Nothing here talks to libvirt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from .guest_image import GuestImage
from .spec import DeviceSpec, DiskSpec, GuestSpec

TB_CACHE_MIB = 32
AGENT_CHANNEL = 'org.qemu.guest_agent.0'
ACK_CHANNEL = 'org.disksnap.ack.'
_CMDLINE = 'console=ttyS0 quiet no_timer_check mitigations=off panic=2'


@dataclass(frozen=True)
class Source:
    """Where a disk's data is, once made: one of a file, a device, a volume or a socket."""

    file: str | None = None
    device: str | None = None
    pool: str | None = None
    volume: str | None = None
    nbd_socket: str | None = None

    @property
    def type(self) -> str:
        """libvirt's type attribute of the disk."""
        if self.device:
            return 'block'
        if self.volume:
            return 'volume'
        return 'network' if self.nbd_socket else 'file'


@dataclass(frozen=True)
class HostFiles:
    """Files of a guest on the host: its console and one acknowledgement file a written disk."""

    directory: Path

    @property
    def console(self) -> Path:
        """All that the guest's serial console said since it was started."""
        return self.directory / 'console'

    def acks(self, target: str) -> Path:
        """What the writer of this disk acknowledged."""
        return self.directory / f'{target}.acks'


def _add(parent: etree._Element, tag: str, text: str | None = None, **attributes: str) -> etree._Element:
    element = etree.SubElement(parent, tag, {name.rstrip('_'): value for name, value in attributes.items()})
    element.text = text
    return element


def command_line(spec: GuestSpec) -> str:
    """Kernel command line: the fixed words for speed, then options that guest/init reads."""
    words = [_CMDLINE, f'lab_name={spec.name}', f'lab_agent={spec.agent}']
    words += [f'lab_writer={spec.writer}', f'lab_period={spec.writer_period_ms}']
    mounted = [f'{target}:{disk.fs}' for target, disk in zip(spec.targets, spec.disks) if disk.mounted]
    if mounted:
        words.append(f'lab_disks={",".join(mounted)}')
    if spec.dirty_mib:
        words += [f'lab_dirty={spec.dirty_mib}', f'lab_dirty_rate={spec.dirty_rate}']
    return ' '.join(words)


def _disk(devices: etree._Element, disk: DiskSpec, target: str, source: Source) -> None:
    element = _add(devices, 'disk', type=source.type, device='disk')
    format_ = 'raw' if source.nbd_socket else disk.format  # qemu-nbd shows what is inside the format
    _add(element, 'driver', name='qemu', type=format_, cache=disk.cache, discard='unmap')
    if source.nbd_socket:
        network = _add(element, 'source', protocol='nbd', name=target)
        _add(network, 'host', transport='unix', socket=source.nbd_socket)
    elif source.volume:
        _add(element, 'source', pool=source.pool or '', volume=source.volume)
    elif source.device:
        _add(element, 'source', dev=source.device)
    else:
        _add(element, 'source', file=source.file or '')
    _add(element, 'target', dev=target, bus='virtio')
    if disk.io_limit:
        _add(_add(element, 'iotune'), 'total_bytes_sec', str(disk.io_limit))
    if disk.readonly:
        _add(element, 'readonly')
    if disk.shareable:
        _add(element, 'shareable')


def _device(devices: etree._Element, spec: DeviceSpec, target: str, bus: str) -> None:
    element = _add(devices, 'disk', type='file', device=spec.device)
    _add(element, 'driver', name='qemu', type='raw')
    if spec.media:
        _add(element, 'source', file=str(spec.media))
    _add(element, 'target', dev=target, bus=bus)
    if spec.device == 'cdrom':
        _add(element, 'readonly')


def domain(spec: GuestSpec, sources: list[Source], image: GuestImage, files: HostFiles) -> str:
    """The whole domain."""
    root = etree.Element('domain', {'type': 'qemu'})
    _add(root, 'name', spec.name)
    _add(root, 'memory', str(spec.memory), unit='MiB')
    _add(root, 'vcpu', '1')
    boot = _add(root, 'os')
    _add(boot, 'type', 'hvm', arch='x86_64', machine='q35')
    _add(boot, 'kernel', str(image.kernel))
    _add(boot, 'initrd', str(image.initrd(spec.has_xfs)))
    _add(boot, 'cmdline', command_line(spec))
    features = _add(root, 'features')
    _add(features, 'acpi')
    _add(_add(features, 'tcg'), 'tb-cache', str(TB_CACHE_MIB), unit='MiB')
    _add(root, 'on_crash', 'destroy')
    devices = _add(root, 'devices')
    for disk, target, source in zip(spec.disks, spec.targets, sources):
        _disk(devices, disk, target, source)
    for place, device in enumerate(d for d in spec.devices if d.device == 'cdrom'):
        _device(devices, device, f'sd{chr(ord("a") + place)}', 'sata')
    for place, device in enumerate(d for d in spec.devices if d.device == 'floppy'):
        _device(devices, device, f'fd{chr(ord("a") + place)}', 'fdc')
    _channels(devices, spec, files)
    return etree.tostring(root, pretty_print=True, encoding='unicode')


def _channels(devices: etree._Element, spec: GuestSpec, files: HostFiles) -> None:
    _add(devices, 'controller', type='virtio-serial')
    _add(devices, 'controller', type='usb', model='none')
    if spec.agent != 'none':
        channel = _add(devices, 'channel', type='unix')
        _add(channel, 'target', type='virtio', name=AGENT_CHANNEL)
    for target in spec.written:
        channel = _add(devices, 'channel', type='file')
        _add(channel, 'source', path=str(files.acks(target)), append='on')
        _add(channel, 'target', type='virtio', name=f'{ACK_CHANNEL}{target}')
    serial = _add(devices, 'serial', type='file')
    _add(serial, 'source', path=str(files.console))
    _add(devices, 'memballoon', model='none')


def directory_pool(name: str, directory: Path) -> str:
    """A storage pool over a directory."""
    root = etree.Element('pool', {'type': 'dir'})
    _add(root, 'name', name)
    _add(_add(root, 'target'), 'path', str(directory))
    return etree.tostring(root, encoding='unicode')


def logical_pool(group: str) -> str:
    """A storage pool over an LVM volume group, of the same name."""
    root = etree.Element('pool', {'type': 'logical'})
    _add(root, 'name', group)
    source = _add(root, 'source')
    _add(source, 'name', group)
    _add(source, 'format', type='lvm2')
    _add(_add(root, 'target'), 'path', f'/dev/{group}')
    return etree.tostring(root, encoding='unicode')
