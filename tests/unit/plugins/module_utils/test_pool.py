# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which storage pools are started for the time of a call."""

from __future__ import annotations

import typing as t

import libvirt
import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _pool
from ansible_collections.disksnap.libvirt.plugins.module_utils._chain import whole
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
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


class Crowded:
    """A host where others open and close transient pools at one directory. ``script`` is what befalls us, in order."""

    def __init__(self, *script: str) -> None:
        self.script = list(script)

    def next(self, *events: str) -> str | None:
        return self.script.pop(0) if self.script and self.script[0] in events else None

    def listAllStoragePools(self, _flags: int) -> list[t.Any]:
        return [CrowdedPool(self, 'disksnap-1-x')] if self.next('listed') else []

    def storagePoolCreateXML(self, _xml: str, _flags: int) -> CrowdedPool:
        if self.next('conflict'):
            raise failure(libvirt.VIR_ERR_OPERATION_FAILED)
        return CrowdedPool(self, 'disksnap-2-y')


class CrowdedPool:
    """A pool that may be gone when it is asked."""

    def __init__(self, host: Crowded, name: str) -> None:
        self._host = host
        self._name = name

    def XMLDesc(self, _flags: int) -> str:
        return f'<pool type="dir"><name>{self._name}</name><target><path>/srv</path></target></pool>'

    def refresh(self, _flags: int) -> None:
        if self._host.next('gone'):
            raise failure(libvirt.VIR_ERR_NO_STORAGE_POOL)

    def isActive(self) -> bool:
        raise failure(libvirt.VIR_ERR_NO_STORAGE_POOL)

    def storageVolLookupByName(self, _name: str) -> t.NoReturn:
        raise failure(libvirt.VIR_ERR_NO_STORAGE_VOL)


def failure(code: int) -> libvirt.libvirtError:
    error = libvirt.libvirtError('x')
    error.err = (code, 0, 'x', 2, '', '', '', 0, 0)
    return error


@pytest.mark.parametrize(
    'script',
    [
        ['listed', 'gone'] * 20,
        ['conflict', 'conflict', 'listed', 'gone', 'conflict'],
        ['listed'],
        [],
    ],
)
def test_others_may_open_and_close_pools_at_the_same_directory(script: list[str]) -> None:
    host = Crowded(*script)
    pools = Pools(host, 'qemu:///system')

    assert pools.available('/srv') == 0

    assert host.script == []


def test_it_is_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pool, '_PATIENCE', 0.1)
    pools = Pools(Crowded(*['conflict'] * 1000), 'qemu:///system')

    with pytest.raises(DiskSnapError, match='Failed to open a storage pool at /srv'):
        pools.available('/srv')


class Lasting:
    """A host with one lasting pool, which counts how often it was listed and can be stopped."""

    def __init__(self) -> None:
        self.listed = 0
        self.active = True

    def listAllStoragePools(self, _flags: int) -> list[t.Any]:
        self.listed += 1
        return [self]

    def XMLDesc(self, _flags: int) -> str:
        return '<pool type="dir"><name>images</name><target><path>/srv</path></target></pool>'

    def isActive(self) -> bool:
        return self.active

    def create(self, _flags: int) -> None:
        self.active = True

    def refresh(self, _flags: int) -> None:
        if not self.active:
            raise failure(libvirt.VIR_ERR_OPERATION_INVALID)

    def storageVolLookupByName(self, _name: str) -> t.NoReturn:
        self.refresh(0)
        raise failure(libvirt.VIR_ERR_NO_STORAGE_VOL)


def test_a_pool_is_looked_for_once() -> None:
    host = Lasting()
    pools = Pools(host, 'qemu:///system')

    assert [pools.exists(f'/srv/{name}') for name in 'abc'] == [False] * 3

    assert host.listed == 1


def test_a_pool_that_was_stopped_since_it_was_found_is_started() -> None:
    host = Lasting()
    pools = Pools(host, 'qemu:///system')
    pools.exists('/srv/a')
    host.active = False

    assert pools.delete('/srv/a') is False

    assert host.active
    assert host.listed == 2


def test_a_pool_that_cannot_be_kept_is_told() -> None:
    host = Lasting()
    host.create = lambda _flags: None  # type: ignore[method-assign]
    host.active = False
    pools = Pools(host, 'qemu:///system')

    with pytest.raises(libvirt.libvirtError):
        pools.delete('/srv/a')
