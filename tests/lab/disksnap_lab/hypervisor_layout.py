# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is in a hypervisor: its guests with their disks, and its pools. hypervisor/storage makes what they lie on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lxml import etree

from .domain_xml import HostFiles, Source, directory_pool, domain, logical_pool
from .guest_image import GuestImage
from .spec import DiskSpec, GuestSpec

BOOT = GuestImage(Path('/var/lib/libvirt/boot'))
PERIOD_MS = 500  # at 200, the writers keep one of the two emulated processors busy
IMAGES = Path('/var/lib/libvirt/images')
_BLOCK = DiskSpec(format='raw', kind='block')
_RAW = DiskSpec(format='raw')
_QCOW2 = DiskSpec()

# Guest -> target -> where the disk lies
DISKS = {
    'inner': {
        'vda': Source(file=str(IMAGES / 'inner-vda.qcow2')),
        'vdb': Source(device='/dev/vg0/classic'),
        'vdc': Source(device='/dev/vg0/thin'),
        'vdd': Source(file='/srv/btrfs/guests/inner-vdd.img'),
        'vde': Source(file='/srv/xfs/inner-vde.img'),
        'vdf': Source(file='/srv/images/inner-vdf.img'),
    },
    'spare': {
        'vda': Source(device='/dev/vg0/spare'),
        'vdb': Source(file=str(IMAGES / 'spare-vdb.qcow2')),
    },
}
DIRECTORY_POOLS = {'default': IMAGES, 'btrfs': Path('/srv/btrfs/guests'), 'xfs': Path('/srv/xfs')}
LOGICAL_POOLS = ['vg0']


def _disk(source: Source) -> DiskSpec:
    if source.device:
        return _BLOCK
    return _QCOW2 if str(source.file).endswith('.qcow2') else _RAW


def guest_files(guest: str) -> HostFiles:
    """Console and acknowledgements of a guest, on the hypervisor."""
    return HostFiles(Path('/var/log/libvirt/lab') / guest)


def domain_xml(guest: str) -> str:
    """Definition of a guest, under KVM: QEMU emulates AMD's SVM, and emulating a second time is slower by far."""
    sources = list(DISKS[guest].values())
    spec = GuestSpec(guest, disks=[_disk(source) for source in sources], writer_period_ms=PERIOD_MS)
    root: Any = etree.fromstring(domain(spec, sources, BOOT, guest_files(guest)))
    root.set('type', 'kvm')
    features = root.find('features')
    features.remove(features.find('tcg'))
    root.find('os/cmdline').text += ' tsc=reliable'
    return etree.tostring(root, pretty_print=True, encoding='unicode')


def pools_xml() -> dict[str, str]:
    """Name -> definition of each storage pool."""
    found = {name: directory_pool(name, directory) for name, directory in DIRECTORY_POOLS.items()}
    return {**found, **{name: logical_pool(name) for name in LOGICAL_POOLS}}
