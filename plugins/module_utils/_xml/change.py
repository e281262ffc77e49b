# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the XML of a disk changes when layers come and go. Nothing here touches libvirt."""

from __future__ import annotations

import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import etree
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk, Source, read_disk
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import parse, to_text


def settled(disk_xml: str) -> str:
    """A ``<disk>`` without what libvirt only reports of the moment: layer indexes and private data.

    Two calls that see the same disk at different moments give the same text.
    """
    disk = parse(disk_xml, 'disk XML')
    etree.strip_attributes(disk, 'index')  # only layers have one
    for source in disk.iter('source'):
        for private in source.findall('privateData'):
            source.remove(private)
    mirror = disk.find('mirror')
    if mirror is not None:
        disk.remove(mirror)
    return to_text(disk)


def source_element(source: Source) -> t.Any:
    """The ``<source>`` element of a layer, built anew where it was never read from XML."""
    if source.xml:
        return parse(source.xml, 'source XML')
    element = etree.Element('source')
    if source.type == 'network':
        element.set('protocol', source.protocol or '')
        element.set('name', source.name or '')
    else:
        element.set('dev' if source.type == 'block' else 'file', source.path or '')
    return element


def _set_source(disk: t.Any, kind: str, fmt: str | None, source: t.Any) -> None:
    disk.set('type', kind)
    driver = disk.find('driver')
    if driver is None:
        driver = etree.Element('driver', name='qemu')
        disk.insert(0, driver)
    if fmt:
        driver.set('type', fmt)
    old = disk.find('source')
    if old is not None:
        disk.replace(old, source)
    else:
        driver.addnext(source)


def overlaid(disk: Disk, path: str, *, live: bool) -> str:
    """The ``<disk>`` as libvirt will show it once ``path``, a qcow2 file, lies on top of it.

    Args:
        disk: the disk before.
        path: the overlay.
        live: of a running domain, whose XML shows the backing chain; a shut-off domain's does not.
    """
    element = parse(settled(disk.xml), 'disk XML')
    top = disk.active
    below = element.find('backingStore')
    if below is not None:
        element.remove(below)
    _set_source(element, 'file', 'qcow2', etree.Element('source', file=path))
    if live:
        backing = etree.Element('backingStore', type=top.type)
        etree.SubElement(backing, 'format', type=top.format or 'raw')
        backing.append(source_element(top))
        if below is not None:
            backing.append(below)
        element.findall('source')[0].addnext(backing)
    return to_text(element)


def with_active_layer(disk: Disk, source: Source) -> str:
    """The ``<disk>`` of a shut-off domain with ``source`` as its active layer."""
    element = parse(settled(disk.xml), 'disk XML')
    below = element.find('backingStore')
    if below is not None:
        element.remove(below)
    _set_source(element, source.type, source.format, source_element(source))
    return to_text(element)


def domain_with_disk(domain_xml: str, target: str, disk_xml: str) -> str:
    """The ``<domain>`` with the disk of this target replaced by ``disk_xml``."""
    domain = parse(domain_xml, 'domain XML')
    for element in domain.findall('./devices/disk'):
        if read_disk(element).target == target:
            replacement = parse(disk_xml, 'disk XML')
            replacement.tail = element.tail
            domain.findall('devices')[0].replace(element, replacement)
    return to_text(domain)
