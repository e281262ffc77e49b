# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tasks of storage_quiesce over made-up guests: what they recognise, adopt, put back, and say."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import typing as t
from types import SimpleNamespace

import libvirt
import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _agent, _hold, _journal, _records
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._quiesce import Terms
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    Journal,
    QuiesceRecord,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import Request

TERMS = Terms(presync=False)


class FakeGuest:
    """A running guest with /a on vda and /b on vdb. ``answers`` is whether its agent does."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.file_systems = ['/a', '/b']
        self.frozen = 0
        self.answers = True
        self.record: QuiesceRecord | None = None
        self.asked_for: t.Any = None

    def name(self) -> str:
        return self._name

    def UUIDString(self) -> str:
        return f'uuid-{self._name}'

    def connect(self) -> FakeGuest:
        return self

    def isAlive(self) -> bool:
        return True

    def isActive(self) -> bool:
        return True

    def isPersistent(self) -> bool:
        return False

    def agentSetResponseTimeout(self, seconds: int) -> None:
        pass

    def ask(self) -> None:
        """Fail where the agent does."""
        if not self.answers:
            raise libvirt.libvirtError('the agent does not answer')

    def fsInfo(self, flags: int) -> list[t.Any]:
        self.ask()
        if self.frozen:
            raise libvirt.libvirtError('the file systems are frozen')
        return [(f'/{name}', name, 'ext4', [f'vd{name}']) for name in ('a', 'b')]

    def fsFreeze(self, mountpoints: t.Any, flags: int) -> int:
        self.ask()
        self.asked_for = mountpoints
        self.frozen = len([one for one in self.file_systems if not mountpoints or one in mountpoints])
        return self.frozen

    def fsThaw(self, mountpoints: t.Any, flags: int) -> int:
        self.ask()
        thawed, self.frozen = self.frozen, 0
        return thawed


def command(guest: FakeGuest, text: str, timeout: int, flags: int) -> str:
    """What the agent of a made-up guest answers."""
    guest.ask()
    answers: dict[str, t.Any] = {
        'guest-fsfreeze-status': 'frozen' if guest.frozen else 'thawed',
        'guest-get-fsinfo': [{'mountpoint': one} for one in guest.file_systems],
        'guest-info': {'supported_commands': []},
    }
    return json.dumps({'return': answers[json.loads(text)['execute']]})


class FakeWatchdog:
    """The task's watchdog. ``fails`` is whether it refuses to hold."""

    pid = start = 0

    def __init__(self) -> None:
        self.fails = False
        self.held: str | None = None
        self.stuck: list[str] | None = None

    def arm(self, uuids: t.Sequence[str], max_frozen: float, agent_timeout: float) -> None:
        pass

    def disarm(self, *, stuck: t.Sequence[str] = ()) -> dict[str, t.Any]:
        self.stuck = list(stuck)
        return {}

    def hold(self, token: str) -> None:
        if self.fails:
            raise DiskSnapError('Failed to reach the watchdog')
        self.held = token


