# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a merge does to texts and records, and how it is asked for: the parts without a libvirt."""

from __future__ import annotations

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_model import (
    COMMIT,
    PULL,
    START,
    DiskMerge,
    Merge,
    MergeResult,
    parse_bandwidth,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_offline import commands
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_xml import merged_disk, update_snapshots
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    BackupSource,
    DiskRecord,
    Journal,
    SnapshotRecord,
    Volume,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Source

RAW = Source('file', 'raw', '/i/base', xml='<source file="/i/base"/>')
ONE = Source('file', 'qcow2', '/i/one', xml='<source file="/i/one"/>')
TWO = Source('file', 'qcow2', '/i/two', xml='<source file="/i/two"/>')
THREE = Source('file', 'qcow2', '/i/three', xml='<source file="/i/three"/>')


def disk(*layers: Source, closed: bool = True, target: str = 'vda') -> str:
    """A ``<disk>`` over these layers; ``closed``: of a running domain, which says where the chain ends."""
    below = '<backingStore/>' if closed else ''
    for layer in reversed(layers[1:]):
        below = f'<backingStore type="{layer.type}"><format type="{layer.format}"/>{layer.xml}{below}</backingStore>'
    return (
        f'<disk type="{layers[0].type}" device="disk"><driver name="qemu" type="{layers[0].format}"/>'
        f'{layers[0].xml}{below}<target dev="{target}" bus="virtio"/></disk>'
    )


def commit(gone: list[Source], base: Source) -> Merge:
    return Merge('vda', COMMIT, frozenset(layer.key for layer in gone), base)


def pull(gone: list[Source], top: Source) -> Merge:
    return Merge('vda', PULL, frozenset(layer.key for layer in gone), top)


# -- bandwidth --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('0', 0),
        ('1048576', 1 << 20),
        ('4096B', 4096),
        ('100M', 100 << 20),
        ('100m', 100 << 20),
        ('100MB', 100 << 20),
        ('100MiB', 100 << 20),
        (' 1.5 G ', 3 << 29),
        ('2T', 2 << 40),
        ('512K', 512 << 10),
    ],
)
def test_bandwidth(text: str, value: int) -> None:
    assert parse_bandwidth(text) == value


@pytest.mark.parametrize('text', ['', 'M', '-1', '1P', '10 Mbit', '1e6', '0x10', '0.5', '99999999999T', 'nan'])
def test_bandwidth_that_is_none(text: str) -> None:
    with pytest.raises(DiskSnapError, match='option bandwidth'):
        parse_bandwidth(text)


# -- XML --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('before', 'merge', 'after'),
    [
        ([ONE, RAW], commit([ONE], RAW), [RAW]),
        ([TWO, ONE, RAW], commit([TWO], ONE), [ONE, RAW]),
        ([TWO, ONE, RAW], commit([TWO, ONE], RAW), [RAW]),
        ([TWO, ONE, RAW], commit([ONE], RAW), [TWO, RAW]),
        ([THREE, TWO, ONE, RAW], commit([TWO, ONE], RAW), [THREE, RAW]),
        ([TWO, ONE, RAW], pull([ONE], TWO), [TWO, RAW]),
        ([TWO, ONE, RAW], pull([ONE, RAW], TWO), [TWO]),
        ([ONE, RAW], pull([ONE], TWO), [TWO, RAW]),
        ([ONE, RAW], commit([TWO], ONE), [ONE, RAW]),
    ],
)
def test_disk_of_a_running_domain(before: list[Source], merge: Merge, after: list[Source]) -> None:
    assert merged_disk(disk(*before), merge) == disk(*after)


@pytest.mark.parametrize(
    ('before', 'merge', 'after'),
    [
        ([ONE], commit([ONE], RAW), [RAW]),
        ([TWO], commit([ONE], RAW), [TWO]),
        ([TWO, ONE], commit([ONE], RAW), [TWO]),
        ([TWO, ONE, RAW], commit([TWO, ONE], RAW), [RAW]),
        ([TWO], pull([ONE], TWO), [TWO]),
    ],
)
def test_disk_of_a_shut_off_domain(before: list[Source], merge: Merge, after: list[Source]) -> None:
    assert merged_disk(disk(*before, closed=False), merge) == disk(*after, closed=False)


def test_disk_keeps_how_the_text_writes_the_base() -> None:
    volume = Source('volume', 'raw', None, 'p', 'v', xml='<source pool="p" volume="v"/>')
    merge = Merge('vda', COMMIT, frozenset(['/i/one']), Source('volume', 'raw', '/i/v', 'p', 'v', xml=volume.xml))
    assert merged_disk(disk(ONE, volume), merge) == disk(volume)


# -- journal ----------------------------------------------------------------------------------------------------


