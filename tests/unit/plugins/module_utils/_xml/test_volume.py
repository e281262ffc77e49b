# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import functools
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.volume import (
    PoolInfo,
    VolumeInfo,
    directory_pool,
    overlay_volume,
    read_pool,
    read_volume,
)

# as virsh vol-dumpxml of libvirt 9.0 prints them
OVERLAY = """\
<volume type='file'>
  <name>db1.nightly.qcow2</name>
  <key>/images/db1.nightly.qcow2</key>
  <capacity unit='bytes'>1073741824</capacity>
  <allocation unit='bytes'>200704</allocation>
  <physical unit='bytes'>196624</physical>
  <target>
    <path>/images/db1.nightly.qcow2</path>
    <format type='qcow2'/>
    <permissions>
      <mode>0600</mode>
      <owner>64055</owner>
      <group>64056</group>
      <label>system_u:object_r:svirt_image_t:s0</label>
    </permissions>
    <timestamps>
      <atime>1767225600.123456789</atime>
      <mtime>1767225601.000000020</mtime>
    </timestamps>
    <encryption format='luks'>
      <secret type='passphrase' uuid='f52a81b2-424e-490c-823d-6bd4235bc572'/>
    </encryption>
    <compat>1.1</compat>
    <clusterSize unit='B'>65536</clusterSize>
    <features/>
  </target>
  <backingStore>
    <path>/images/db1.raw</path>
    <format type='raw'/>
  </backingStore>
</volume>
"""

LOGICAL_VOLUME = """\
<volume type='block'>
  <name>lv4</name>
  <key>HbxzOT-sPvD-8xoB-KxvX-mTcV-Ovzy-aCpSJy</key>
  <source>
    <device path='/dev/sdb'>
      <extent start='0' end='4194304'/>
    </device>
  </source>
  <capacity unit='bytes'>4194304</capacity>
  <allocation unit='bytes'>4194304</allocation>
  <target>
    <path>/dev/vg/lv4</path>
    <permissions>
      <owner>-1</owner>
    </permissions>
  </target>
  <backingStore>
    <path>/dev/vg/lv1</path>
  </backingStore>
</volume>
"""

LOGICAL_POOL = """\
<pool type='logical'>
  <name>guests</name>
  <uuid>8c79f996-cb2a-d24d-9822-ac7547ab2d01</uuid>
  <capacity unit='bytes'>10737418240</capacity>
  <allocation unit='bytes'>4194304</allocation>
  <available unit='bytes'>10733223936</available>
  <source>
    <device path='/dev/sdb'/>
    <name>vg</name>
    <format type='lvm2'/>
  </source>
  <target>
    <path>/dev/vg</path>
  </target>
</pool>
"""


@functools.cache
def libvirt_schema(name: str) -> etree.RelaxNG:
    return etree.RelaxNG(file=f'/usr/share/libvirt/schemas/{name}.rng')


def test_overlay_form() -> None:
    text = overlay_volume(
        'o.qcow2', 1024, backing_path='/i/b.raw', backing_format='raw', owner=0, group=107, mode=0o640, label='l'
    )
    assert text == (
        '<volume type="file"><name>o.qcow2</name><capacity unit="bytes">1024</capacity>'
        '<allocation unit="bytes">0</allocation><target><format type="qcow2"/>'
        '<permissions><mode>0640</mode><owner>0</owner><group>107</group><label>l</label></permissions>'
        '<compat>1.1</compat></target>'
        '<backingStore><path>/i/b.raw</path><format type="raw"/></backingStore></volume>'
    )


def test_overlay_without_backing_and_permissions() -> None:
    text = overlay_volume('o', 1, backing_path=None, backing_format=None)
    assert 'backingStore' not in text
    assert 'permissions' not in text
    libvirt_schema('storagevol').assertValid(etree.fromstring(text))


def test_overlay_of_the_size_of_its_backing_file() -> None:
    text = overlay_volume('o', None, backing_path='/b', backing_format='qcow2')
    assert 'capacity' not in text
    libvirt_schema('storagevol').assertValid(etree.fromstring(text))


@pytest.mark.parametrize(
    'wrong',
    [
        {'backing_path': '/b', 'backing_format': None},
        {'backing_path': None, 'backing_format': 'raw'},
    ],
)
def test_backing_file_and_format_come_together(wrong: dict[str, t.Any]) -> None:
    with pytest.raises(ValueError, match='together'):
        overlay_volume('o', 1, **wrong)


def test_a_size_must_come_from_somewhere() -> None:
    with pytest.raises(ValueError, match='capacity'):
        overlay_volume('o', None, backing_path=None, backing_format=None)


file_names = st.text(st.characters(blacklist_categories=['Cs', 'Cc'], blacklist_characters='/\ufffe\uffff'), min_size=1)
ids = st.none() | st.integers(0, 2**32 - 2)


