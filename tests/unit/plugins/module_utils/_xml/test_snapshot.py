# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.snapshot import ExternalDisk, external


@functools.cache
def libvirt_schema() -> etree.RelaxNG:
    return etree.RelaxNG(file='/usr/share/libvirt/schemas/domainsnapshot.rng')


def test_form() -> None:
    disks = [ExternalDisk('vda', '/images/a & b.qcow2'), ExternalDisk('vdb', '/dev/vg/lv4', type='block')]
    assert external('nightly', 'a < b', disks, ['sda', 'fda']) == (
        '<domainsnapshot><name>nightly</name><description>a &lt; b</description><disks>'
        '<disk name="vda" snapshot="external" type="file">'
        '<driver type="qcow2"/><source file="/images/a &amp; b.qcow2"/></disk>'
        '<disk name="vdb" snapshot="external" type="block"><driver type="qcow2"/><source dev="/dev/vg/lv4"/></disk>'
        '<disk name="sda" snapshot="no"/><disk name="fda" snapshot="no"/></disks></domainsnapshot>'
    )


def test_no_description() -> None:
    assert 'description' not in external('n', None, [ExternalDisk('vda', '/a')], [])


targets = st.from_regex(r'(vd|sd|hd)[a-z]{1,2}', fullmatch=True)
plain = st.text(st.characters(blacklist_categories=['Cs', 'Cc']), min_size=1, max_size=40)
disks_of = st.builds(
    ExternalDisk, targets, plain.map(lambda name: '/' + name), st.sampled_from(['file', 'block']), st.just('qcow2')
)


@given(plain, st.none() | plain, st.lists(disks_of, min_size=1, max_size=4), st.lists(targets, max_size=4))
def test_valid_for_libvirt(name: str, description: str | None, disks: list[ExternalDisk], omit: list[str]) -> None:
    try:
        root = etree.fromstring(external(name, description, disks, omit))
    except DiskSnapError:
        return
    libvirt_schema().assertValid(root)
    assert [disk.get('name') for disk in root.iter('disk')] == [disk.target for disk in disks] + omit
    assert root.findtext('name') == name
    assert root.findtext('description') == description


@pytest.mark.parametrize('bad', ['\x00', '\x1b', '\udc80'])
def test_what_xml_cannot_hold(bad: str) -> None:
    with pytest.raises(DiskSnapError, match='Failed to write description'):
        external('n', bad, [], [])
    with pytest.raises(DiskSnapError, match='Failed to write source/@file'):
        external('n', None, [ExternalDisk('vda', '/' + bad)], [])
