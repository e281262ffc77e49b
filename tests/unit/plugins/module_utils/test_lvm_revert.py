# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Logical volumes go back to their snapshots, whatever command of LVM was the last of a run that died."""

from __future__ import annotations

import json
import time
import typing as t
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _logical, _lvm, _lvm_revert, _lvm_snapshots
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    BackupSource,
    DiskRecord,
    Volume,
)

pytest.importorskip('libvirt')

MIB = 1024**2


class Died(Exception):
    """The run is killed here."""


@dataclass
class Fake:
    """One LV of the fake: ``data`` stands for all that is on it."""

    data: str
    thin: bool = False
    origin: str = ''
    tags: set[str] = field(default_factory=set)
    active: bool = True
    open: bool = False
    merging: bool = False
    invalid: bool = False
    size: int = 256 * MIB


class FakeLvm:
    """As much of LVM's programs as a revert uses; ``lives`` commands change something, then the run dies."""

    def __init__(self, **volumes: Fake) -> None:
        self.volumes = dict(volumes)
        self.commands: list[str] = []
        self.lives = 1000

    def run(self, argv: t.Sequence[str], _what: str, **_options: t.Any) -> str:
        program = argv[0]
        if program == 'lvs':
            return self.lvs()
        if program == 'vgs':
            row = {'vg_name': 'vg0', 'vg_attr': 'wz--n-', 'vg_extent_size': str(4 * MIB), 'vg_free': str(999 * MIB)}
            return json.dumps({'report': [{'vg': [row]}]})
        if not self.lives:
            raise Died
        self.lives -= 1
        self.commands.append(' '.join(argv))
        return t.cast(str, getattr(self, program)(list(argv)) or '')

    def lvs(self) -> str:
        rows = []
        for name, one in self.volumes.items():
            origin_of_merge = any(other.merging and other.origin == name for other in self.volumes.values())
            kind = 'V' if one.thin else 'S' if one.merging else 's' if one.origin else 'O' if origin_of_merge else '-'
            state = 'I' if one.invalid else 'a' if one.active else '-'
            number = str(list(self.volumes).index(name)) if one.active else '-1'
            rows.append(
                {
                    'vg_name': 'vg0',
                    'lv_name': f'[{name}]' if one.merging else name,
                    'lv_size': str(one.size),
                    'lv_attr': f'{kind}wi-{state}{"o" if one.open else "-"}----',
                    'lv_layout': 'thin,sparse' if one.thin else 'linear',
                    'origin': one.origin,
                    'pool_lv': 'tpool' if one.thin else '',
                    'data_percent': '',
                    'metadata_percent': '',
                    'lv_tags': ','.join(sorted(one.tags)),
                    'lv_kernel_major': '253' if one.active else '-1',
                    'lv_kernel_minor': number,
                }
            )
        return json.dumps({'report': [{'lv': rows}]})

    @staticmethod
    def _name(key: str) -> str:
        return key.partition('/')[2]

    def lvcreate(self, argv: list[str]) -> None:
        origin, name = self._name(argv[-1]), argv[argv.index('-n') + 1]
        source = self.volumes[origin]
        tags = {argv[at + 1] for at, word in enumerate(argv) if word == '--addtag'}
        assert name not in self.volumes
        self.volumes[name] = Fake(source.data, source.thin, origin, tags, active='-an' not in argv)

    def lvremove(self, argv: list[str]) -> None:
        gone = self._name(argv[-1])
        del self.volumes[gone]
        for one in self.volumes.values():
            one.origin = '' if one.origin == gone else one.origin

    def lvrename(self, argv: list[str]) -> None:
        old, new = argv[-2:]
        assert new not in self.volumes
        self.volumes[new] = self.volumes.pop(old)
        for one in self.volumes.values():
            one.origin = new if one.origin == old else one.origin

    def lvconvert(self, argv: list[str]) -> str:
        one = self.volumes[self._name(argv[-1])]
        assert not one.thin
        one.merging = True
        if self.volumes[one.origin].open:
            return 'Delaying merge since origin is open.'
        self._end_merges()
        return ''

    def _end_merges(self) -> None:
        for name, one in list(self.volumes.items()):
            if one.merging:
                self.volumes[one.origin].data = one.data
                del self.volumes[name]

    def lvchange(self, argv: list[str]) -> None:
        one = self.volumes[self._name(argv[-1])]
        if '--addtag' in argv:
            one.tags.add(argv[argv.index('--addtag') + 1])
        if '--deltag' in argv:
            one.tags.discard(argv[argv.index('--deltag') + 1])
        if '-an' in argv:
            assert not one.open
            one.active = False
        if '-ay' in argv:
            one.active = True
            self._end_merges()


