# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which logical volume a disk is, or lies on, and what the method lvm plans for it."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import (
    _blockdev,
    _command,
    _logical,
    _lvm,
    _lvm_place,
    _mounts,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._lvm import LogicalVolume
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.base import Subject
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.lvm import LvmMethod
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk, read_domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import Method, from_xml

pytest.importorskip('libvirt')

MIB = 1024**2
VOLUMES = [
    LogicalVolume('vg0', 'web', 256 * MIB, '-wi-ao----', 'linear', device=(253, 0)),
    LogicalVolume('vg0', 'thin', 256 * MIB, 'Vwi-aotz--', 'thin,sparse', pool='tpool', device=(253, 1)),
    LogicalVolume('vg0', 'tpool', 768 * MIB, 'twi-aotz--', 'thin,pool', data_percent=5.0, device=(253, 2)),
    LogicalVolume('vg0', 'images', 512 * MIB, '-wi-ao----', 'linear', device=(253, 3)),
    LogicalVolume('vg0', 'web.old', 16 * MIB, 'swi-a-s---', 'linear', origin='web', device=(253, 4)),
    LogicalVolume('vg1', 'other', 64 * MIB, '-wi-a-----', 'linear', device=(253, 5)),
]
NUMBERS = {one.path: one.device for one in VOLUMES}
DISKS = {
    'vda': ('block', 'dev="/dev/vg0/web"'),
    'vdb': ('block', 'dev="/dev/vg0/thin"'),
    'vdc': ('file', 'file="/srv/images/c"'),
    'vdd': ('block', 'dev="/dev/sda1"'),
    'vde': ('block', 'dev="/dev/vg0/web.old"'),
    'vdf': ('volume', 'pool="vg0" volume="web"'),
    'vdg': ('network', 'protocol="nbd" name="x"'),
    'vdh': ('block', 'dev="/dev/disk/by-id/web"'),
}


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> t.Any:
    """A running guest; on /srv/images is the file system of vg0/images."""
    numbers = {**NUMBERS, '/dev/disk/by-id/web': (253, 0), '/dev/sda1': (8, 1)}
    monkeypatch.setattr(_blockdev, 'number_of', numbers.get)
    monkeypatch.setattr(_blockdev, 'holding', {**numbers, '/srv/images/c': (253, 3)}.get)
    monkeypatch.setattr(_blockdev, 'below', lambda number: [number, (254, 0)])
    monkeypatch.setattr('os.path.exists', lambda path: path in numbers or path == '/srv/images/c')
    monkeypatch.setattr('os.path.lexists', lambda path: path in numbers)
    monkeypatch.setattr(_mounts, 'mount_of', lambda _path: SimpleNamespace(type='ext4', source='/dev/vg0/images'))
    monkeypatch.setattr(_lvm, 'volumes', lambda: list(VOLUMES))
    monkeypatch.setattr(_lvm, 'group', lambda name: _lvm.VolumeGroup(name, 'wz--n-', 4 * MIB, 110 * MIB))
    monkeypatch.setattr(_lvm, 'create_snapshot', lambda *_arguments, **_options: None)
    monkeypatch.setattr(_logical, 'device_of', lambda _connection, source: f'/dev/{source.pool}/{source.volume}')
    monkeypatch.setattr(_logical, 'pool_of', lambda *_arguments, **_options: (None, SimpleNamespace(name='vg0')))
    handle = SimpleNamespace(blockJobInfo=lambda *_arguments: {}, name=lambda: 'web')
    return SimpleNamespace(
        name='web', live=True, handle=handle, host=SimpleNamespace(local=True, connection=None, pools=None)
    )


def disk(target: str, fmt: str = 'raw') -> Disk:
    kind, source = DISKS[target]
    xml = (
        f'<domain><name>web</name><devices><disk type="{kind}" device="disk"><driver type="{fmt}"/>'
        f'<source {source}/><backingStore/><target dev="{target}"/></disk></devices></domain>'
    )
    return read_domain(xml).disks[0]


def plan(domain: t.Any, target: str, method: LvmMethod | None = None, **options: t.Any) -> t.Any:
    subject = Subject(domain, True, options.pop('snapshot_name', 's1'), reclaimed=options.pop('reclaimed', frozenset()))
    return (method or LvmMethod()).plan(subject, disk(target), Method('lvm', **options), 'so')


