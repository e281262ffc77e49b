# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Somebody destroys, undefines, pauses or thaws the guest in the middle of a task: just before one of its calls.

The task ends well or with one sentence. Once the guest is as it should be again, the same task settles what the first
one left, and ends in what was asked for; the files are sound, and nothing is left over.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.disksnap.libvirt.tests.live.harness import (
    Guests,
    Runner,
    chain,
    frozen,
    journal,
    ready,
    until,
    watchdogs,
)
from ansible_collections.disksnap.libvirt.tests.sweep.modules import Modules
from ansible_collections.disksnap.libvirt.tests.sweep.operations import (
    MAX_FROZEN,
    Operation,
    Task,
    gone,
    pulled,
    quiesced,
    reverted,
    taken,
    thawed,
)
from ansible_collections.disksnap.libvirt.tests.sweep.points import Point, whole
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab

NEAR = GuestSpec('near', disks=[DiskSpec(), DiskSpec(kind='volume')], writer_period_ms=50)
NAMED = {'name': 'near', 'snapshot_name': ''}
TAKE: Task = ('disk_snapshot', {**NAMED, 'max_frozen': MAX_FROZEN, 'quiesce': 'required'})
REMOVE: Task = ('disk_snapshot', {**NAMED, 'state': 'absent'})
FREEZE: Task = ('storage_quiesce', {'name': 'near', 'state': 'quiesced', 'max_frozen': MAX_FROZEN})
THAW: Task = ('storage_quiesce', {'name': 'near', 'state': 'thawed'})
BACK: Task = ('disk_snapshot', {**NAMED, 'state': 'reverted', 'force': True})
COMMIT: Task = ('snapshot_merge', NAMED)
PULL: Task = ('snapshot_merge', {**NAMED, 'direction': 'pull'})

OPERATIONS = {
    one.name: one
    for one in (
        Operation('snapshot', (NEAR,), TAKE, taken, after=(REMOVE,)),
        Operation('quiesce', (NEAR,), FREEZE, quiesced, after=(THAW,)),
        Operation('thaw', (NEAR,), THAW, thawed, before=(FREEZE,)),
        Operation('absent', (NEAR,), REMOVE, gone, before=(TAKE,)),
        Operation('commit', (NEAR,), COMMIT, gone, before=(TAKE,)),
        Operation('reverted', (NEAR,), BACK, reverted, before=(TAKE,), after=(REMOVE,)),
        Operation('pull', (NEAR,), PULL, pulled, before=(TAKE,), renames=True),  # last: the disks are others after it
    )
}
# calls by their names, and which of that name
DESTROYED = {
    'snapshot': ['virDomainSnapshotCreateXML:1', 'virDomainFSThaw:1'],
    'quiesce': ['virDomainSetMetadata:2'],
    'thaw': ['virDomainFSThaw:1'],
    'absent': ['virDomainBlockCommit:2', 'virDomainBlockJobAbort:1'],
    'reverted': ['virDomainSetMetadata:4'],
    'pull': ['virDomainBlockPull:2'],
}
UNDEFINED = {
    'snapshot': ['virDomainSnapshotCreateXML:1', 'virDomainSetMetadata:3'],
    'quiesce': ['virDomainFSFreeze:1'],
    'thaw': ['virDomainSetMetadata:1'],
    'commit': ['virDomainBlockCommit:1', 'virDomainBlockJobAbort:1'],
    'reverted': ['virDomainDestroyFlags:1', 'virStorageVolCreateXML:1'],
    'pull': ['virStorageVolDelete:1'],
}


@pytest.fixture(scope='module')
def near(shared: Guests) -> Guest:
    """The guest that all of it happens to."""
    return shared(NEAR)


@pytest.fixture(scope='module')
def modules(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Modules]:
    with Modules(lab, tmp_path_factory.mktemp('neighbours')) as modules:
        yield modules


# what was pulled keeps the file of its snapshot, so none is named twice
_FIRST = itertools.count(100, 100)


class Meeting(Point):
    """Points at which somebody else runs a command, of which the module knows nothing."""

    def __init__(self, lab: Lab, guest: Guest, operation: Operation, modules: Modules, scratch: Path) -> None:
        super().__init__(lab, [guest], replace(operation, restarts=True), modules)
        self._saved, self._was = scratch / 'saved.xml', scratch / 'state'
        virsh = f'virsh -q -c {lab.uri}'
        save = f'{virsh} dumpxml --inactive --security-info near > {self._saved}; {virsh} domstate near > {self._was}'
        self._commands = {'destroy': f'{virsh} destroy near', 'undefine': f'{save}; {virsh} undefine near'}
        self._argv: list[str] = []
        self._call = ''
        self._snapshot = next(_FIRST)

    def meet(self, command: str, call: str) -> list[str]:
        """Have the command run at this call; what is wrong afterwards."""
        self._call, self._argv = call, ['sh', '-c', self._commands[command]]
        return self.run(0, 'run').problems

    def _harmed(self, number: int, fault: str) -> list[str]:
        module, options = self._operation.task
        said = json.loads(self._modules.harmed(module, self._named(options), self._call, fault, self._argv))
        print(self._call, said.get('msg', 'ended well'), said.get('warnings'))
        assert '\n' not in said.get('msg', '').strip(), said
        name, _colon, which = self._call.partition(':')
        calls = self._modules.calls()
        assert calls.count(name) >= int(which), 'the call was not reached'
        return calls

    def _go_on(self) -> None:
        """What an operator does: define the guest again as it is or was, and start it where it is off."""
        [guest] = self._guests
        if guest.state == 'gone':
            assert self._was.read_text(encoding='utf-8').strip() == 'shut off', 'a guest that ran is lost'
            self._lab.connection.defineXML(self._saved.read_text(encoding='utf-8'))
        elif not guest.domain.isPersistent():
            flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
            self._lab.connection.defineXML(guest.domain.XMLDesc(flags))
        if guest.state in ('shutoff', 'crashed'):
            guest.start()
        ready(guest)
        super()._go_on()


