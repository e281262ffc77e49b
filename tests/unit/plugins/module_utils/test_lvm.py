# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What LVM's programs say, and the rules for names and sizes."""

from __future__ import annotations

import json

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _lvm, _lvm_rules
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError

MIB = 1024**2


def row(name: str, attr: str, **fields: str) -> dict[str, str]:
    """What lvs 2.03.16 says of an LV of 256 MiB."""
    return {
        'vg_name': 'vg0',
        'lv_name': name,
        'lv_size': '268435456',
        'lv_attr': attr,
        'lv_layout': 'linear',
        'origin': '',
        'pool_lv': '',
        'data_percent': '',
        'metadata_percent': '',
        'lv_tags': '',
        'lv_kernel_major': '253',
        'lv_kernel_minor': '0',
        **fields,
    }


def lvs(*rows: dict[str, str]) -> str:
    """A report in JSON."""
    return json.dumps({'report': [{'lv': list(rows)}]})


def test_volumes_are_read() -> None:
    merging, thin, pool, overflowed = _lvm.parse_volumes(
        lvs(
            row('[m2]', 'Sri---s---', origin='classic', lv_kernel_major='-1', lv_kernel_minor='-1'),
            row('thin', 'Vwi-aotz--', lv_layout='thin,sparse', pool_lv='tpool', lv_tags='a,b', data_percent='3.52'),
            row('tpool', 'twi-aotz--', lv_layout='thin,pool', metadata_percent='10.94'),
            row('ov', 'sri-I-s---', origin='classic', data_percent='100.00'),
        )
    )
    assert (merging.name, merging.merging, merging.active, merging.read_only) == ('m2', True, False, True)
    assert (thin.thin, thin.open, thin.pool, thin.tags) == (True, True, 'tpool', ('a', 'b'))
    assert (thin.path, thin.key, thin.device) == ('/dev/vg0/thin', 'vg0/thin', (253, 0))
    assert (pool.thin_pool, pool.thin, pool.metadata_percent) == (True, False, 10.94)
    assert (overflowed.invalid, overflowed.classic_snapshot, overflowed.merging) == (True, True, False)


@pytest.mark.parametrize(
    'text', ['', '{}', '{"report": [{"lv": [{"lv_name": "x"}]}]}', lvs(row('x', '-', lv_size='1 g'))]
)
def test_what_is_no_report(text: str) -> None:
    with pytest.raises(DiskSnapError, match='lvs did not answer as expected'):
        _lvm.parse_volumes(text)


@pytest.mark.parametrize(
    ('attr', 'word'), [('wz--n-', None), ('rz--n-', 'read-only'), ('wzx-n-', 'exported'), ('wz-pn-', 'incomplete')]
)
def test_a_group_that_takes_no_volume(attr: str, word: str | None) -> None:
    text = json.dumps(
        {'report': [{'vg': [{'vg_name': 'vg0', 'vg_attr': attr, 'vg_extent_size': '4194304', 'vg_free': '0'}]}]}
    )
    [group] = _lvm.parse_groups(text)
    assert (group.refusal is None) if word is None else word in (group.refusal or '')


@pytest.mark.parametrize(
    ('path', 'names'),
    [
        ('/dev/vg0/classic', ('vg0', 'classic')),
        ('/dev/mapper/vg0-classic', ('vg0', 'classic')),
        ('/dev/mapper/my--vg-a--b--c', ('my-vg', 'a-b-c')),
        ('/dev/mapper/plain', None),
        ('/dev/disk/by-id', None),
        ('/dev/vda', None),
        ('/srv/images/a', None),
    ],
)
def test_a_path_names_a_volume(path: str, names: tuple[str, str] | None) -> None:
    assert _lvm.split_path(path) == names


def test_a_thin_snapshot_is_left_inactive_and_a_classic_one_has_room() -> None:
    [origin] = _lvm.parse_volumes(lvs(row('disk', '-wi-ao----')))
    classic = _lvm.snapshot_command(origin, 'disk.s1', 16 * MIB)
    thin = _lvm.snapshot_command(origin, 'disk.s1', None)
    assert classic[-3:] == ['-L', '16777216b', 'vg0/disk']
    assert '-an' not in classic
    assert thin[-2:] == ['-an', 'vg0/disk']
    for argv in (classic, thin):
        assert {'-kn', '-pr', 'disksnap.of.disk'} <= set(argv)


# -- names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', ['a.s1', '.a', '_x', 'a+b', 'disk-web.2026-01-01', 'x' * 118])
def test_names_that_lvm_takes(name: str) -> None:
    assert _lvm_rules.name_fault('vg0', name) is None


@pytest.mark.parametrize(
    ('name', 'word'),
    [
        ('-a', 'begin with -'),
        ('a@b', 'named with'),
        ('', 'named with'),
        ('.', 'named with'),
        ('snapshot1', 'begin with snapshot'),
        ('pvmove1', 'begin with pvmove'),
        ('a_tdata.s1', '_tdata'),
        ('x' * 119, 'longer than 122'),
        ('-'.join('x' * 60), 'longer than 122'),
    ],
)
def test_names_that_lvm_does_not_take(name: str, word: str) -> None:
    assert word in (_lvm_rules.name_fault('vg0', name) or '')


def test_names_of_snapshots() -> None:
    assert _lvm_rules.snapshot_name('web', 'nightly', None) == 'web.nightly'
    assert _lvm_rules.snapshot_name('images', 'nightly', 'Web server (old)') == 'images-Web_server__old_.nightly'


# -- sizes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('wanted', 'origin', 'extent', 'size'),
    [
        (None, 1000 * MIB, 4 * MIB, 200 * MIB),
        (None, 256 * MIB, 4 * MIB, 52 * MIB),  # a fifth is 51.2 MiB
        (None, 40 * MIB, 4 * MIB, 16 * MIB),
        (None, 400 * MIB, 32 * MIB, 128 * MIB),  # 4 extents
        (None, 8 * MIB, 4 * MIB, 12 * MIB),  # it cannot use more
        ('1M', 256 * MIB, 4 * MIB, 4 * MIB),
        ('10G', 256 * MIB, 4 * MIB, 260 * MIB),  # as lvcreate reduces it
        ('5g', 100 * 1024 * MIB, 4 * MIB, 5 * 1024 * MIB),
        ('50%ORIGIN', 256 * MIB, 4 * MIB, 128 * MIB),
    ],
)
def test_copy_on_write_space(wanted: str | None, origin: int, extent: int, size: int) -> None:
    assert _lvm_rules.cow_size(wanted, origin, extent) == size


@pytest.mark.parametrize('size', [4 * MIB, 52 * MIB, 3 * 1024**3, 5 * 1024**4, 1024, 512 * 1024])
def test_a_size_comes_back_from_its_words(size: int) -> None:
    assert _lvm_rules.cow_size(_lvm_rules.size_option(size), 1024**5, 1024) == size


def test_sizes_in_messages() -> None:
    assert [_lvm_rules.words(size) for size in (0, 512, 4 * MIB, 1536 * MIB)] == [
        '0 bytes',
        '512 bytes',
        '4 MiB',
        '1.5 GiB',
    ]