@pytest.mark.parametrize('target', ['vda', 'vdb', 'vdc', 'vdf', 'vdh'])
def test_disks_that_it_takes(domain: t.Any, target: str) -> None:
    assert LvmMethod().refusal(disk(target), domain) is None


@pytest.mark.parametrize(('target', 'word'), [('vdd', 'no logical volume, nor on one'), ('vdg', 'of type network')])
def test_disks_that_it_does_not_take(domain: t.Any, target: str, word: str) -> None:
    assert word in (LvmMethod().refusal(disk(target), domain) or '')


def test_only_on_the_hypervisor(domain: t.Any) -> None:
    domain.host.local = False
    assert 'on the hypervisor itself' in (LvmMethod().refusal(disk('vda'), domain) or '')
    assert LvmMethod().auto_reason(disk('vda'), domain) is None


def test_auto_never_guesses(domain: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lvm = LvmMethod()
    assert 'of the pool vg0' in (lvm.auto_reason(disk('vda'), domain) or '')
    assert lvm.auto_reason(disk('vdc'), domain) is None
    assert lvm.auto_reason(disk('vdd'), domain) is None
    monkeypatch.setattr(_logical, 'pool_of', lambda *_arguments, **_options: None)
    assert lvm.auto_reason(disk('vda'), domain) is None
    assert 'thin' in (lvm.auto_reason(disk('vdb'), domain) or '')


def test_what_is_planned_for_a_classic_volume(domain: t.Any) -> None:
    one = plan(domain, 'vda')
    assert one.record.method_xml == '<diskSnapshot method="lvm"><size unit="M">52</size></diskSnapshot>'
    assert one.record.backup_source.xml == '<source dev="/dev/vg0/web.s1"/>'
    [volume] = one.record.volumes
    assert (volume.path, volume.pool, volume.capacity) == ('/dev/vg0/web.s1', 'vg0', 256 * MIB)
    assert not one.still


def test_what_is_planned_for_a_thin_volume(domain: t.Any) -> None:
    record = plan(domain, 'vdb').record
    assert from_xml(record.method_xml) == Method('lvm')
    assert (record.backup_source.path, record.backup_source.pool) == ('/dev/vg0/thin.s1', None)


def test_what_is_planned_for_a_volume_that_holds_the_image(domain: t.Any) -> None:
    record = plan(domain, 'vdc', device='/dev/vg0/images').record
    assert from_xml(record.method_xml) == Method('lvm', device='/dev/vg0/images', size='104M')
    assert (record.backup_source.path, record.backup_source.format) == ('/dev/vg0/images-web.s1', 'raw')


def test_a_disk_by_a_link_names_its_volume(domain: t.Any) -> None:
    assert from_xml(plan(domain, 'vdh').record.method_xml).device == '/dev/vg0/web'
    assert plan(domain, 'vdh').record.volumes[0].name == 'web.s1'


@pytest.mark.parametrize(
    ('target', 'options', 'words'),
    [
        ('vda', {'snapshot_name': 'old'}, 'there is a logical volume /dev/vg0/web.old already'),
        ('vda', {'snapshot_name': 'x_tdata'}, 'LVM keeps names with _tdata'),
        ('vda', {'snapshot_name': 'x' * 120}, 'longer than 122'),
        ('vda', {'size': '200M'}, r'vg0 has 110 MiB free, and 200 MiB of copy-on-write space are needed'),
        ('vda', {'device': '/dev/vg1/other'}, 'its image /dev/vg0/web is not on /dev/vg1/other, but on /dev/vg0/web'),
        ('vda', {'device': '/dev/vg0/none'}, 'there is no logical volume /dev/vg0/none'),
        ('vda', {'device': '/dev/sda1'}, '/dev/sda1 is not a logical volume'),
        ('vdb', {'size': '1G'}, 'is a thin volume'),
        ('vdc', {}, r'its image is a file .* Name with device the one that holds it: /dev/vg0/images'),
        ('vdc', {'device': '/dev/vg0/web'}, 'not on /dev/vg0/web, but on /dev/vg0/images'),
        ('vde', {}, 'is itself a snapshot'),
    ],
)
def test_what_is_refused(domain: t.Any, target: str, options: dict[str, t.Any], words: str) -> None:
    with pytest.raises(DiskSnapError, match=words) as caught:
        plan(domain, target, **options)
    assert (caught.value.domain, caught.value.disk) == ('web', target)


def test_a_leftover_that_will_be_gone_is_not_in_the_way(domain: t.Any) -> None:
    plan(domain, 'vda', snapshot_name='old', reclaimed=frozenset({'/dev/vg0/web.old'}))


def test_two_snapshots_share_the_room(domain: t.Any) -> None:
    lvm = LvmMethod()
    plan(domain, 'vda', lvm, size='60M')
    with pytest.raises(DiskSnapError, match='120 MiB of copy-on-write space are needed'):
        plan(domain, 'vdc', lvm, device='/dev/vg0/images', size='60M')


def test_a_full_thin_pool(domain: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    full = [
        one if not one.thin_pool else LogicalVolume('vg0', 'tpool', 1, 'twi-aotzD-', 'thin,pool', data_percent=100.0)
        for one in VOLUMES
    ]
    monkeypatch.setattr(_lvm, 'volumes', lambda: full)
    with pytest.raises(DiskSnapError, match=r'the data of its thin pool vg0/tpool are full \(100 %\)'):
        plan(domain, 'vdb')


def test_the_package_of_a_program_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PATH', '/nowhere')
    with pytest.raises(DiskSnapError, match=r'lvs is not installed on the hypervisor.*package lvm2'):
        _command.run(['lvs'], 'Failed', timeout=1)


# -- devices ----------------------------------------------------------------------------------------------------


def test_what_a_device_stands_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A partition on a mapping of one disk, and a mapping of two."""

    def device(name: str, number: str, slaves: t.Sequence[str] = (), *, partition: bool = False) -> None:
        place = tmp_path / 'devices' / name
        (place / 'slaves').mkdir(parents=True)
        (place / 'dev').write_text(f'{number}\n', encoding='ascii')
        for slave in slaves:
            (place / 'slaves' / slave).symlink_to(tmp_path / 'devices' / slave)
        if partition:
            (place / 'partition').write_text('1\n', encoding='ascii')
        (tmp_path / 'block').mkdir(exist_ok=True)
        (tmp_path / 'block' / number).symlink_to(place)

    device('sda', '8:0')
    device('sda/sda1', '8:1', partition=True)
    device('sdb', '8:16')
    device('dm-0', '253:0', ['sda'])
    device('dm-1', '253:1', ['dm-0'])
    device('dm-2', '253:2', ['sda', 'sdb'])
    device('dm-3', '253:3', ['dm-2'])
    monkeypatch.setattr(_blockdev, 'SYS', str(tmp_path / 'block'))

    assert _blockdev.below((8, 1)) == [(8, 1), (8, 0)]
    assert _blockdev.below((253, 1)) == [(253, 1), (253, 0), (8, 0)]
    assert _blockdev.below((253, 3)) == [(253, 3), (253, 2)]
    assert _blockdev.below((9, 9)) == [(9, 9)]


def test_a_volume_by_its_name_while_it_is_not_active(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_blockdev, 'number_of', lambda _path: None)
    found = _lvm_place.named(VOLUMES, '/dev/mapper/vg0-web.old')
    assert found is not None
    assert found.name == 'web.old'
    assert _lvm_place.named(VOLUMES, '/dev/vg9/web') is None


def test_the_volume_that_libvirt_is_asked_for() -> None:
    """The capacity is the copy-on-write space; an allocation would make it another kind of volume."""
    xml = _logical.snapshot_volume('web.s1', 16 * MIB, '/dev/vg0/web')
    assert '<capacity unit="bytes">16777216</capacity>' in xml
    assert 'allocation' not in xml
    assert '<backingStore><path>/dev/vg0/web</path></backingStore>' in xml


def test_json_is_what_lvs_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[t.Sequence[str]] = []

    def run(argv: t.Sequence[str], _what: str, **_options: t.Any) -> str:
        asked.append(argv)
        return json.dumps({'report': []})

    monkeypatch.setattr(_lvm, 'run', run)
    _lvm.forget()
    assert _lvm.volumes() == _lvm.volumes() == []
    _lvm.forget()
    [argv] = asked
    assert {'--reportformat', 'json', '--nosuffix', '-a'} <= set(argv)