def record(*, device: str = '', size: str = '52') -> DiskRecord:
    """Of a disk /dev/vg0/disk with the snapshot s1."""
    method = f'<diskSnapshot method="lvm">{device}<size unit="M">{size}</size></diskSnapshot>'
    return DiskRecord(
        target='vdb',
        method='lvm',
        method_xml=method,
        original='<disk type="block" device="disk"><driver type="raw"/><source dev="/dev/vg0/disk"/>'
        '<target dev="vdb"/></disk>',
        modified_disk=None,
        backup_source=BackupSource('<source/>', 'block', '/dev/vg0/disk.s1', 'raw'),
        volumes=[Volume('/dev/vg0/disk.s1', 'disk.s1', 'raw', 'vg0', 256 * MIB)],
    )


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> t.Any:
    monkeypatch.setattr(_logical, 'pool_of', lambda *_arguments, **_options: None)
    monkeypatch.setattr(time, 'sleep', lambda _seconds: None)
    monkeypatch.setattr(_lvm_snapshots, '_SETTLE', 0.0)
    return SimpleNamespace(name='web', host=SimpleNamespace(local=True, connection=None))


def use(lvm: FakeLvm, monkeypatch: pytest.MonkeyPatch) -> FakeLvm:
    monkeypatch.setattr(_lvm, 'run', lvm.run)
    _lvm.forget()
    return lvm


def classic() -> FakeLvm:
    mine = {_lvm.TAG, _lvm.origin_tag('disk')}
    return FakeLvm(
        disk=Fake('now'),
        **{'disk.s1': Fake('then', origin='disk', tags=mine), 'disk.s2': Fake('later', origin='disk', tags=mine)},
    )


def thin() -> FakeLvm:
    lvm = classic()
    for one in lvm.volumes.values():
        one.thin = True
    lvm.volumes['disk'].tags = {'mine'}
    return lvm


def revert(domain: t.Any, one: DiskRecord, seconds: float = 60) -> None:
    _lvm_revert.revert(domain, one, deadline=time.monotonic() + seconds)


@pytest.mark.parametrize('make', [classic, thin])
@pytest.mark.parametrize('lives', range(9))
def test_a_run_dies_and_the_next_ends_it(
    domain: t.Any, monkeypatch: pytest.MonkeyPatch, make: t.Callable[[], FakeLvm], lives: int
) -> None:
    lvm = use(make(), monkeypatch)
    lvm.lives = lives
    try:
        revert(domain, record())
    except Died:
        lvm.lives = 1000
        _lvm.forget()
        revert(domain, record())

    assert {name: one.data for name, one in lvm.volumes.items()} == {
        'disk': 'then',
        'disk.s1': 'then',
        'disk.s2': 'later',
    }
    assert lvm.volumes['disk'].active
    assert lvm.volumes['disk'].tags == ({'mine'} if make is thin else set())
    again = _lvm.by_name(_lvm.volumes(), 'vg0', 'disk.s1')
    assert again is not None
    assert _lvm_snapshots.ours(again, _lvm_snapshots.place_of(record()))


@pytest.mark.parametrize('make', [classic, thin])
def test_one_can_go_to_another_snapshot_afterwards(
    domain: t.Any, monkeypatch: pytest.MonkeyPatch, make: t.Callable[[], FakeLvm]
) -> None:
    lvm = use(make(), monkeypatch)
    second = replace(record(), volumes=[Volume('/dev/vg0/disk.s2', 'disk.s2', 'raw')])
    for one, data in ((record(), 'then'), (second, 'later'), (record(), 'then')):
        revert(domain, one)
        assert lvm.volumes['disk'].data == data
    assert set(lvm.volumes) == {'disk', 'disk.s1', 'disk.s2'}


