# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""disk_snapshot_info on a host that is made up: which domains it tells of, and what stands in the way of a removal."""

from __future__ import annotations

import types
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _records
from ansible_collections.disksnap.libvirt.plugins.module_utils._disk_snapshot_info import chosen
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._needs import Needs
from ansible_collections.disksnap.libvirt.plugins.module_utils._survey import Survey

pytest.importorskip('libvirt')


def found(*names: str, **unread: DiskSnapError) -> Survey:
    views: Any = [types.SimpleNamespace(uuid=f'u-{name}', name=name) for name in names]
    return Survey(None, None, views, unread)  # type: ignore[arg-type]


def test_the_domains_that_are_told() -> None:
    host = found('db', 'web', bad=DiskSnapError('Failed', why='no such key'))
    assert [view.name for view, _targets in chosen(host, None)] == ['db', 'web']
    [(view, targets)] = chosen(host, {'u-web': ('web', {'vda'})})
    assert (view.name, targets) == ('web', {'vda'})


@pytest.mark.parametrize(('name', 'why'), [('bad', 'no such key'), ('gone', 'went away')])
def test_a_domain_that_is_named_and_cannot_be_read(name: str, why: str) -> None:
    host = found('db', bad=DiskSnapError('Failed', why='no such key', code=1))
    with pytest.raises(DiskSnapError, match=rf'Failed to read the domain \(domain {name}\): .*{why}'):
        chosen(host, {'u-db': ('db', None), f'u-{name}': (name, None)})


# -- what stands in the way -----------------------------------------------------------------------------------------


def needs(method: str, path: str, users: dict[str, set[str]], above: dict[str, set[str]], **more: Any) -> list[str]:
    """What is in the way of a copy at a path."""
    storage = types.SimpleNamespace(canonical=lambda name: name.replace('/link/', '/i/'))
    findings: Any = types.SimpleNamespace(
        survey=types.SimpleNamespace(host=types.SimpleNamespace(local=True), storage=storage), at_work=set()
    )
    view: Any = types.SimpleNamespace(uuid='u', name='web', jobs={}, journal=_records.Journal(), foreign=[], disks=[])
    source = _records.BackupSource(xml='<source/>', type='file', path=path, format='raw')
    volumes = [_records.Volume(path=path, name='s1', format='raw')]
    disk = _records.DiskRecord('vda', method, '', '<disk/>', None, source, volumes, **more)
    record = _records.SnapshotRecord('s1', _records.PRESENT, '', '', disks=[disk])
    return Needs(findings, users, above).of(view, record)


@pytest.mark.parametrize('method', ['reflink', 'lvm', 'btrfs'])
def test_a_copy(method: str) -> None:
    users = {'/i/s1': {'restored'}, '/i/s10': {'another'}}
    assert needs(method, '/link/s1', users, {'/i/s1': {'/i/clone'}}) == [
        'The domain restored uses /link/s1.',
        '/i/clone stands on /link/s1.',
    ]
    assert needs(method, '/link/s1', {'/i/s10': {'another'}}, {}) == []


def test_what_is_in_a_subvolume() -> None:
    users = {'/i/s1/web/vda': {'restored'}, '/i/s1.x': {'another'}}
    above = {'/i/s1/base': {'/i/s1/web/vda', '/i/clone'}, '/i/s0/base': {'/i/more'}}
    assert needs('btrfs', '/i/s1', users, above) == [
        '/i/clone stands on /i/s1/base.',
        'The domain restored uses /i/s1/web/vda.',
    ]


@pytest.mark.parametrize('gone', [False, True])
def test_what_a_storage_array_has(gone: bool) -> None:
    assert [text for text in needs('array', '/i/lun', {}, {}, gone=gone) if 'only the role fleet_snapshot' in text] == (
        [] if gone else needs('array', '/i/lun', {}, {})
    )
