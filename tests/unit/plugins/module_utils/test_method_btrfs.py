# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The method btrfs: where a snapshot goes, who shares it, and what is deleted; btrfs itself is played."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _copies, _mounts, _subvolume
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.base import DiskPlan, Subject
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.btrfs import BtrfsMethod
from ansible_collections.disksnap.libvirt.plugins.module_utils._mounts import Mount
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    BackupSource,
    DiskRecord,
    Volume,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._subvolume import Subvolume
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk, read_domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import Method

OURS, THEIRS, NONE = b'o' * 16, b't' * 16, bytes(16)
DOMAIN: Any = SimpleNamespace(name='web', uuid='u', host=SimpleNamespace(local=True, pools=None))
SUBJECT = Subject(DOMAIN, True, 's1')


def disk(target: str = 'vda') -> Disk:
    xml = f'<disk type="file"><driver type="raw"/><source file="/i/{target}"/><target dev="{target}"/></disk>'
    return read_domain(f'<domain><devices>{xml}</devices></domain>').disks[0]


def plan(path: Path | str, root: Path | str, target: str = 'vda') -> DiskPlan:
    of, copy = disk(target), f'{path}/{target}'
    record = DiskRecord(
        target, 'btrfs', '', of.xml, None, BackupSource('', 'file', copy, 'raw'), [Volume(str(path), 'n', 'subvolume')]
    )
    return DiskPlan(of, Method('btrfs'), record, notes={'root': str(root), 'capacity': 0})


# -- where it goes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('mounted', 'file', 'expected'),
    [
        ('', None, 'images.web.s1'),
        ('', 'mine', 'mine'),
        ('images', None, 'images/.disksnap/web.s1'),
        ('images', 'mine', 'images/.disksnap/mine'),
        ('images', '/elsewhere/mine', '/elsewhere/mine'),
    ],
)
def test_the_place(
    mounted: str, file: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / 'images'
    root.mkdir()
    mount = Mount(os.path.normpath(tmp_path / mounted), 'btrfs', '/dev/sdb', False)
    monkeypatch.setattr(_mounts, 'mount_of', lambda _path: mount)
    monkeypatch.setattr(_copies, 'refuse_elsewhere', lambda *_all: None)
    path = BtrfsMethod()._place(SUBJECT, disk(), Method('btrfs', file=file), str(root))
    assert path == str(tmp_path / expected)


# -- sharing ------------------------------------------------------------------------------------------------------


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the snapshots that are taken, in order."""
    names: list[str] = []
    monkeypatch.setattr(_subvolume, 'flush', lambda _handle: None)
    monkeypatch.setattr(_subvolume, 'snapshot', lambda _source, _directory, name: names.append(name))
    return names


def test_two_disks_of_one_subvolume_share_one_snapshot(tmp_path: Path, taken: list[str]) -> None:
    plans = [
        plan(tmp_path / 'one', tmp_path),
        plan(tmp_path / 'one', tmp_path, 'vdb'),
        plan(tmp_path / 'two', tmp_path),
    ]
    BtrfsMethod().prepare(SUBJECT, plans)
    assert taken == []
    BtrfsMethod().commit(SUBJECT, plans)
    assert taken == ['one', 'two']


@pytest.mark.parametrize('moment', ['prepare', 'commit'])
def test_a_name_that_is_taken_meanwhile_is_not_ours_to_delete(
    moment: str, tmp_path: Path, taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = [plan(tmp_path / 'one', tmp_path), plan(tmp_path / 'two', tmp_path, 'vdb')]

    def refuse(_source: int, _directory: int, _name: str) -> None:
        raise FileExistsError(17, 'File exists')

    if moment == 'prepare':
        (tmp_path / 'one').mkdir()
    monkeypatch.setattr(_subvolume, 'snapshot', refuse)
    method = BtrfsMethod()
    if moment == 'commit':
        method.prepare(SUBJECT, plans)
    with pytest.raises(DiskSnapError, match='exists'):
        getattr(method, moment)(SUBJECT, plans)
    assert [len(one.record.volumes) for one in plans] == [0, 1]


# -- deleting -----------------------------------------------------------------------------------------------------


def delete(
    monkeypatch: pytest.MonkeyPatch, found: Subvolume | None, source: Subvolume | None, *, sure: bool
) -> list[str]:
    """Delete the snapshot /v/snap of two disks in the subvolume /v/root; what was deleted."""
    deleted: list[str] = []
    known = {'/v/snap': found, '/v/root': source}
    monkeypatch.setattr(_subvolume, 'read', known.get)
    monkeypatch.setattr(_subvolume, 'root_of', lambda _path: '/v/root' if source else None)
    monkeypatch.setattr(_subvolume, 'delete', deleted.append)
    monkeypatch.setattr(_copies, 'original_image', lambda _domain, _record: '/v/root/image')
    records = [plan('/v/snap', '/v/root', target).record for target in ('vda', 'vdb')]
    method = BtrfsMethod()
    (method.remove if sure else method.rollback)(DOMAIN, records)
    return deleted


SOURCE = Subvolume('/v/root', OURS, NONE, False)


@pytest.mark.parametrize('sure', [True, False])
def test_ours_is_deleted_once(sure: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert delete(monkeypatch, Subvolume('/v/snap', THEIRS, OURS, True), SOURCE, sure=sure) == ['/v/snap']


@pytest.mark.parametrize('sure', [True, False])
def test_gone_already_is_no_error(sure: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert delete(monkeypatch, None, SOURCE, sure=sure) == []


@pytest.mark.parametrize(
    'found',
    [
        Subvolume('/v/snap', OURS, THEIRS, True),
        Subvolume('/v/snap', OURS, NONE, False),
        Subvolume('/v/snap', THEIRS, OURS, False),
    ],
)
def test_theirs_is_not(found: Subvolume, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a run that died it is nobody's business; a snapshot that was taken may not be forgotten."""
    assert delete(monkeypatch, found, SOURCE, sure=False) == []
    with pytest.raises(DiskSnapError, match='btrfs subvolume delete /v/snap'):
        delete(monkeypatch, found, SOURCE, sure=True)


@pytest.mark.parametrize('sure', [True, False])
def test_nobody_knows_whose_it_is(sure: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DiskSnapError, match='domain web, disk vdb'):
        delete(monkeypatch, Subvolume('/v/snap', THEIRS, OURS, True), None, sure=sure)


def test_a_remote_host_is_refused() -> None:
    far: Any = SimpleNamespace(name='web', host=SimpleNamespace(local=False, pools=None))
    assert 'on the hypervisor itself' in (BtrfsMethod().refusal(disk(), far) or '')
