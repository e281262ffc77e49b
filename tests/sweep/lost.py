# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an operator does, by the guide "What happens when", where a libvirtd that was killed has lost what it had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lxml import etree

from ansible_collections.disksnap.libvirt.tests.live import harness
from ansible_collections.disksnap.libvirt.tests.live.merging import end_qemu, name_base, qemu_of
from disksnap_lab import Guest, Lab

DOMAIN, PIVOT = 'domain', 'pivot'


def put_right(lab: Lab, guests: Sequence[Guest], said: str) -> str:
    """Do that, if it is the case.

    Args:
        said: by the task that failed.

    Returns:
        What libvirt had lost, or nothing.
    """
    forgotten = [guest for guest in guests if guest.state == 'shutoff' and qemu_of(guest)]
    for guest in forgotten:
        status: Any = etree.parse(lab.paths.run / 'libvirt' / 'qemu' / f'{guest.name}.xml')
        pivoted = [
            disk.find('target').get('dev')
            for disk in status.iterfind('domain/devices/disk')
            if disk.find('mirror') is not None and disk.find('mirror').get('job') == ''
        ]
        end_qemu(guest)
        name_base(guest, pivoted)
    if forgotten:
        return DOMAIN
    if 'lost track of it' not in said:
        return ''
    for guest in guests:
        guest.destroy()
        guest.start()
    harness.ready(*guests)
    return PIVOT
