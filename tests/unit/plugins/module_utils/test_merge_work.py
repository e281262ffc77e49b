# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Merges under way on canned domains: what is noted, put back, and told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _journal, _merge_live
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_live import LiveWork
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_model import (
    FOLLOW,
    START,
    DiskMerge,
    MergeOptions,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_offline import OfflineWork
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    PRESENT,
    REMOVING,
    BackupSource,
    DiskRecord,
    Journal,
    MergeRecord,
    SnapshotRecord,
    Volume,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import DomainXml, Source, read_domain

pytest.importorskip('libvirt')

TOP, BASE = '/i/top', '/i/base'


def disk_xml(*layers: str, closed: bool = True) -> str:
    below = '<backingStore/>' if closed else ''
    for path in layers[:0:-1]:
        below = f'<backingStore type="file"><format type="qcow2"/><source file="{path}"/>{below}</backingStore>'
    return (
        '<disk type="file" device="disk"><driver name="qemu" type="qcow2"/>'
        f'<source file="{layers[0]}"/>{below}<target dev="vda"/></disk>'
    )


def merge(todo: str = START, snapshots: tuple[str, ...] = ()) -> DiskMerge:
    """The commit of the active layer into the one below."""
    return DiskMerge(
        'vda', 'commit', todo, Source('file', 'qcow2', TOP), Source('file', 'qcow2', BASE), True, None,
        [TOP], [TOP], [], [TOP, BASE], [BASE], TOP, disk_xml(TOP, closed=False), disk_xml(BASE, closed=False),
        snapshots=list(snapshots),
    )  # fmt: skip


class Domain:
    """As much of a domain as a work asks for."""

    name = 'web'
    live = True
    handle: Any = None


@pytest.mark.parametrize('kind', [LiveWork, OfflineWork])
def test_one_warning_of_a_merge_that_is_left(kind: type[LiveWork] | type[OfflineWork]) -> None:
    for overdue, warnings in ((True, 1), (False, 0)):
        work = kind(Domain(), merge(), MergeOptions())  # type: ignore[arg-type]
        work.leave(overdue=overdue)
        work.leave(overdue=overdue)
        assert len(work.warnings) == warnings


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Journal:
    found = Journal()
    monkeypatch.setattr(_journal, 'load', lambda _handle: found)
    monkeypatch.setattr(_journal, 'store', lambda _handle, _journal: None)
    return found


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_merge_live._blockjob, 'set_bandwidth', lambda *_ignored: None)
    monkeypatch.setattr(_merge_live._blockjob, 'look', lambda *_ignored: None)


def snapshot() -> SnapshotRecord:
    source = BackupSource('<source/>', 'file', BASE, 'qcow2')
    return SnapshotRecord(
        'nightly',
        PRESENT,
        '',
        'g',
        disks=[DiskRecord('vda', 'qemu', '', '', None, source, [Volume(TOP, 'top', 'qcow2')])],
    )


@pytest.mark.usefixtures('job')
def test_a_job_of_someone_else_is_noted_before_it_is_driven_on(journal: Journal) -> None:
    journal.snapshots['nightly'] = snapshot()
    LiveWork(Domain(), merge(FOLLOW, ('nightly',)), MergeOptions())._begin()  # type: ignore[arg-type]
    assert journal.merges['vda'].chain_before == [TOP, BASE]
    assert journal.snapshots['nightly'].state == REMOVING


@pytest.mark.usefixtures('job')
def test_a_job_that_is_noted_keeps_its_record(journal: Journal) -> None:
    record = journal.merges['vda'] = MergeRecord('vda', 'commit', BASE, TOP, True, ['/i/higher', TOP, BASE], [TOP])
    LiveWork(Domain(), merge(FOLLOW), MergeOptions())._begin()  # type: ignore[arg-type]
    assert journal.merges['vda'] is record


class Host:
    """It has one domain, which somebody starts in the instant before or after it is defined anew."""

    def __init__(self, started: str) -> None:
        self.started, self.running = started, ''
        self.lasting = f'<domain><name>web</name><devices>{disk_xml(TOP, closed=False)}</devices></domain>'
        self.connection = self.pools = self.host = self
        self.handle = SimpleNamespace(name=lambda: 'web', XMLDesc=lambda _flags: self.lasting)

    name = 'web'

    @property
    def live(self) -> bool:
        return bool(self.running)

    def read(self) -> DomainXml:
        return read_domain(self.running or self.lasting)

    def defineXML(self, xml: str) -> None:
        if self.started and not self.running:
            chain = [TOP, BASE] if self.started == 'before' else [BASE]
            self.running = f'<domain><name>web</name><devices>{disk_xml(*chain)}</devices></domain>'
        self.lasting = xml


def defined(host: Host) -> str:
    source = read_domain(host.lasting).disks[0].source
    assert source is not None
    return source.key


@pytest.mark.parametrize('started', ['', 'after'])
def test_definition_names_the_base_on_which_the_domain_was_started(started: str) -> None:
    host = Host(started)
    OfflineWork(host, merge(), MergeOptions())._define()  # type: ignore[arg-type]
    assert defined(host) == BASE


def test_definition_is_put_back_for_a_domain_that_runs_on_its_overlay() -> None:
    host = Host('before')
    with pytest.raises(DiskSnapError, match='started meanwhile'):
        OfflineWork(host, merge(), MergeOptions())._define()  # type: ignore[arg-type]
    assert defined(host) == TOP