def meetings() -> list[Any]:
    """Each operation with each of the two, in the order of the operations."""
    return [
        pytest.param(operation, command, calls[operation.name], id=f'{operation.name}-{command}')
        for operation in OPERATIONS.values()
        for command, calls in (('destroy', DESTROYED), ('undefine', UNDEFINED))
        if operation.name in calls
    ]


@pytest.mark.parametrize(('operation', 'command', 'calls'), meetings())
def test_a_guest_destroyed_or_undefined_in_the_middle(
    operation: Operation,
    command: str,
    calls: list[str],
    near: Guest,
    lab: Lab,
    modules: Modules,
    tmp_path: Path,
) -> None:
    point = Meeting(lab, near, operation, modules, tmp_path)

    for call in calls:
        problems = point.meet(command, call)
        assert not problems, (call, problems)

    assert whole([near], tmp_path) == []


# -- in the window --------------------------------------------------------------------------------------------------

S1 = {'name': 'near', 'snapshot_name': 's1', 'max_frozen': 20}


@pytest.fixture
def in_the_window(near: Guest, modules: Modules, run_module: Runner) -> Iterator[Any]:
    """Takes a snapshot, with a command run while the guest stands still; what the module returned."""

    def take(command: Sequence[str], **options: Any) -> dict[str, Any]:
        call = 'virDomainSnapshotCreateXML:1'
        said: dict[str, Any] = json.loads(modules.harmed('disk_snapshot', {**S1, **options}, call, 'run', command))
        return said

    yield take
    if near.state == 'paused':
        near.domain.resume()
    run_module('disk_snapshot', {**S1, 'state': 'absent'})
    until('the end of all watchdogs', lambda: not watchdogs(), 60)
    assert journal(near) is None


# the last resort of a guest that stands still for too long, as Windows has it by itself
THAW_OFTEN = 'for turn in $(seq 100); do for point in {points}; do fsfreeze --unfreeze $point; done; sleep 0.1; done'


@pytest.mark.parametrize(
    ('quiesce', 'points'), [('required', '/mnt/vda'), ('preferred', '/mnt/vda /mnt/vdb')], ids=['a part', 'all']
)
def test_a_guest_that_thaws_itself_before_its_disks_are_taken(
    quiesce: str, points: str, near: Guest, in_the_window: Any
) -> None:
    """No count of file systems tells it but that of the thaw: the snapshot is never said to be of the file systems."""
    script = THAW_OFTEN.format(points=points)
    pid = near.agent_command('guest-exec', path='/bin/sh', arg=['-c', script])['pid']

    said = in_the_window(['sleep', '2'], quiesce=quiesce)

    near.exec('kill', str(pid))
    if quiesce == 'required':
        assert said['failed']
        assert 'domain near' in said['msg']
        assert 'thawed by the guest itself or someone else' in said['msg']
        assert [len(chain(near, target)) for target in near.disks] == [1, 1]
        assert journal(near) is None
    else:
        [domain] = said['domains']
        assert domain['consistency'] == 'crash'
        assert domain['freeze']['thawed_by'] == 'guest'
        assert any('thawed by the guest itself' in str(warning) for warning in said['warnings'])
        assert [len(chain(near, target)) for target in near.disks] == [2, 2]
    assert not frozen(near)
    near.wait_acked(2)


def test_a_guest_paused_before_its_disks_are_taken(near: Guest, lab: Lab, in_the_window: Any) -> None:
    """Its agent cannot answer the thaw. The task fails and has its disks back; once it runs, the watchdog thaws it."""
    said = in_the_window(['virsh', '-q', '-c', lab.uri, 'suspend', 'near'], quiesce='required')

    assert said['failed']
    assert 'domain near' in said['msg']
    assert 'watchdog' in said['msg']
    assert near.state == 'paused'
    assert [len(chain(near, target)) for target in near.disks] == [1, 1]
    assert journal(near) is None
    assert watchdogs()
    near.domain.resume()
    near.wait_acked(2, timeout=30)
    assert not frozen(near)
