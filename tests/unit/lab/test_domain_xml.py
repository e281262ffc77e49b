# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the lab asks libvirt for, checked against libvirt's own schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('libvirt')
pytest.importorskip('lxml')

from lxml import etree

from disksnap_lab import DeviceSpec, DiskSpec, GuestSpec, LabError
from disksnap_lab.domain_xml import HostFiles, Source, command_line, directory_pool, domain
from disksnap_lab.guest_image import GuestImage

SCHEMAS = Path('/usr/share/libvirt/schemas')
FILES = HostFiles(Path('/lab/guests/web'))
SOURCES = {
    'file': Source(file='/lab/images/a.qcow2'),
    'block': Source(device='/dev/loop0'),
    'volume': Source(pool='images', volume='a.qcow2'),
    'network': Source(nbd_socket='/lab/run/nbd/a.sock'),
}


def xml_of(spec: GuestSpec) -> Any:
    sources = [SOURCES[disk.kind] for disk in spec.disks]
    return etree.fromstring(domain(spec, sources, GuestImage(Path('/lab/guest/0')), FILES))


def assert_valid(element: Any, schema: str) -> None:
    path = SCHEMAS / schema
    if not path.exists():
        pytest.skip(f'{path} is not installed')
    etree.RelaxNG(etree.parse(str(path))).assertValid(element)


EVERYTHING = GuestSpec(
    'web',
    disks=[
        DiskSpec(),
        DiskSpec(fs='xfs', format='raw', kind='block', io_limit=20_000_000),
        DiskSpec(kind='volume', readonly=True),
        DiskSpec(kind='network'),
        DiskSpec(format='raw', shareable=True),
        DiskSpec(fs='none', format='raw', target='vdz'),
    ],
    devices=[DeviceSpec(), DeviceSpec(media=Path('/lab/x.iso')), DeviceSpec('floppy')],
    dirty_mib=60,
)


@pytest.mark.parametrize(
    'spec',
    [EVERYTHING, GuestSpec('a'), GuestSpec('a', disks=[]), GuestSpec('a', agent='none'), GuestSpec('a', writer='none')],
    ids=['everything', 'default', 'diskless', 'no-agent', 'no-writer'],
)
def test_domain_is_valid(spec: GuestSpec) -> None:
    assert_valid(xml_of(spec), 'domain.rng')


def test_pool_is_valid() -> None:
    assert_valid(etree.fromstring(directory_pool('images', Path('/lab/images & more'))), 'storagepool.rng')


def test_disks_are_what_was_asked_for() -> None:
    disks = xml_of(EVERYTHING).findall('devices/disk')
    assert [disk.get('type') for disk in disks] == ['file', 'block', 'volume', 'network', *['file'] * 5]
    assert [disk.find('target').get('dev') for disk in disks] == [
        *('vda', 'vdb', 'vdc', 'vdd', 'vde', 'vdz'),
        *('sda', 'sdb', 'fda'),
    ]
    assert disks[3].find('driver').get('type') == 'raw', 'qemu-nbd has unpacked the qcow2 already'
    assert disks[1].findtext('iotune/total_bytes_sec') == '20000000'
    assert disks[6].find('source') is None


def test_only_disks_that_may_be_mounted_are_written_to() -> None:
    assert EVERYTHING.written == ['vda', 'vdb', 'vdd']
    assert 'lab_disks=vda:ext4,vdb:xfs,vdd:ext4 ' in command_line(EVERYTHING)
    names = [target.get('name') for target in xml_of(EVERYTHING).iterfind('devices/channel/target')]
    assert names == ['org.qemu.guest_agent.0', *(f'org.disksnap.ack.{target}' for target in EVERYTHING.written)]


def test_xfs_needs_its_module_and_more_memory() -> None:
    plain, xfs = GuestSpec('a'), GuestSpec('a', disks=[DiskSpec(fs='xfs')])
    assert (plain.memory, xfs.memory) == (96, 112)
    assert xml_of(plain).findtext('os/initrd') == '/lab/guest/0/initrd'
    assert xml_of(xfs).findtext('os/initrd') == '/lab/guest/0/initrd-xfs'


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: DiskSpec(fs='ntfs'), "fs 'ntfs' is not one of ext4, xfs, none"),
        (lambda: DiskSpec(target='sda'), "Disk target 'sda' is not vda to vdz"),
        (lambda: DiskSpec(format='raw', backing=Path('/x')), 'A disk with a backing file has to be qcow2'),
        (lambda: DiskSpec(pool='images'), "pool goes with kind 'volume'"),
        (lambda: GuestSpec('a', disks=[DiskSpec(target='vdb')] * 2), 'two disks of the same target'),
        (lambda: GuestSpec('../a'), 'Guest name'),
        (lambda: GuestSpec('a', state='shutoff', persistent=False), 'A transient guest cannot be shut off'),
        (lambda: GuestSpec('a', agent='hung'), "agent 'hung' is not one of"),
    ],
)
def test_nonsense_is_refused(build: Any, message: str) -> None:
    with pytest.raises(LabError, match=message):
        build()
