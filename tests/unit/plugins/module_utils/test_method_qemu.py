# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the method qemu refuses to plan."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.base import Subject
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.qemu import QemuMethod
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
    subject = Subject(domain, False, 'nightly', None, (), frozenset())  # type: ignore[arg-type]
    [disk] = read_domain(DOMAIN).disks
    with pytest.raises(DiskSnapError, match='managedsave-remove'):
        QemuMethod().plan(subject, disk, Method('qemu'), 'so')