class Bench:
    """A host with the guests one and two."""

    def __init__(self) -> None:
        self.one, self.two = FakeGuest('one'), FakeGuest('two')
        self.watchdog = FakeWatchdog()
        self.locked = False

    def domain(self, name: str) -> t.Any:
        """By name or UUID."""
        guest = {'one': self.one, 'two': self.two}[name.replace('uuid-', '')]
        disks = [SimpleNamespace(target=target) for target in ('vda', 'vdb')]
        return SimpleNamespace(
            handle=guest,
            name=guest.name(),
            uuid=guest.UUIDString(),
            state='running',
            live=True,
            read=lambda: SimpleNamespace(disks=disks),
        )

    def freeze(
        self, *names: str, policy: str = 'required', check: bool = False, disks: t.Any = None, **terms: t.Any
    ) -> dict[str, t.Any]:
        """The task."""
        requests = [Request(name, disks) for name in names]
        watchdog: t.Any = None if check else self.watchdog
        terms = {'presync': False, **terms}
        return _hold.freeze(t.cast(t.Any, self), requests, Terms(**terms), policy, watchdog, check=check)

    def thaw(self, *names: str, check: bool = False) -> dict[str, t.Any]:
        """The task."""
        return _hold.thaw(t.cast(t.Any, self), [Request(name, None) for name in names], TERMS, check=check)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Guests that are not frozen, agents that answer here, and journals that are kept here."""
    made = Bench()

    @contextlib.contextmanager
    def locked(domains: t.Any, *, wait: float) -> t.Iterator[None]:
        made.locked = True
        yield
        made.locked = False

    def load(guest: FakeGuest) -> Journal:
        return Journal(quiesce=QuiesceRecord(**vars(guest.record)) if guest.record is not None else None)

    def store(guest: FakeGuest, record: QuiesceRecord | None) -> None:
        guest.record = QuiesceRecord(**vars(record)) if record is not None else None

    monkeypatch.setattr(_hold, 'locked', locked)
    monkeypatch.setattr(_hold, 'find_disk', lambda _disks, target, _name: SimpleNamespace(target=target))
    monkeypatch.setattr(_journal, 'load', load)
    monkeypatch.setattr(_journal, 'store_quiesce', store)
    monkeypatch.setattr(_agent, 'libvirt_qemu', SimpleNamespace(qemuAgentCommand=command))
    monkeypatch.setattr('ansible_collections.disksnap.libvirt.plugins.module_utils._quiesce.state_of', running)
    return made


def running(_guest: FakeGuest) -> str:
    """The state of each."""
    return 'running'


def freeze_before(guest: FakeGuest, host: str | None = None) -> QuiesceRecord:
    """An earlier task has frozen it; its watchdog is this process."""
    guest.frozen = 2
    guest.record = QuiesceRecord(
        _records.FROZEN,
        'before',
        '2026-01-01T00:00:00.000Z',
        filesystems=2,
        max_frozen=60,
        boot_id=_records.boot_id(),
        watchdog_host=host or socket.gethostname(),
        watchdog_pid=os.getpid(),
        watchdog_start=_records.process_start(os.getpid()),
    )
    return QuiesceRecord(**vars(guest.record))


# -- the record of a guest that something else froze --------------------------------------------------------------


@pytest.mark.parametrize('fault', ['silent', 'fewer'])
def test_a_task_that_fails_leaves_the_record_by_which_another_watchdog_goes(bench: Bench, fault: str) -> None:
    before = freeze_before(bench.one, 'elsewhere')
    bench.two.answers = fault != 'silent'
    bench.two.file_systems = ['/a']

    with pytest.raises(DiskSnapError, match='domain two'):
        bench.freeze('one', 'two', mountpoints=('/a', '/b'))

    assert bench.one.record == before
    assert bench.one.frozen
    assert bench.two.record is None
    assert not bench.two.frozen
    assert bench.watchdog.stuck == []


def test_a_guest_that_was_adopted_is_thawed_where_the_watchdog_does_not_hold_it(bench: Bench) -> None:
    """The other watchdog may have seen that the record is not its own, and have ended."""
    before = freeze_before(bench.one, 'elsewhere')
    bench.watchdog.fails = True

    with pytest.raises(DiskSnapError, match='watchdog'):
        bench.freeze('one', 'two')

    assert not bench.one.frozen
    assert not bench.two.frozen
    assert bench.one.record == before
    assert bench.two.record is None


def test_adopts_a_guest_of_another_machine(bench: Bench) -> None:
    freeze_before(bench.one, 'elsewhere')

    result = bench.freeze('one')

    assert result['changed'] is True
    assert 'frozen already' in result['warnings'][0]
    assert bench.one.record is not None
    assert bench.one.record.token == bench.watchdog.held
    assert bench.one.record.watchdog_host == socket.gethostname()


def test_a_guest_thawed_while_it_is_adopted_is_not_said_to_be_frozen(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = freeze_before(bench.one, 'elsewhere')
    store = _journal.store_quiesce

    def thawed_by_then(guest: FakeGuest, record: QuiesceRecord | None) -> None:
        guest.frozen = 0
        store(guest, record)

    monkeypatch.setattr(_journal, 'store_quiesce', thawed_by_then)

    with pytest.raises(DiskSnapError, match=r'domain one.*thawed it meanwhile'):
        bench.freeze('one')

    assert bench.one.record == before


def test_reads_the_journals_under_the_lock(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    load = _journal.load

    def loaded(guest: t.Any) -> Journal:
        assert bench.locked
        return load(guest)

    monkeypatch.setattr(_journal, 'load', loaded)

    bench.freeze('one', 'two')


# -- a guest that an earlier task froze -----------------------------------------------------------------------------


@pytest.mark.parametrize('check', [False, True])
def test_recognises_a_guest_that_an_earlier_task_froze(bench: Bench, check: bool) -> None:
    before = freeze_before(bench.one)

    result = bench.freeze('one', check=check, disks=[{'target': 'vda'}])

    assert result['changed'] is False
    assert result['domains'][0]['state'] == 'quiesced'
    assert bench.one.record == before


@pytest.mark.parametrize('check', [False, True])
def test_freezes_anew_what_the_record_only_says_is_frozen(bench: Bench, check: bool) -> None:
    freeze_before(bench.one)
    bench.one.frozen = 0

    result = bench.freeze('one', check=check)

    assert result['changed'] is True
    assert bench.one.frozen == (0 if check else 2)


# -- preferred ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('check', [False, True])
def test_preferred_with_disks_goes_on_without_a_guest_that_does_not_answer(bench: Bench, check: bool) -> None:
    bench.one.answers = False

    result = bench.freeze('one', 'two', policy='preferred', disks=[{'target': 'vda'}], check=check)

    assert [domain['state'] for domain in result['domains']] == ['thawed', 'quiesced']
    assert [domain['filesystems'] for domain in result['domains']] == [0, 1]
    assert result['changed'] is True
    assert len(result['warnings']) == 1
    assert check or bench.two.asked_for == ['/a']


@pytest.mark.parametrize('check', [False, True])
def test_preferred_with_nobody_frozen_is_not_a_change(bench: Bench, check: bool) -> None:
    bench.one.answers = False

    assert bench.freeze('one', policy='preferred', check=check)['changed'] is False


def test_preferred_thaws_a_guest_that_froze_less_than_was_asked(bench: Bench) -> None:
    bench.one.file_systems = ['/a']

    result = bench.freeze('one', 'two', policy='preferred', mountpoints=('/a', '/b'))

    assert [domain['state'] for domain in result['domains']] == ['thawed', 'quiesced']
    assert not bench.one.frozen
    assert bench.one.record is None
    assert bench.two.frozen


def test_one_domain_by_name_and_by_uuid_is_refused(bench: Bench) -> None:
    for task in (bench.freeze, bench.thaw):
        with pytest.raises(DiskSnapError, match='more than once'):
            task('one', 'uuid-one')


# -- thawed ---------------------------------------------------------------------------------------------------------


def thaw_both_ways(bench: Bench, *names: str) -> tuple[dict[str, t.Any], dict[str, t.Any]]:
    """What check mode says, and what then comes of it; DiskSnapError's result where they fail."""
    results = []
    for check in (True, False):
        try:
            results.append(bench.thaw(*names, check=check))
        except DiskSnapError as error:
            results.append({**error.result, 'failed': True})
    return results[0], results[1]


