# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""disk_snapshot, state absent, on a host that is made up: what comes before and after the merges."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _faults, _remove, _snapshot_merge
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    PREPARING,
    PRESENT,
    REMOVING,
    BackupSource,
    DiskRecord,
    Journal,
    SnapshotRecord,
    Volume,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import Request

pytest.importorskip('libvirt')


class OneDomain:
    """A host that has one domain, by whatever name, and no pool."""

    connection = None
    pools = types.SimpleNamespace(volume=lambda _path: None)

    def domain(self, _name: str) -> Domain:
        return Domain(self, None, 'web', 'u')  # type: ignore[arg-type]


@pytest.fixture
def remove() -> Callable[..., dict[str, Any]]:
    def call(*names: str, timeout: float = 60.0, check: bool = False) -> dict[str, Any]:
        wanted = [Request(name, None) for name in names]
        return _remove.remove(OneDomain(), wanted, 'nightly', timeout=timeout, check=check)  # type: ignore[arg-type]

    return call


@pytest.mark.parametrize('check', [False, True])
def test_one_domain_by_two_names(remove: Callable[..., dict[str, Any]], check: bool) -> None:
    with pytest.raises(DiskSnapError, match='more than once'):
        remove('web', '0e8a3c4a-0000-4000-8000-000000000000', check=check)