def test_the_space_is_as_large_as_before(domain: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lvm = use(classic(), monkeypatch)
    revert(domain, record())
    assert any(f'-L {52 * MIB}b' in command for command in lvm.commands)


def test_a_merge_that_had_to_wait_begins_when_the_volume_is_closed(
    domain: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lvm = use(classic(), monkeypatch)
    lvm.volumes['disk'].open = True
    monkeypatch.setattr(_lvm_revert, '_STEP', 0)
    with pytest.raises(DiskSnapError, match=r'still being merged.*LVM goes on'):
        revert(domain, record(), seconds=-1)
    assert lvm.volumes['disk.s1'].merging

    lvm.volumes['disk'].open = False
    _lvm.forget()
    revert(domain, record())
    assert lvm.volumes['disk'].data == 'then'
    assert lvm.volumes['disk.s1'].data == 'then'


def test_what_holds_more_than_the_disk_never_goes_back(domain: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lvm = use(classic(), monkeypatch)
    holding = record(device='<device path="/dev/vg0/disk"/>')
    holding.volumes[0].path = '/dev/vg0/disk-web.s1'
    with pytest.raises(DiskSnapError, match='holds more than this disk'):
        revert(domain, holding)
    assert lvm.commands == []


def test_somebody_elses_volume_under_a_name_of_ours_is_left(domain: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lvm = use(thin(), monkeypatch)
    lvm.volumes[f'disk.{_lvm_revert.NEW}'] = Fake('precious', thin=True)
    with pytest.raises(DiskSnapError, match='is not ours'):
        revert(domain, record())
    assert lvm.commands == []


def test_a_disk_by_a_link_is_the_volume_itself() -> None:
    """Its path does not tell the volume, so the record names that; it still is no more than the disk."""
    linked = record(device='<device path="/dev/vg0/disk"/>')
    linked.original = linked.original.replace('/dev/vg0/disk', '/dev/disk/by-id/dm-name-x')
    place = _lvm_snapshots.place_of(linked)
    assert (place.vg, place.origin, place.name, place.foreign) == ('vg0', 'disk', 'disk.s1', False)


# -- deleting ---------------------------------------------------------------------------------------------------


def test_only_the_recorded_snapshot_is_deleted(domain: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lvm = use(classic(), monkeypatch)
    lvm.volumes['disk.s1'].origin = 'another'
    lvm.volumes['disk.s1'].tags = set()
    _lvm_snapshots.delete(domain, record())
    assert 'disk.s1' in lvm.volumes

    lvm.volumes['disk.s1'].origin = 'disk'
    _lvm_snapshots.delete(domain, record())
    _lvm_snapshots.delete(domain, record())
    assert set(lvm.volumes) == {'disk', 'disk.s2'}


def test_one_that_is_open_is_not_deleted(domain: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lvm = use(classic(), monkeypatch)
    lvm.volumes['disk.s1'].open = True
    with pytest.raises(DiskSnapError, match=r'domain web, disk vdb.*something has it open'):
        _lvm_snapshots.delete(domain, record())
    assert lvm.commands == []


def test_faults_are_named(domain: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lvm = use(classic(), monkeypatch)
    assert _lvm_snapshots.fault(domain, record()) is None
    lvm.volumes['disk.s1'].invalid = True
    lvm.volumes['disk.s1'].size = 52 * MIB
    _lvm.forget()
    assert 'overflowed its 52 MiB (54525952 bytes)' in (_lvm_snapshots.fault(domain, record()) or '')
    del lvm.volumes['disk.s1']
    _lvm.forget()
    assert 'not there any more' in (_lvm_snapshots.fault(domain, record()) or '')


def test_elsewhere_nothing_can_be_said(domain: t.Any) -> None:
    domain.host.local = False
    with pytest.raises(DiskSnapError, match='must run on the hypervisor itself'):
        _lvm_snapshots.find(domain, record())
