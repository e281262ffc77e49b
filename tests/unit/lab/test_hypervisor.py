# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the hypervisor lab decides without a VM: sources of packages, names, and what it asks libvirt for."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip('libvirt')
pytest.importorskip('lxml')

from lxml import etree

from disksnap_lab import LabError
from disksnap_lab.hypervisor import Hypervisor
from disksnap_lab.hypervisor_image import digest, package_names, proxies, sources
from disksnap_lab.hypervisor_layout import DISKS, domain_xml, pools_xml
from disksnap_lab.hypervisor_ssh import sparse_blocks


def test_takes_debian_from_where_this_machine_does() -> None:
    targets = 'http://mirror.test/debian/ Debian\nhttp://mirror.test/security/ Debian-Security\nhttp://x.test/ Other\n'
    assert sources(targets) == [
        'deb http://mirror.test/debian/ bookworm main',
        'deb http://mirror.test/debian/ bookworm-updates main',
        'deb http://mirror.test/security/ bookworm-security main',
    ]


def test_says_so_without_a_source() -> None:
    with pytest.raises(LabError, match='apt-get update'):
        sources('http://x.test/ Other\n')


def test_hands_proxies_on() -> None:
    config = 'Acquire "";\nAcquire::http::Proxy "http://proxy.test:3128";\nAcquire::https::Proxy "";\n'
    assert proxies(config) == ['Acquire::http::Proxy "http://proxy.test:3128";']


def test_package_names() -> None:
    assert package_names('# all\nlvm2\n\nxfsprogs # why\n') == ['lvm2', 'xfsprogs']


def test_a_name_tells_parts_apart() -> None:
    assert digest('ab', 'c') != digest('a', 'bc')
    assert digest('a', b'b') == digest(b'a', 'b')


def test_the_guest_has_each_disk_where_the_layout_says() -> None:
    domain: Any = etree.fromstring(domain_xml('inner'))
    assert domain.get('type') == 'kvm'
    found = {disk.find('target').get('dev'): disk.find('source') for disk in domain.iterfind('devices/disk')}
    assert {target: source.get('dev') or source.get('file') for target, source in found.items()} == {
        target: source.device or source.file for target, source in DISKS['inner'].items()
    }
    assert domain.find('features/tcg') is None


def test_the_volume_group_is_a_pool() -> None:
    pool = etree.fromstring(pools_xml()['vg0'])
    assert (pool.get('type'), pool.findtext('source/name'), pool.findtext('target/path')) == (
        'logical',
        'vg0',
        '/dev/vg0',
    )


@pytest.mark.parametrize('name', ['', '../x', 'UPPER', 'x' * 25])
def test_refuses_a_name_that_is_no_name(name: str) -> None:
    with pytest.raises(LabError, match='Hypervisor name'):
        Hypervisor.check_name(name)


def test_blocks_of_a_sparse_copy() -> None:
    stream = (0).to_bytes(8, 'little') + (2).to_bytes(4, 'little') + b'ab'
    stream += (8192).to_bytes(8, 'little') + (1).to_bytes(4, 'little') + b'c'
    stream += (16384).to_bytes(8, 'little') + bytes(4)
    assert list(sparse_blocks(stream)) == [(0, b'ab'), (8192, b'c'), (16384, b'')]


def test_a_sparse_copy_that_broke_off_is_an_error() -> None:
    with pytest.raises(LabError, match='broke off'):
        list(sparse_blocks((0).to_bytes(8, 'little') + (2).to_bytes(4, 'little') + b'a'))