def record(overlay: Source, below: list[Source], target: str = 'vda') -> DiskRecord:
    """A disk in a snapshot that put ``overlay`` on ``below``."""
    return DiskRecord(
        target=target,
        method='qemu',
        method_xml='<diskSnapshot method="qemu"/>',
        original=disk(*below, target=target),
        modified_disk=disk(overlay, *below, target=target),
        backup_source=BackupSource(below[0].xml, below[0].type, below[0].path, below[0].format, 'p', below[0].key[3:]),
        volumes=[Volume(overlay.key, overlay.key[3:], 'qcow2', 'p', 1)],
    )


def journal_of(**snapshots: list[DiskRecord]) -> Journal:
    return Journal({name: SnapshotRecord(name, 'present', '', 'g', disks=disks) for name, disks in snapshots.items()})


def three() -> Journal:
    return journal_of(s1=[record(ONE, [RAW])], s2=[record(TWO, [ONE, RAW])], s3=[record(THREE, [TWO, ONE, RAW])])


BASE = Volume('/i/base', 'base', 'raw', 'p', 1)


def test_active_commit_forgets_the_snapshot_that_put_the_layer_on() -> None:
    journal = three()
    assert update_snapshots(journal, commit([THREE], TWO), Volume('/i/two', 'two', 'qcow2', 'p', 1), 'p') == ['s3']
    left = three()
    del left.snapshots['s3']
    assert journal == left


def test_intermediate_commit_has_the_next_snapshot_stand_on_the_base() -> None:
    journal = three()
    assert update_snapshots(journal, commit([TWO, ONE], RAW), BASE, 'p') == ['s1', 's2']
    assert journal == journal_of(s3=[record(THREE, [RAW])])


def test_commit_of_the_lowest_layer_reaches_into_all_texts() -> None:
    journal = three()
    assert update_snapshots(journal, commit([ONE], RAW), BASE, 'p') == ['s1']
    assert journal == journal_of(s2=[record(TWO, [RAW])], s3=[record(THREE, [TWO, RAW])])


def test_pull_hands_the_overlay_of_the_lower_snapshot_on() -> None:
    journal = three()
    heir = Volume('/i/three', 'three', 'qcow2', 'p', 1)
    assert update_snapshots(journal, pull([TWO], THREE), heir, 'p') == ['s3']
    s1, s2 = journal.snapshots['s1'].disks[0], journal.snapshots['s2'].disks[0]
    assert s1 == record(ONE, [RAW])
    assert s2 == record(THREE, [ONE, RAW])


def test_whole_pull_forgets_all() -> None:
    journal = three()
    update_snapshots(journal, pull([TWO, ONE, RAW], THREE), Volume('/i/three', 'three', 'qcow2'), None)
    assert journal.empty


def test_other_disks_and_other_methods_stay() -> None:
    lvm = record(ONE, [RAW])
    lvm.volumes = [Volume('/dev/vg/snap', 'snap', 'raw', 'vg')]
    journal = journal_of(s1=[record(ONE, [RAW]), record(ONE, [RAW], 'vdb')], s2=[lvm])
    assert update_snapshots(journal, commit([ONE], RAW), BASE, 'p') == []
    assert [one.target for one in journal.snapshots['s1'].disks] == ['vdb']
    assert journal.snapshots['s1'].disks == [record(ONE, [RAW], 'vdb')]
    assert journal.snapshots['s2'].disks[0].volumes == lvm.volumes


# -- qemu-img ---------------------------------------------------------------------------------------------------


def merge(direction: str, top: Source, base: Source | None, child: Source | None = None) -> DiskMerge:
    return DiskMerge('vda', direction, START, top, base, child is None, child, [], [], [], [], [], None, '', '')


def test_qemu_img_of_an_active_layer() -> None:
    [call] = commands(merge(COMMIT, ONE, RAW), 4096)
    assert call == ['commit', '-p', '-f', 'qcow2', '-d', '-r', '4096', '-b', '/i/base', '/i/one']


def test_qemu_img_of_an_intermediate_layer() -> None:
    first, second = commands(merge(COMMIT, ONE, RAW, TWO), 0)
    assert first == ['commit', '-p', '-f', 'qcow2', '-d', '-b', '/i/base', '/i/one']
    assert second == ['rebase', '-q', '-u', '-f', 'qcow2', '-F', 'raw', '-b', '/i/base', '/i/two']


@pytest.mark.parametrize(('base', 'backing'), [(RAW, ['-F', 'raw', '-b', '/i/base']), (None, ['-b', ''])])
def test_qemu_img_of_a_pull(base: Source | None, backing: list[str]) -> None:
    assert commands(merge(PULL, TWO, base), 4096) == [['rebase', '-p', '-f', 'qcow2', *backing, '/i/two']]


def test_result_has_the_names_of_the_contract() -> None:
    result = MergeResult('vda', COMMIT, 1, 0.5, None, ['a'], ['b'], ['a'], 'merged', error='no', warnings=['w'])
    assert list(result.to_dict()) == [
        'target', 'direction', 'bytes', 'seconds', 'modified_disk', 'chain_before', 'chain_after', 'removed', 'state',
    ]  # fmt: skip
