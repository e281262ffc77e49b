# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the hypervisor lab decides without a VM: what it asks libvirt for, and how it copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('libvirt')
pytest.importorskip('lxml')

from lxml import etree

from disksnap_lab import LabError
from disksnap_lab.hypervisor import Hypervisor
from disksnap_lab.hypervisor_faults import fault
from disksnap_lab.hypervisor_image import HypervisorImage
from disksnap_lab.hypervisor_layout import DISKS, domain_xml, pools_xml
from disksnap_lab.hypervisor_ssh import sparse_blocks
from disksnap_lab.hypervisor_vm import Machine


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


@pytest.mark.parametrize(
    ('words', 'found'),
    [
        ('stack guard page was hit at 1\nRIP: __svm_vcpu_run+0x1\nKernel panic - not syncing', True),
        ('RIP: dm_table_destroy+0x1\nKernel panic - not syncing', False),
        ('', False),
    ],
)
def test_only_a_panic_of_kvm_is_blamed_on_the_emulation(tmp_path: Path, words: str, found: bool) -> None:
    machine = Machine(tmp_path, HypervisorImage(tmp_path))
    machine.console.write_text(words, encoding='utf-8')
    assert (fault(machine) == 'its kernel panicked in KVM') is found