@pytest.mark.parametrize('timeout', [0, -1])
def test_no_time(remove: Callable[..., dict[str, Any]], timeout: float) -> None:
    with pytest.raises(DiskSnapError, match='must be above 0'):
        remove('web', timeout=timeout)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A journal, a lock that takes 40 seconds, and no merges: what is asked of them is noted."""
    clock = Clock()
    noted: dict[str, Any] = {'journal': Journal(), 'specs': [], 'order': []}

    @contextlib.contextmanager
    def work_on(_domains: Any, *, wait: float) -> Iterator[None]:
        noted['wait'] = wait
        clock.now += 40
        yield

    def settle(pairs: Any) -> list[str]:
        noted['order'].append('settle')
        undone = [name for name, one in noted['journal'].snapshots.items() if one.state == PREPARING]
        for name in undone:
            del noted['journal'].snapshots[name]
        return [f'{name} was undone' for name in undone]

    def plan_all(wanted: Any, options: Any, _users: Any = None) -> list[Any]:
        noted['order'].append('plan')
        noted['specs'] += [specs for _domain, specs in wanted]
        noted['timeout'] = options.timeout
        return []

    for module in (_remove, _snapshot_merge):
        monkeypatch.setattr(module, 'work_on', work_on)
        monkeypatch.setattr(module, 'settle', settle)
        monkeypatch.setattr(module._merge, 'plan_all', plan_all)
    noted['users'] = {}
    users = types.SimpleNamespace(of_all=lambda path: noted['users'].get(path, {}))
    monkeypatch.setattr(_remove._chain, 'Users', lambda _connection, _pools: users)
    monkeypatch.setattr(_remove, 'time', clock)
    monkeypatch.setattr(_remove._journal, 'load', lambda _handle: noted['journal'])
    return noted


def half(name: str) -> SnapshotRecord:
    return SnapshotRecord(name, PREPARING, '2026-01-01T00:00:00.000Z', 'g')


def test_the_wait_for_the_lock_is_part_of_the_time(
    remove: Callable[..., dict[str, Any]], world: dict[str, Any]
) -> None:
    assert not remove('web', timeout=60)['changed']
    assert (world['wait'], world['timeout']) == (60, 20)
    assert world['order'] == ['settle', 'plan']


@pytest.mark.parametrize('name', ['nightly', 'other'])
@pytest.mark.parametrize('check', [False, True])
def test_undoing_what_a_run_left_is_a_change(
    remove: Callable[..., dict[str, Any]], world: dict[str, Any], name: str, check: bool
) -> None:
    world['journal'].snapshots[name] = half(name)
    result = remove('web', check=check)
    assert result['changed']
    assert [one['created_at'] is None for one in result['domains']] == [name != 'nightly']
    assert len(result['warnings']) == 1
    assert name in result['warnings'][0]
    assert not world['specs']


@pytest.mark.parametrize('check', [False, True])
@pytest.mark.parametrize('ends', [{'snapshot_name': 'nightly', 'top': None, 'base': None}])
def test_merge_of_a_half_taken_snapshot(world: dict[str, Any], ends: dict[str, Any], check: bool) -> None:
    world['journal'].snapshots['nightly'] = half('nightly')
    domain = OneDomain().domain('web')
    options = _snapshot_merge.MergeOptions()
    outcome = _snapshot_merge._merge_all([domain], [Request('web', None)], ends, options, check=check)
    assert outcome['changed']
    assert len(outcome['warnings']) == 1
    assert world['specs'] == [[]]
    assert (
        not _snapshot_merge._merge_all([domain], [Request('web', None)], ends, options, check=False)['changed'] or check
    )


def test_the_group_of_a_half_taken_snapshot_goes_with_it(world: dict[str, Any]) -> None:
    whole = SnapshotRecord('nightly', PRESENT, '', 'g')
    world['journal'].snapshots = {
        'other': half('other'),
        'nightly': whole,
        'older': SnapshotRecord('o', PRESENT, '', 'h'),
    }
    domain = OneDomain().domain('web')
    assert [one.name for one in _remove.unsettled([(domain, world['journal'])])['u']] == ['other', 'nightly']


# -- copies ---------------------------------------------------------------------------------------------------------


class Copies:
    """A method that copies. ``gone`` are targets that the storage has lost, ``bad`` those that are of no use."""

    name, copies = 'lvm', True

    def __init__(self) -> None:
        self.by_play = False
        self.gone: set[str] = set()
        self.bad: set[str] = set()
        self.stuck: set[str] = set()
        self.removed: list[str] = []

    def present(self, _domain: Any, record: DiskRecord) -> bool:
        return record.target not in self.gone

    def fault(self, _domain: Any, record: DiskRecord) -> str | None:
        return 'it has overflowed' if record.target in self.bad else None

    def remove(self, _domain: Any, records: list[DiskRecord]) -> None:
        for record in records:
            if record.target in self.stuck:
                raise DiskSnapError('Failed to delete', disk=record.target, why='it is open')
            self.removed.append(record.target)


@pytest.fixture
def copies(world: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Copies:
    """The snapshot nightly of two disks, both copied."""
    method = Copies()
    source = BackupSource(xml='<source/>', type='block', path='/dev/vg/s', format='raw')
    disks = [
        DiskRecord(target, 'lvm', '<diskSnapshot/>', '<disk/>', None, source, [Volume(f'/dev/vg/{target}', 's', 'raw')])
        for target in ('vda', 'vdb')
    ]
    world['journal'].snapshots['nightly'] = SnapshotRecord('nightly', PRESENT, '', 'g', disks=disks)
    world['states'] = []
    for module in (_remove, _faults):
        monkeypatch.setattr(module, 'method_of', lambda _name: method)
    monkeypatch.setattr(
        _remove._journal,
        'store',
        lambda _handle, journal: world['states'].append(
            [(one.state, len(one.disks)) for one in journal.snapshots.values()]
        ),
    )
    return method


def test_copies_are_deleted(remove: Callable[..., dict[str, Any]], world: dict[str, Any], copies: Copies) -> None:
    result = remove('web')

    assert result['changed']
    assert copies.removed == ['vda', 'vdb']
    assert not world['journal'].snapshots
    assert world['states'][0] == [(REMOVING, 2)], 'the journal says so first'
    assert '/dev/vg/vda' in result['diff']['before']
    assert '/dev/vg/vda' not in result['diff']['after']
    assert not world['specs']


def test_check_mode_deletes_no_copy(
    remove: Callable[..., dict[str, Any]], world: dict[str, Any], copies: Copies
) -> None:
    result = remove('web', check=True)

    assert result['changed']
    assert not copies.removed
    assert not world['states']
    assert '/dev/vg/vda' in result['diff']['before']


def test_a_copy_that_is_gone_is_forgotten(
    remove: Callable[..., dict[str, Any]], world: dict[str, Any], copies: Copies
) -> None:
    copies.gone = {'vda'}

    result = remove('web')

    assert copies.removed == ['vdb']
    assert not world['journal'].snapshots
    assert any('vda' in text and 'lost' in text for text in result['warnings'])


def test_a_copy_that_was_of_no_use_is_deleted_and_named(
    remove: Callable[..., dict[str, Any]], world: dict[str, Any], copies: Copies
) -> None:
    copies.bad = {'vdb'}

    result = remove('web')

    assert copies.removed == ['vda', 'vdb']
    assert any('vdb' in text and 'overflowed' in text for text in result['warnings'])


def test_what_cannot_be_deleted_stays_in_the_journal(
    remove: Callable[..., dict[str, Any]], world: dict[str, Any], copies: Copies
) -> None:
    copies.stuck = {'vdb'}

    with pytest.raises(DiskSnapError, match=r'disk vdb.*open') as failed:
        remove('web')

    assert failed.value.result['changed']
    assert world['journal'].snapshots['nightly'].state == REMOVING


@pytest.mark.parametrize('check', [False, True])
def test_a_copy_that_somebody_stands_on_is_not_deleted(
    remove: Callable[..., dict[str, Any]], world: dict[str, Any], copies: Copies, check: bool
) -> None:
    world['users']['/dev/vg/vdb'] = {'/dev/vg/vdb': ['the domain restored', '/i/clone']}

    with pytest.raises(DiskSnapError, match=r'web, disk vdb\): /dev/vg/vdb, .* by the domain restored, /i/cl'):
        remove('web', check=check)

    assert not copies.removed
    assert not world['states'], 'nothing was written'


def test_what_an_array_has_is_refused_before_anything_is_written(
    remove: Callable[..., dict[str, Any]], world: dict[str, Any], copies: Copies
) -> None:
    copies.by_play = True

    with pytest.raises(DiskSnapError, match=r'web, disk vda\): a storage array has it.*role fleet_snapshot'):
        remove('web')
    assert not copies.removed
    assert not world['states']
    assert world['journal'].snapshots['nightly'].state == PRESENT

    foretold = remove('web', check=True)
    assert foretold['changed']
    assert [text for text in foretold['warnings'] if 'vda' in text and 'only the role fleet_snapshot' in text]


@pytest.mark.parametrize(('but', 'count'), [(None, 1), ('nightly', 0)])
def test_every_task_says_which_copy_is_of_no_use(
    but: str | None, count: int, world: dict[str, Any], copies: Copies
) -> None:
    copies.bad = {'vdb'}

    warnings = _faults.useless(OneDomain().domain(''), world['journal'], but=but)

    assert len(warnings) == count
    assert all('vdb' in text and 'overflowed' in text and 'state: absent' in text for text in warnings)
