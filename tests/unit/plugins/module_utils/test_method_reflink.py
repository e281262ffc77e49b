# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The method reflink: what it refuses, what it leaves alone, and what it deletes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _clone, _copies
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.base import DiskPlan, Subject
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.reflink import ReflinkMethod
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    BackupSource,
    DiskRecord,
    Volume,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk, read_domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import Method

libvirt = pytest.importorskip('libvirt')

SIZE = 8192


class Pools:
    """Storage pools that hold what the file system holds."""

    def __init__(self, error: int | None = None) -> None:
        self.error = error
        self.deleted: list[str] = []

    def create_empty(self, path: str, *, mode: int) -> None:
        if self.error is not None:
            error = libvirt.libvirtError('refused')
            error.err = (self.error, 18, 'refused', 2, '', None, None, -1, -1)
            raise error
        Path(path).touch(mode)

    def delete(self, path: str) -> None:
        self.deleted.append(Path(path).name)


def domain_with(pools: Pools, *, local: bool = True) -> Any:
    return SimpleNamespace(name='web', uuid='u', host=SimpleNamespace(local=local, pools=pools))


def disk(fmt: str = 'raw', kind: str = 'file', inside: str = '') -> Disk:
    xml = (
        f'<disk type="{kind}"><driver type="{fmt}"/><source {"dev" if kind == "block" else "file"}="/proc/image">'
        f'{inside}</source><target dev="vda"/></disk>'
    )
    return read_domain(f'<domain><devices>{xml}</devices></domain>').disks[0]


def record_of(path: Path) -> DiskRecord:
    source = BackupSource('', 'file', str(path), 'raw')
    return DiskRecord(
        'vda', 'reflink', '', disk().xml, None, source, [Volume(str(path), path.name, 'raw', capacity=SIZE)]
    )


@pytest.mark.parametrize(
    ('of', 'words'),
    [
        (disk(kind='block'), 'no disk of type block'),
        (disk('vmdk'), 'not vmdk'),
        (disk('qcow2', inside='<encryption format="luks"/>'), 'encrypted'),
        (disk(), 'is on proc, whose files cannot share blocks; btrfs and xfs can'),
    ],
)
def test_what_it_refuses(of: Disk, words: str) -> None:
    assert words in (ReflinkMethod().refusal(of, domain_with(Pools())) or '')


def test_a_remote_qcow2_is_refused_and_raw_is_not() -> None:
    far = domain_with(Pools(), local=False)
    assert 'on the hypervisor itself' in (ReflinkMethod().refusal(disk('qcow2'), far) or '')
    assert ReflinkMethod().refusal(disk(), far) is None


def test_a_name_that_is_taken_meanwhile_is_not_ours_to_delete(tmp_path: Path) -> None:
    domain = domain_with(Pools(libvirt.VIR_ERR_STORAGE_VOL_EXIST))
    plan = DiskPlan(disk(), Method('reflink'), record_of(tmp_path / 'clone'), notes={'image': '/proc/image'})
    with pytest.raises(DiskSnapError, match='disk vda'):
        ReflinkMethod().prepare(Subject(domain, True, 's1'), [plan])
    assert plan.record.volumes == []


@pytest.mark.parametrize(
    ('content', 'mode', 'mark', 'ours'),
    [
        (b'', 0o600, None, True),  # died before it was marked
        (bytes(SIZE), 0o400, None, True),  # the storage pool's own clone
        (bytes(SIZE), 0o400, 'u vda', True),
        (bytes(100), 0o400, 'u vda', True),  # a qcow2 file has no size that is known
        (bytes(SIZE), 0o400, 'other vda', False),  # of the domain that this one was copied from
        (bytes(SIZE), 0o400, 'u vdb', False),
        (bytes(SIZE), 0o644, None, False),
        (bytes(100), 0o400, None, False),
        (None, 0, None, False),
    ],
)
def test_only_ours_is_deleted(
    content: bytes | None, mode: int, mark: str | None, ours: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, pools = tmp_path / 'clone', Pools()
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    monkeypatch.setattr(_clone, 'marked', lambda _path: mark)
    ReflinkMethod().rollback(domain_with(pools), [record_of(path)])
    assert pools.deleted == (['clone'] if ours else [])


def test_a_directory_of_that_name_is_left_alone(tmp_path: Path) -> None:
    pools = Pools()
    (tmp_path / 'clone').mkdir()
    ReflinkMethod().rollback(domain_with(pools), [record_of(tmp_path / 'clone')])
    assert pools.deleted == []


@pytest.mark.parametrize(('size', 'fits'), [(SIZE, True), (SIZE - 511, True), (SIZE - 512, False), (SIZE + 1, False)])
def test_a_clone_has_the_disk_s_size(size: int, fits: bool, tmp_path: Path) -> None:
    """QEMU counts sectors."""
    (tmp_path / 'clone').write_bytes(bytes(size))
    record = record_of(tmp_path / 'clone')
    if fits:
        _copies.refuse_size(domain_with(Pools()), record, SIZE)
        return
    with pytest.raises(DiskSnapError, match=f'came out with {size} bytes'):
        _copies.refuse_size(domain_with(Pools()), record, SIZE)


def test_why_a_clone_is_of_no_use(tmp_path: Path) -> None:
    domain, record = domain_with(Pools()), record_of(tmp_path / 'clone')
    assert 'not there any more' in (_copies.fault(domain, record) or '')
    (tmp_path / 'clone').write_bytes(b'raw')
    assert _copies.fault(domain, record) is None
    record.backing = ['nbd://host/x', str(tmp_path / 'base')]
    assert 'base, is not there any more' in (_copies.fault(domain, record) or '')
    record.backup_source.format = 'qcow2'
    assert 'no qcow2 image' in (_copies.fault(domain, record) or '')


def test_the_backup_source_keeps_the_key_s_name() -> None:
    of = disk(inside='<encryption format="luks"><secret type="passphrase" uuid="x"/></encryption>').active
    source = _copies.backup_source(of, '/p/clone', pool='images')
    assert '<encryption' in source.xml
    assert 'file="/p/clone"' in source.xml
    assert (source.type, source.format, source.pool, source.volume) == ('file', 'raw', 'images', 'clone')
