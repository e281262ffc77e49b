# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks and chains as a domain's XML shows them, and how that XML changes when a layer comes."""

from __future__ import annotations

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.change import (
    domain_with_disk,
    overlaid,
    settled,
    with_active_layer,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import (
    Disk,
    Source,
    find_disk,
    left_out_reason,
    read_disk,
    read_domain,
    refusal_reason,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import parse

CHAIN = """
<disk type='file' device='disk'>
  <driver name='qemu' type='qcow2' cache='none'/>
  <source file='/images/web.2.qcow2' index='5'/>
  <backingStore type='file' index='3'>
    <format type='qcow2'/>
    <source file='/images/web.1.qcow2'/>
    <backingStore type='block' index='1'>
      <format type='raw'/>
      <source dev='/dev/vg/web'/>
      <backingStore/>
    </backingStore>
  </backingStore>
  <target dev='vda' bus='virtio'/>
  <alias name='virtio-disk0'/>
</disk>
"""
PLAIN = "<disk type='file' device='disk'><source file='/images/web.raw'/><target dev='vdb' bus='virtio'/></disk>"
VOLUME = (
    "<disk type='volume' device='disk'><driver name='qemu' type='raw'/><source pool='p' volume='v'/>"
    "<target dev='vdc' bus='virtio'/></disk>"
)
NBD = (
    "<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='nbd' name='x'>"
    "<host name='a' port='10809'/></source><target dev='vdd' bus='virtio'/></disk>"
)
DOMAIN = f"""<domain type='qemu'><name>web</name><uuid>u</uuid><devices>{CHAIN}{PLAIN}{VOLUME}{NBD}
<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel></devices></domain>"""


def disk_of(xml: str) -> Disk:
    """Read one disk."""
    return read_disk(parse(xml, 'disk XML'))


def test_reads_a_whole_chain() -> None:
    disk = disk_of(CHAIN)

    assert [layer.path for layer in disk.chain] == ['/images/web.2.qcow2', '/images/web.1.qcow2', '/dev/vg/web']
    assert [layer.index for layer in disk.chain] == [5, 3, 1]
    assert [layer.format for layer in disk.chain] == ['qcow2', 'qcow2', 'raw']
    assert disk.complete
    assert (disk.target, disk.alias) == ('vda', 'virtio-disk0')
    assert [disk.layer(name) for name in ('/dev/vg/web', 'vda[3]', 'vda[9]', '/else')] == [2, 1, None, None]


def test_without_backing_store_the_chain_may_go_on() -> None:
    disk = disk_of(PLAIN)

    assert not disk.complete
    assert disk.source is not None
    assert (disk.source.path, disk.source.format) == ('/images/web.raw', None)


def test_reads_volume_and_network_sources() -> None:
    volume, nbd = disk_of(VOLUME).source, disk_of(NBD).source

    assert volume is not None
    assert (volume.path, volume.pool, volume.volume, volume.key) == (None, 'p', 'v', 'p/v')
    assert nbd is not None
    assert (nbd.path, nbd.protocol, nbd.name, nbd.hosts, nbd.key) == (None, 'nbd', 'x', ('a:10809',), 'nbd://a:10809/x')


def test_an_ipv6_address_is_told_from_its_port() -> None:
    source = disk_of(NBD.replace("name='a'", "name='::1'")).source

    assert source is not None
    assert source.hosts == ('[::1]:10809',)


@pytest.mark.parametrize('index', ['', 'x', '-1', '\xb2', '\u0663', '9' * 5000])
def test_an_index_that_is_no_number_is_none(index: str) -> None:
    disk = disk_of(CHAIN.replace("index='5'", f"index='{index}'"))

    assert [layer.index for layer in disk.chain] == [None, 3, 1]


@pytest.mark.parametrize(
    ('channel', 'there', 'connected'),
    [
        ('org.qemu.guest_agent.0" state="connected', True, True),
        ('org.qemu.guest_agent.0" state="disconnected', True, False),
        ('org.qemu.guest_agent.0', True, False),
        ('com.redhat.spice.0" state="connected', False, False),
    ],
)
def test_an_agent_is_connected_where_its_channel_is(channel: str, there: bool, connected: bool) -> None:
    target = f'<target type="virtio" name="{channel}"/>'
    domain = read_domain(f'<domain><devices><channel type="unix">{target}</channel></devices></domain>')

    assert (domain.agent_channel, domain.agent_connected) == (there, connected)


def test_reads_a_domain() -> None:
    domain = read_domain(DOMAIN)

    assert (domain.name, domain.uuid, domain.agent_channel) == ('web', 'u', True)
    assert [disk.target for disk in domain.disks] == ['vda', 'vdb', 'vdc', 'vdd', 'sda']
    assert domain.disk('sda') == domain.disks[4]
    assert domain.disk('vdz') is None


@pytest.mark.parametrize('text', ['', '<domain', '<pool/>', '<!DOCTYPE domain><domain/>'])
def test_refuses_what_is_no_domain(text: str) -> None:
    with pytest.raises(DiskSnapError, match='domain XML'):
        read_domain(text)


@pytest.mark.parametrize('wanted', ['vda', '/images/web.2.qcow2', 'virtio-disk0'])
def test_finds_a_disk_by_target_path_and_alias(wanted: str) -> None:
    assert find_disk(read_domain(DOMAIN).disks, wanted, 'web').target == 'vda'


def test_a_disk_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(DiskSnapError) as caught:
        find_disk(read_domain(DOMAIN).disks, 'vdz', 'web')

    assert 'domain web, disk vdz' in str(caught.value)
    assert 'vda, vdb, vdc, vdd, sda' in str(caught.value)


def test_a_path_of_two_disks_names_neither() -> None:
    twin = disk_of(PLAIN.replace('vdb', 'vde'))

    with pytest.raises(DiskSnapError, match=r'more than one \(vdb, vde\)'):
        find_disk([disk_of(PLAIN), twin], '/images/web.raw', 'web')


@pytest.mark.parametrize(
    ('xml', 'reason'),
    [
        ("<disk type='file' device='cdrom'><source file='/a'/><target dev='sda'/></disk>", 'it is a CD-ROM'),
        ("<disk type='file' device='floppy'><target dev='fda'/></disk>", 'it is a floppy'),
        ("<disk type='file' device='disk'><target dev='sda'/></disk>", 'the drive is empty'),
        ("<disk type='file'><source file='/a'/><target dev='vda'/><readonly/></disk>", 'it is read-only'),
        (PLAIN, None),
    ],
)
def test_what_is_left_out(xml: str, reason: str | None) -> None:
    assert left_out_reason(disk_of(xml)) == reason


@pytest.mark.parametrize(
    ('xml', 'word'),
    [
        ("<disk type='block' device='lun'><source dev='/dev/sda'/><target dev='sda'/></disk>", 'LUN'),
        ("<disk type='vhostuser'><source type='unix' path='/s'/><target dev='vda'/></disk>", 'vhostuser'),
        ("<disk type='vhostvdpa'><source dev='/dev/vdpa0'/><target dev='vda'/></disk>", 'vhostvdpa'),
        ("<disk type='nvme'><source type='pci'/><target dev='vda'/></disk>", 'nvme'),
        ("<disk type='file'><source file='/a'/><target dev='vda'/><shareable/></disk>", 'shareable'),
        ("<disk type='file'><source file='/a'/><target dev='vda'/><transient/></disk>", 'transient'),
    ],
)
def test_what_no_method_takes(xml: str, word: str) -> None:
    assert word in (refusal_reason(disk_of(xml)) or '')


def test_a_plain_disk_is_not_refused() -> None:
    assert refusal_reason(disk_of(PLAIN)) is None


# -- changes ----------------------------------------------------------------------------------------------------


def test_settled_is_the_same_at_any_moment() -> None:
    later = CHAIN.replace("index='5'", "index='9'").replace(
        '<target', "<mirror type='file' job='active-commit' ready='yes'><source file='/b'/></mirror><target"
    )

    assert settled(later) == settled(CHAIN)
    assert 'index' not in settled(CHAIN)
    assert settled(settled(CHAIN)) == settled(CHAIN)


def test_overlaid_live_has_the_old_chain_below() -> None:
    disk = disk_of(overlaid(disk_of(CHAIN), '/images/new.qcow2', live=True))

    assert [layer.path for layer in disk.chain] == [
        '/images/new.qcow2',
        '/images/web.2.qcow2',
        '/images/web.1.qcow2',
        '/dev/vg/web',
    ]
    assert [layer.format for layer in disk.chain] == ['qcow2', 'qcow2', 'qcow2', 'raw']
    assert disk.complete


def test_overlaid_off_shows_only_the_new_layer() -> None:
    disk = disk_of(overlaid(disk_of(VOLUME), '/images/new.qcow2', live=False))

    assert [(layer.type, layer.path, layer.format) for layer in disk.chain] == [('file', '/images/new.qcow2', 'qcow2')]
    assert not disk.complete


def test_overlaid_gives_a_disk_without_driver_one() -> None:
    xml = overlaid(disk_of(PLAIN), '/images/new.qcow2', live=True)

    disk = disk_of(xml)
    assert [layer.format for layer in disk.chain] == ['qcow2', 'raw']
    assert xml.index('<driver') < xml.index('<source')


def test_the_active_layer_can_be_set_back() -> None:
    above = disk_of(overlaid(disk_of(VOLUME), '/images/new.qcow2', live=False))
    below = disk_of(VOLUME).source
    assert below is not None

    back = disk_of(with_active_layer(above, below))

    assert back.source == below


def test_a_layer_known_by_path_only_gets_a_source() -> None:
    for kind, attribute in (('file', 'file'), ('block', 'dev')):
        xml = with_active_layer(disk_of(CHAIN), Source(type=kind, format='raw', path='/a'))
        assert f'<source {attribute}="/a"/>' in xml


def test_replaces_one_disk_of_a_domain() -> None:
    new = PLAIN.replace('/images/web.raw', '/images/other.raw')

    domain = read_domain(domain_with_disk(DOMAIN, 'vdb', new))

    assert [disk.source.key if disk.source else None for disk in domain.disks] == [
        '/images/web.2.qcow2',
        '/images/other.raw',
        'p/v',
        'nbd://a:10809/x',
        None,
    ]
