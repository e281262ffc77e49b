# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which storage pools are started for the time of a call."""

from __future__ import annotations

import typing as t

import libvirt
import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils._chain import whole
from ansible_collections.disksnap.libvirt.plugins.module_utils._pool import Pools
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import read_domain


class FakePool:
    """A pool that is not active."""

    def __init__(self, kind: str, path: str) -> None:
        target = f'<target><path>{path}</path></target>'
        self._xml = f'<pool type="{kind}"><name>p</name><source><name>vg</name></source>{target}</pool>'
        self.log: list[str] = []

    def XMLDesc(self, _flags: int) -> str:
        return self._xml

    def isActive(self) -> bool:
        return 'create' in self.log and 'destroy' not in self.log

    def create(self, _flags: int) -> None:
        self.log.append('create')

    def destroy(self) -> None:
        self.log.append('destroy')


class FakeConnection:
    """A host with one pool."""

    def __init__(self, pool: FakePool) -> None:
        self._pool = pool

    def storagePoolLookupByName(self, _name: str) -> FakePool:
        return self._pool

    def listAllStoragePools(self, _flags: int) -> list[t.Any]:
        return []

    def storageVolLookupByPath(self, _path: str) -> t.NoReturn:
        raise libvirt.libvirtError('no pool has it')


@pytest.mark.parametrize(
    ('kind', 'log'), [('dir', ['create', 'destroy']), ('netfs', ['create', 'destroy']), ('logical', []), ('rbd', [])]
)
def test_only_pools_of_files_are_started_and_stopped(kind: str, log: list[str]) -> None:
    """libvirt deactivates the volumes of a group whose pool is stopped."""
    pool = FakePool(kind, '/somewhere')

    with Pools(FakeConnection(pool), 'qemu:///system') as pools:
        pools.by_name('p')

    assert pool.log == log


def test_a_volume_of_a_logical_pool_that_is_not_active_has_its_path() -> None:
    pools = Pools(FakeConnection(FakePool('logical', '/dev/vg')), 'qemu:///system')

    assert pools.volume_path('p', 'lv1') == '/dev/vg/lv1'


def test_a_raw_device_in_no_pool_ends_a_chain() -> None:
    """As a thin volume, which libvirt shows in no pool."""
    [disk] = read_domain(
        '<domain><name>web</name><devices><disk type="block" device="disk"><driver name="qemu" type="raw"/>'
        '<source dev="/dev/vg/thin"/><target dev="vda"/></disk></devices></domain>'
    ).disks
    pools = Pools(FakeConnection(FakePool('logical', '/dev/vg')), 'qemu:///system')

    assert [layer.key for layer in whole(disk, pools, 'web').chain] == ['/dev/vg/thin']