@given(
    file_names.filter(lambda name: name.strip() not in ('', '.', '..')),
    st.integers(0, 2**63 - 1),
    file_names.map(lambda name: '/' + name),
    st.sampled_from(['raw', 'qcow2', 'vmdk']),
    ids,
    ids,
    st.none() | st.integers(0, 0o777),
    st.none() | file_names,
)
def test_overlay_is_valid_for_libvirt_and_read_back(
    name: str,
    capacity: int,
    backing: str,
    backing_format: str,
    owner: int | None,
    group: int | None,
    mode: int | None,
    label: str | None,
) -> None:
    text = overlay_volume(
        name,
        capacity,
        backing_path=backing,
        backing_format=backing_format,
        owner=owner,
        group=group,
        mode=mode,
        label=label,
    )
    libvirt_schema('storagevol').assertValid(etree.fromstring(text))
    assert read_volume(text) == VolumeInfo(
        name=name,
        key=None,
        path=None,
        type='file',
        format='qcow2',
        capacity=capacity,
        allocation=0,
        backing_path=backing,
        backing_format=backing_format,
        owner=owner,
        group=group,
        mode=mode,
        label=label,
        encrypted=False,
    )


@given(file_names, file_names.map(lambda name: '/' + name))
def test_directory_pool_is_valid_for_libvirt_and_read_back(name: str, path: str) -> None:
    text = directory_pool(name, path)
    libvirt_schema('storagepool').assertValid(etree.fromstring(text))
    assert read_pool(text) == PoolInfo(
        name=name, uuid=None, type='dir', path=path, source_name=None, capacity=0, available=0
    )


def test_samples_are_what_libvirt_prints() -> None:
    libvirt_schema('storagevol').assertValid(etree.fromstring(OVERLAY))
    libvirt_schema('storagevol').assertValid(etree.fromstring(LOGICAL_VOLUME))
    libvirt_schema('storagepool').assertValid(etree.fromstring(LOGICAL_POOL))


def test_read_overlay() -> None:
    assert read_volume(OVERLAY) == VolumeInfo(
        name='db1.nightly.qcow2',
        key='/images/db1.nightly.qcow2',
        path='/images/db1.nightly.qcow2',
        type='file',
        format='qcow2',
        capacity=1073741824,
        allocation=200704,
        backing_path='/images/db1.raw',
        backing_format='raw',
        owner=64055,
        group=64056,
        mode=0o600,
        label='system_u:object_r:svirt_image_t:s0',
        encrypted=True,
        physical=196624,
        mtime_ns=1767225601_000000020,
    )


def test_a_time_without_fractions_of_a_second() -> None:
    assert read_volume(OVERLAY.replace('1767225601.000000020', '1767225601')).mtime_ns == 1767225601_000000000


def test_ids_that_libvirt_prints_signed() -> None:
    assert read_volume(OVERLAY.replace('64056', '-2')).group == 2**32 - 2


def test_read_logical_volume() -> None:
    volume = read_volume(LOGICAL_VOLUME)
    assert (volume.type, volume.path, volume.backing_path) == ('block', '/dev/vg/lv4', '/dev/vg/lv1')
    assert volume.format is None
    assert (volume.owner, volume.group, volume.mode, volume.backing_format) == (None, None, None, None)


def test_read_logical_pool() -> None:
    assert read_pool(LOGICAL_POOL) == PoolInfo(
        name='guests',
        uuid='8c79f996-cb2a-d24d-9822-ac7547ab2d01',
        type='logical',
        path='/dev/vg',
        source_name='vg',
        capacity=10737418240,
        available=10733223936,
    )


def test_pool_named_by_its_source() -> None:
    assert read_pool("<pool type='rbd'><source><name>rbd</name></source></pool>").name == 'rbd'


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('<pool/>', 'root is <pool>'),
        ('<volume/>', 'no name'),
        ("<volume><name>a</name><capacity unit='G'>1</capacity></volume>", "capacity is in 'G', not in bytes"),
        ('<volume><name>a</name><capacity>x</capacity></volume>', "'x' is not a number"),
        ('<volume><name>a</name><target><permissions><mode>9</mode></permissions></target></volume>', "'9' is not"),
    ],
)
def test_not_a_volume(text: str, words: str) -> None:
    with pytest.raises(DiskSnapError, match='Failed to read the XML of a volume') as caught:
        read_volume(text)
    assert words in str(caught.value)


@pytest.mark.parametrize('text', ['<volume/>', '<pool/>', "<pool type='dir'/>", '<pool'])
def test_not_a_pool(text: str) -> None:
    with pytest.raises(DiskSnapError, match='Failed to read the XML of a pool'):
        read_pool(text)


@given(st.text(), st.integers(0, len(OVERLAY)), st.integers(0, len(OVERLAY)))
def test_garbage_is_never_another_error(text: str, start: int, end: int) -> None:
    for document in (text, OVERLAY[:start] + text + OVERLAY[end:], LOGICAL_POOL[:start] + text + LOGICAL_POOL[end:]):
        for read in (read_volume, read_pool):
            with contextlib.suppress(DiskSnapError):
                read(document)


def test_what_xml_cannot_hold() -> None:
    with pytest.raises(DiskSnapError, match='Failed to write name'):
        overlay_volume('a\0', 1, backing_path=None, backing_format=None)
    with pytest.raises(DiskSnapError, match='Failed to write path'):
        directory_pool('a', '/\udcff')
