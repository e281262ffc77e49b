# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks in the shapes that libvirt's own tests have, whole and bent: taken, left out or refused, never a traceback."""

from __future__ import annotations

import contextlib
import copy
import re
import typing as t
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from ansible_collections.disksnap.libvirt.plugins.module_utils import _lvm, _merge_plan
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_xml import Merge, merged_disk
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.registry import METHODS, choose, method_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._selection import select
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import Request
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.change import (
    domain_with_disk,
    overlaid,
    settled,
    with_active_layer,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import (
    Disk,
    left_out_reason,
    read_disk,
    read_domain,
    refusal_reason,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import AUTO, Method
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import parse

TARGET = '<target dev="vda" bus="virtio"/>'
RAW = f'<driver name="qemu" type="raw"/>{TARGET}'
QCOW2 = f'<driver name="qemu" type="qcow2" cache="none" discard="unmap"/>{TARGET}'
SECRET = '<secret type="passphrase" uuid="0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f"/>'
ENCRYPTION = f'<encryption format="luks" engine="librbd">{SECRET}</encryption>'
CHAIN = (
    '<backingStore type="file" index="1"><format type="qcow2"/><source file="/i/b"/>'
    '<backingStore type="block"><format type="raw"/><source dev="/dev/vg/c"/><backingStore/></backingStore>'
    '</backingStore>'
)


def disk(kind: str, inside: str, **attributes: str) -> str:
    """A ``<disk>`` of a type."""
    words = ''.join(f' {name}="{value}"' for name, value in {'device': 'disk', **attributes}.items())
    return f'<disk type="{kind}"{words}>{inside}</disk>'


def network(protocol: str, inside: str = '<host name="h" port="1"/>', **attributes: str) -> str:
    """A disk whose image a server has."""
    words = ''.join(f' {name}="{value}"' for name, value in attributes.items())
    return disk('network', f'<source protocol="{protocol}"{words}>{inside}</source>{RAW}')


# name of a shape -> its XML, and what becomes of it where nobody names it: taken, left out, or a warning
SHAPES: dict[str, tuple[str, str]] = {
    'file': (
        disk('file', f'<source file="/i/a" startupPolicy="optional"><seclabel model="dac"/></source>{QCOW2}'),
        'taken',
    ),
    'chain': (disk('file', f'<source file="/i/a" index="2"/>{CHAIN}{QCOW2}'), 'taken'),
    'file descriptors': (disk('file', f'<source file="/i/a" fdgroup="g"/>{QCOW2}'), 'taken'),
    'slices': (
        disk('file', f'<source file="/i/a"><slices><slice type="storage" offset="1" size="2"/></slices></source>{RAW}'),
        'taken',
    ),
    'encryption': (disk('file', f'<source file="/i/a">{ENCRYPTION}</source>{QCOW2}'), 'taken'),
    'old encryption': (disk('file', f'<source file="/i/a"/>{QCOW2}{ENCRYPTION}'), 'taken'),
    'reservations': (
        disk(
            'block', f'<source dev="/dev/a"><reservations managed="yes"/></source>{RAW}', device='disk', sgio='filtered'
        ),
        'taken',
    ),
    'block': (disk('block', f'<source dev="/dev/a"/>{RAW}', rawio='yes'), 'taken'),
    'lun': (disk('block', f'<source dev="/dev/a"/>{RAW}', device='lun'), 'warned of'),
    'directory': (disk('dir', f'<source dir="/srv"/>{RAW}'), 'warned of'),
    'floppy of a directory': (disk('dir', f'<source dir="/srv"/>{RAW}', device='floppy'), 'left out'),
    'volume': (disk('volume', f'<source pool="p" volume="v" mode="host"/>{RAW}'), 'taken'),
    'volume of iSCSI': (disk('volume', f'<source pool="p" volume="unit:0:0:1" mode="direct"/>{RAW}'), 'taken'),
    'nvme': (
        disk(
            'nvme',
            '<source type="pci" managed="yes" namespace="1"><address domain="0x0" bus="0x1" slot="0x0" function="0x0"/>'
            f'</source>{RAW}',
        ),
        'warned of',
    ),
    'vhost-user': (
        disk('vhostuser', f'<source type="unix" path="/s"><reconnect enabled="yes"/></source>{TARGET}'),
        'warned of',
    ),
    'vhost-vdpa': (disk('vhostvdpa', f'<source dev="/dev/vhost-vdpa-0"/>{RAW}'), 'warned of'),
    'rbd': (
        network(
            'rbd', f'<host name="h"/><snapshot name="s"/><auth username="u">{SECRET}</auth>{ENCRYPTION}', name='p/i'
        ),
        'taken',
    ),
    'iscsi': (network('iscsi', '<host name="h"/><initiator><iqn name="iqn.x"/></initiator>', name='iqn.y/1'), 'taken'),
    'nbd': (
        network('nbd', '<host transport="unix" socket="/s"/><reconnect delay="10"/>', name='x', tls='yes'),
        'taken',
    ),
    'http': (
        network(
            'https', '<host name="h"/><ssl verify="no"/><cookies><cookie name="c">d</cookie></cookies>', name='x?y'
        ),
        'taken',
    ),
    'gluster': (network('gluster', '<host name="h"/><host name="i" transport="rdma"/>', name='v/i'), 'taken'),
    'ssh': (
        network('ssh', '<host name="h"/><knownHosts path="/k"/><identity username="u" keyfile="/f"/>', name='x'),
        'taken',
    ),
    'sheepdog without a server': (network('sheepdog', '', name='x'), 'taken'),
    'network without a name': (network('nbd'), 'taken'),
    'mirror': (
        disk(
            'file',
            f'<source file="/i/a"/>{CHAIN}<mirror type="file" job="active-commit" ready="yes"><format type="raw"/>'
            f'<source file="/i/b"/></mirror>{QCOW2}',
        ),
        'taken',
    ),
    'old mirror': (
        disk('file', f'<source file="/i/a"/><mirror file="/i/m" format="raw" ready="yes"/>{QCOW2}'),
        'taken',
    ),
    'empty CD-ROM': (disk('file', f'{TARGET}<readonly/>', device='cdrom'), 'left out'),
    'CD-ROM of the network': (network('http', name='x.iso').replace('"disk"', '"cdrom"'), 'left out'),
    'empty floppy': (disk('block', '<target dev="fda" bus="fdc" tray="open"/>', device='floppy'), 'left out'),
    'transient': (disk('file', f'<source file="/i/a"/>{QCOW2}<transient shareBacking="yes"/>'), 'warned of'),
    'shareable': (disk('file', f'<source file="/i/a"/>{RAW}<shareable/>'), 'warned of'),
    'read-only': (disk('file', f'<source file="/i/a"/>{RAW}<readonly/>'), 'left out'),
    'no snapshot': (disk('file', f'<source file="/i/a"/>{QCOW2}', snapshot='no'), 'left out'),
    'memory snapshot': (disk('file', f'<source file="/i/a"/>{QCOW2}', snapshot='manual'), 'taken'),
    'tuned': (
        disk(
            'file',
            f'<source file="/i/a"/>{QCOW2}<iotune><total_bytes_sec>{9 * 10**30}</total_bytes_sec></iotune>'
            '<geometry cyls="16383" heads="16" secs="63" trans="lba"/><blockio logical_block_size="512"/>'
            '<serial> \u00e9&lt;&amp; </serial><wwn>5000c50015ea71ad</wwn><vendor>V</vendor><boot order="1"/>'
            '<address type="drive" controller="0" bus="0" target="0" unit="0"/><throttlefilters/>',
        ),
        'taken',
    ),
    'no type': (f'<disk><source file="/i/a"/>{RAW}</disk>', 'taken'),
    'no driver': (disk('file', f'<source file="/i/a"/>{TARGET}'), 'taken'),
    'no source': (disk('file', RAW), 'left out'),
    'no target': (disk('file', '<source file="/i/a"/>'), 'taken'),
    'nothing': ('<disk/>', 'left out'),
    'unheard of': (disk('quantum', f'<source qubit="1"/>{RAW}'), 'taken'),
    'comments and instructions': (
        disk('file', f'<!-- <source file="/x"/> --><?pi source?><source file="/i/a"><!-- x --></source>{QCOW2}'),
        'taken',
    ),
    'namespaces': (
        '<disk xmlns:q="urn:q" type="file" q:type="block"><q:source dev="/x"/>'
        f'<source q:file="/y" file="/i/a"/>{QCOW2}</disk>',
        'taken',
    ),
    'a chain that ends in nothing': (
        disk('file', f'<source file="/i/a"/><backingStore type="file"><format type="raw"/></backingStore>{QCOW2}'),
        'taken',
    ),
    'a chain that is its own': (
        disk(
            'file',
            '<source file="/i/a"/><backingStore type="file"><format type="qcow2"/><source file="/i/a"/>'
            f'</backingStore>{QCOW2}',
        ),
        'taken',
    ),
}


def domain_of(*disks: str) -> t.Any:
    """A domain of these disks, that runs on another machine, which has no pools."""
    xml = f'<domain type="qemu"><name>web</name><uuid>u</uuid><devices>{"".join(disks)}</devices></domain>'

    def no_pool(name: str) -> t.NoReturn:
        raise DiskSnapError(f'Failed to look up the storage pool {name}')

    pools = SimpleNamespace(
        by_name=no_pool, volume_path=lambda pool, _volume: no_pool(pool), canonical=lambda path: path
    )
    host = SimpleNamespace(local=False, pools=pools, connection=SimpleNamespace())
    return SimpleNamespace(name='web', xml=xml, read=lambda: read_domain(xml), live=True, host=host)


@contextlib.contextmanager
def without_lvm() -> t.Iterator[None]:
    """A host without LVM, whatever this machine has."""

    def fail() -> t.NoReturn:
        raise DiskSnapError('Failed to list the logical volumes', why='lvs is not installed')

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_lvm, 'volumes', fail)
        yield


@pytest.mark.parametrize('shape', SHAPES)
def test_what_becomes_of_a_shape(shape: str) -> None:
    xml, expected = SHAPES[shape]
    plain = disk('file', '<source file="/i/plain"/><driver type="raw"/><target dev="vdp"/>')

    selection = select(domain_of(plain, xml), Request('web', None), AUTO)

    named = [one.target for one, _method in selection.disks]
    found = 'taken' if len(named) == 2 else 'warned of' if selection.warnings else 'left out'
    assert (named[0], found) == ('vdp', expected)


# -- bent -------------------------------------------------------------------------------------------------------

ODD = st.sampled_from(
    [
        *('', ' ', '0', '-1', '\xb2', '\u0663', '9' * 5000, '/', '/i/b', '../x', '-f', 'file', 'block', 'network'),
        *('volume', 'qcow2', 'raw', 'cdrom', 'vda', 'nbd', 'yes', '<a/>', 'json:{}', '::1'),
    ]
)
BLOWS = st.lists(
    st.tuples(
        st.sampled_from(['drop', 'twice', 'first', 'rename', 'foreign', 'within', 'set', 'unset', 'text']),
        st.integers(0, 10**6),
        st.integers(0, 10**6),
        ODD,
    ),
    max_size=4,
)


def bend(root: t.Any, how: str, where: int, which: int, odd: str) -> None:
    """Change one element, or an attribute of it."""
    elements = [one for one in root.iter() if isinstance(one.tag, str)]
    element, other = elements[where % len(elements)], elements[which % len(elements)]
    names = sorted(element.attrib)
    name = names[which % len(names)] if names else 'name'
    parent = element.getparent()
    if how == 'set':
        element.set(name, odd)
    elif how == 'unset':
        element.attrib.pop(name, None)
    elif how == 'text':
        element.text = odd
    elif how == 'rename' and parent is not None:
        element.tag = other.tag
    elif how == 'within':
        element.append(copy.deepcopy(other))
    elif parent is not None and how == 'drop':
        parent.remove(element)
    elif parent is not None and how == 'twice':
        parent.append(copy.deepcopy(element))
    elif parent is not None and how == 'first':
        parent.insert(0, element)
    elif parent is not None and how == 'foreign':
        element.tag = f'{{urn:foreign}}{etree.QName(element).localname}'


def changes(one: Disk) -> None:
    """All that is made of a disk's XML can be read again."""
    assert read_disk(parse(settled(one.xml), 'disk XML')).target == one.target
    _merge_plan._mirror_key(one)
    if one.source is None:
        return
    for live in (False, True):
        above = read_disk(parse(overlaid(one, '/i/new', live=live), 'disk XML'))
        assert (above.active.path, above.target) == ('/i/new', one.target)
        assert read_disk(parse(with_active_layer(above, one.active), 'disk XML')).active.key == one.active.key
    for direction in ('commit', 'pull'):
        for layer in one.chain:
            merged_disk(one.xml, Merge(one.target, direction, frozenset([layer.key]), one.chain[-1]))


def plans(domain: t.Any, one: Disk) -> None:
    """Whether a method takes a disk is a clause, or an error that names the disk."""
    assert isinstance(left_out_reason(one) or refusal_reason(one) or '', str)
    for name in METHODS:
        with contextlib.suppress(DiskSnapError):
            assert isinstance(method_of(name).refusal(one, domain) or '', str)
        with contextlib.suppress(DiskSnapError):
            choose(Method(name), one, domain)


@settings(max_examples=250)
@given(st.sampled_from(sorted(SHAPES)), BLOWS)
def test_whatever_a_disk_looks_like_it_is_taken_or_refused(shape: str, blows: list[tuple[str, int, int, str]]) -> None:
    root = etree.fromstring(SHAPES[shape][0])
    for blow in blows:
        bend(root, *blow)
    domain = domain_of(etree.tostring(root, encoding='unicode'))
    error = ''
    with without_lvm():
        try:
            select(domain, Request('web', None), AUTO)
        except DiskSnapError as refusal:
            error = str(refusal)
        for one in domain.read().disks:
            changes(one)
            plans(domain, one)
            read_domain(domain_with_disk(domain.xml, one.target, one.xml))

    assert re.match(r'$|Failed to select disks \(domain web\): none of its disks', error)
