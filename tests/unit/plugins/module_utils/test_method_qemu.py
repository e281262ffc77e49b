# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the method qemu refuses to plan."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from lxml import etree

from ansible_collections.disksnap.libvirt.plugins.module_utils import _overlay
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.base import DiskPlan, Subject
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.qemu import QemuMethod
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    BackupSource,
    DiskRecord,
    Volume,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import read_domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import Method

pytest.importorskip('libvirt')

DOMAIN = (
    '<domain><name>web</name><devices><disk type="file" device="disk"><driver name="qemu" type="qcow2"/>'
    '<source file="/i/web"/><target dev="vda"/></disk></devices></domain>'
)


def test_a_saved_domain_is_refused() -> None:
    """Its saved state names the image of now, which must stand still under an overlay."""
    domain = SimpleNamespace(name='web', handle=SimpleNamespace(hasManagedSaveImage=lambda _flags: 1))
    subject = Subject(domain, False, 'nightly')  # type: ignore[arg-type]
    [disk] = read_domain(DOMAIN).disks
    with pytest.raises(DiskSnapError, match='managedsave-remove'):
        QemuMethod().plan(subject, disk, Method('qemu'), 'so')


def test_disks_of_other_methods_are_left_out_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """libvirt takes every disk that it is not told to leave, by a file name of its own."""
    monkeypatch.setattr(_overlay, 'create', lambda *_: None)
    two = DOMAIN.replace(
        '</devices>',
        '<disk type="file" device="disk"><source file="/i/other"/><target dev="vdb"/></disk>'
        '<disk type="file" device="cdrom"><target dev="sda"/></disk></devices>',
    )
    known = read_domain(two)
    domain = SimpleNamespace(name='web', read=lambda: known)
    subject = Subject(domain, True, 'nightly')  # type: ignore[arg-type]
    source = BackupSource(xml='<source/>', type='file', path='/i/web', format='qcow2')
    record = DiskRecord('vda', 'qemu', '', '', None, source, [Volume('/i/overlay', 'overlay', 'qcow2')])
    plan = DiskPlan(known.disks[0], Method('qemu'), record)

    QemuMethod().prepare(subject, [plan])

    listed = etree.fromstring(plan.notes['snapshot_xml']).findall('disks/disk')
    assert {disk.get('name'): disk.get('snapshot') for disk in listed} == {'vda': 'external', 'vdb': 'no', 'sda': 'no'}