def test_thawed_says_which_did_not_thaw(bench: Bench) -> None:
    bench.freeze('one', 'two')
    bench.one.answers = False

    predicted, real = thaw_both_ways(bench, 'one', 'two')

    for result in (predicted, real):
        assert result['failed']
        assert result['changed'] is True
        assert [domain['state'] for domain in result['domains']] == ['quiesced', 'thawed']


def test_a_guest_that_thawed_a_part_itself_was_not_thawed_by_the_module(bench: Bench) -> None:
    bench.freeze('one')
    bench.one.frozen = 1

    result = bench.thaw('one')

    assert result['domains'][0]['thawed_by'] == 'guest'
    [warning] = result['warnings']
    assert 'not file-system consistent' in warning


@pytest.mark.parametrize('before', ['frozen', 'guest', 'watchdog', 'foreign', 'nothing', 'silent'])
def test_check_mode_predicts_the_thaw(bench: Bench, before: str) -> None:
    if before in ('frozen', 'guest', 'watchdog'):
        bench.freeze('one')
    if before in ('guest', 'watchdog'):
        bench.one.frozen = 0
    if before == 'watchdog':
        assert bench.one.record is not None
        _records.end_quiesce(bench.one.record, 'watchdog')
    if before == 'foreign':
        bench.one.frozen = 2
    bench.one.answers = before != 'silent'

    predicted, real = thaw_both_ways(bench, 'one')

    assert predicted['changed'] is real['changed'] is (before not in ('nothing', 'silent'))
    thawed_by = {'frozen': 'module', 'guest': 'guest', 'watchdog': 'watchdog', 'foreign': 'module'}.get(before)
    assert predicted['domains'][0]['thawed_by'] == real['domains'][0]['thawed_by'] == thawed_by
    assert [len(result['warnings']) for result in (predicted, real)] == [before in ('guest', 'watchdog', 'silent')] * 2
    assert bench.thaw('one')['changed'] is False
