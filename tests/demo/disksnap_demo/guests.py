# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The three guests, and what is looked at before and after."""

from __future__ import annotations

from dataclasses import dataclass

import libvirt
from lxml import etree

from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab

SPECS = (
    GuestSpec('db1', disks=[DiskSpec(), DiskSpec(fs='xfs', format='raw'), DiskSpec()]),
    GuestSpec('web1'),
    GuestSpec('web2'),
)
BOOT_SECONDS = 300  # some 5 s on a machine with nothing else to do
RECORDS = 20

Chains = dict[str, list[tuple[str, str]]]


@dataclass(frozen=True)
class Disks:
    """What libvirt and the file system say of a guest's disks: live and persistent chains, and the files."""

    live: Chains
    persistent: Chains
    files: tuple[str, ...]


def boot(lab: Lab) -> list[Guest]:
    """Define and start them, and wait until all answer and write."""
    guests = [lab.define(spec) for spec in SPECS]
    for guest in guests:
        guest.wait_agent(timeout=BOOT_SECONDS)
    for guest in guests:
        guest.wait_acked(RECORDS, timeout=BOOT_SECONDS)
    return guests


def look(guest: Guest) -> Disks:
    """The disks as they are now."""
    return Disks(
        live=_chains(guest.domain.XMLDesc()),
        persistent=_chains(guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)),
        files=tuple(sorted(path.name for path in guest.images.iterdir())),
    )


def _chains(xml: str) -> Chains:
    """Target -> (format, path) of each layer, the active one first."""
    return {
        str(disk.xpath('string(target/@dev)')): [
            (str(layer.xpath('string(driver/@type | format/@type)')), str(layer.xpath('string(source/@file)')))
            for layer in (disk, *disk.iter('backingStore'))
            if layer.find('source') is not None
        ]
        for disk in etree.fromstring(xml).iterfind('devices/disk')
    }


def difference(before: Disks, after: Disks) -> str:
    """What is not as it was; empty if all is."""
    differences = []
    for what in ('live', 'persistent', 'files'):
        old, new = getattr(before, what), getattr(after, what)
        if old != new:
            differences.append(f'{what}: was {old}, is {new}')
    return '; '.join(differences)
