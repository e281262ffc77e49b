# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A group of made-up guests and the watchdog over them: what has not confirmed its thaw is never taken for thawed."""

from __future__ import annotations

import json
import socket
import threading
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import libvirt
import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _agent, _rescue, _watchdog_duty
from ansible_collections.disksnap.libvirt.plugins.module_utils._agent import Agent
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._quiesce import Guest, Quiesce, Terms, side_by_side


class FakeDomain:
    """A guest. ``answers`` is whether its agent does; ``fault`` is what its connection raises.

    ``paused`` is libvirt's reason; ``late`` the number of looks after which a pause that was asked for takes effect.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.frozen = 0
        self.answers = True
        self.active = True
        self.fault: Exception | None = None
        self.paused: int | None = None
        self.late = 0

    def state(self, flags: int = 0) -> list[int]:
        if self.late:
            self.late -= 1
            if not self.late:
                self.paused = libvirt.VIR_DOMAIN_PAUSED_USER
                return [libvirt.VIR_DOMAIN_RUNNING, 1]
        if self.paused is None:
            return [libvirt.VIR_DOMAIN_RUNNING, 1]
        return [libvirt.VIR_DOMAIN_PAUSED, self.paused]

    def resume(self) -> None:
        self.paused = None

    def name(self) -> str:
        return self._name

    def XMLDesc(self, _flags: int) -> str:
        return f'<domain><name>{self._name}</name></domain>'

    def connect(self) -> FakeDomain:
        return self

    def isAlive(self) -> bool:
        if self.fault is not None:
            raise self.fault
        return True

    def isActive(self) -> bool:
        return self.active

    def agentSetResponseTimeout(self, seconds: int) -> None:
        pass

    def _ask(self) -> None:
        if not self.answers:
            raise libvirt.libvirtError('the agent does not answer')

    def fsFreeze(self, mountpoints: t.Any, flags: int) -> int:
        self._ask()
        self.frozen = 1
        return 1

    def fsThaw(self, mountpoints: t.Any, flags: int) -> int:
        self._ask()
        thawed, self.frozen = self.frozen, 0
        return thawed


def command(domain: FakeDomain, text: str, timeout: int, flags: int) -> str:
    """What the agent of a made-up guest answers."""
    domain._ask()
    return json.dumps({'return': 'frozen' if domain.frozen else 'thawed'})


class FakeWatchdog:
    """Notes what is stuck."""

    def __init__(self) -> None:
        self.stuck: list[str] | None = None

    def arm(self, uuids: t.Sequence[str], max_frozen: float, agent_timeout: float) -> None:
        pass

    def disarm(self, *, stuck: t.Sequence[str] = ()) -> dict[str, t.Any]:
        self.stuck = list(stuck)
        return {}


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The private directory, in a place of the test's own."""
    monkeypatch.setattr(_rescue, 'private_directory', lambda: str(tmp_path))


@pytest.fixture(autouse=True)
def agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents that answer here."""
    monkeypatch.setattr(_agent, 'libvirt_qemu', SimpleNamespace(qemuAgentCommand=command))


def guest(domain: FakeDomain) -> Guest:
    """As a task has it."""
    return Guest(domain, domain.name(), f'uuid-{domain.name()}')


# -- side by side -----------------------------------------------------------------------------------------------


def test_an_exception_in_a_thread_is_raised_once_all_have_ended() -> None:
    done = []

    def action(item: int) -> None:
        if item == 1:
            raise ValueError('one')
        time.sleep(0.1)
        done.append(item)

    with pytest.raises(ValueError, match='one'):
        side_by_side(action, [0, 1, 2])

    assert sorted(done) == [0, 2]


@pytest.mark.parametrize('fault', [libvirt.libvirtError('gone'), ValueError('odd')], ids=['libvirt', 'odd'])
@pytest.mark.parametrize('names', ['a', 'a b'])
def test_a_guest_that_cannot_be_asked_is_left_to_the_watchdog(fault: Exception, names: str) -> None:
    guests = [guest(FakeDomain(name)) for name in names.split()]
    watchdog = FakeWatchdog()
    quiesce = Quiesce(t.cast(t.Any, watchdog), Terms())
    quiesce.arm(guests)
    quiesce.freeze(guests)
    guests[0].domain.fault = fault

    if isinstance(fault, ValueError):
        with pytest.raises(ValueError, match='odd'):
            quiesce.finish()
    else:
        quiesce.finish()

    assert watchdog.stuck == ['uuid-a']
    assert 'has not confirmed' in guests[0].warnings[0]
    assert not any(one.domain.frozen for one in guests[1:])


def test_a_guest_that_does_not_answer_is_left_to_the_watchdog() -> None:
    guests = [guest(FakeDomain('a')), guest(FakeDomain('b'))]
    watchdog = FakeWatchdog()
    quiesce = Quiesce(t.cast(t.Any, watchdog), Terms())
    quiesce.arm(guests)
    quiesce.freeze(guests)
    guests[1].domain.answers = False

    quiesce.finish(limit=0)

    assert watchdog.stuck == ['uuid-b']
    assert [one.frozen for one in guests] == [False, True]


def test_a_guest_that_has_stopped_is_not_waited_for_nor_left_to_the_watchdog() -> None:
    one = guest(FakeDomain('a'))
    watchdog = FakeWatchdog()
    quiesce = Quiesce(t.cast(t.Any, watchdog), Terms())
    quiesce.arm([one])
    quiesce.freeze([one])
    one.domain.answers = one.domain.active = False

    quiesce.thaw(one)
    quiesce.finish(limit=60)

    assert watchdog.stuck == []
    assert (one.ended, one.held, one.window_ms, one.thawed_by) == (True, None, None, None)
    assert not any('watchdog' in warning and 'confirmed' in warning for warning in one.warnings)


@pytest.mark.parametrize('left', [0, 1, 2])
def test_a_guest_that_thawed_a_part_itself_was_not_thawed_by_the_module(left: int) -> None:
    one = guest(FakeDomain('a'))
    quiesce = Quiesce(t.cast(t.Any, FakeWatchdog()), Terms())
    quiesce.arm([one])
    quiesce.freeze([one])
    one.filesystems = 2
    one.domain.frozen = left

    quiesce.thaw(one)
    quiesce.finish()

    assert one.held is (left == 2)
    assert one.thawed_by == ('module' if left == 2 else 'guest')


@pytest.mark.parametrize('answer', ['{"retu', '[]', ''])
def test_a_garbled_answer_is_an_error_of_ours(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_agent, 'libvirt_qemu', SimpleNamespace(qemuAgentCommand=lambda *_arguments: answer))

    with pytest.raises(DiskSnapError, match=r'guest-fsfreeze-status.*domain web'):
        Agent(FakeDomain('web'), 1).frozen()


class Unsteady:
    """An agent that does not answer the first times it is asked; each attempt takes as long as it may."""

    def __init__(self, silent: int, monkeypatch: pytest.MonkeyPatch, *, refused: bool = False) -> None:
        self.silent, self.refused, self.now = silent, refused, 100.0
        self.asked: list[int] = []
        monkeypatch.setattr(_agent, 'libvirt_qemu', SimpleNamespace(qemuAgentCommand=self.command))
        monkeypatch.setattr(_agent, 'time', SimpleNamespace(monotonic=lambda: self.now))

    def command(self, _domain: t.Any, _request: str, timeout: int, _flags: int) -> str:
        self.asked.append(timeout)
        if len(self.asked) > self.silent:
            return '{"return": "thawed"}'
        self.now += 0 if self.refused else timeout
        error = libvirt.libvirtError('x')
        error.err = (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, 0, 'not available for now', 2, '', '', '', 0, 0)
        raise error


def test_an_agent_is_asked_again_until_its_timeout_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    patient = Unsteady(2, monkeypatch)
    assert Agent(FakeDomain('web'), 25).frozen() is False
    assert patient.asked == [10, 10, 5]

    tried = Unsteady(3, monkeypatch)
    with pytest.raises(DiskSnapError, match='not available for now'):
        Agent(FakeDomain('web'), 25).frozen()
    assert tried.asked == [10, 10, 5]


def test_an_agent_that_is_not_there_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Unsteady(1, monkeypatch, refused=True)
    with pytest.raises(DiskSnapError):
        Agent(FakeDomain('web'), 25).frozen()
    assert absent.asked == [10]


# -- the watchdog -----------------------------------------------------------------------------------------------


class Talk:
    """The module's end of a watchdog that runs in a thread over made-up guests."""

    def __init__(self, domains: dict[str, FakeDomain], monkeypatch: pytest.MonkeyPatch) -> None:
        connection = SimpleNamespace(
            isAlive=lambda: True, getLibVersion=lambda: 1, lookupByUUIDString=lambda uuid: domains[uuid]
        )
        monkeypatch.setattr(_watchdog_duty, 'open_connection', lambda _uri: connection)
        monkeypatch.setattr(_watchdog_duty, 'RETRY_EVERY', 0.05)
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(5)
        self.thread = threading.Thread(target=_watchdog_duty._Duty('test:///', theirs).serve, daemon=True)
        self.thread.start()

    def say(self, **message: t.Any) -> dict[str, t.Any]:
        """One line and its answer."""
        self.socket.sendall(json.dumps(message).encode() + b'\n')
        return t.cast('dict[str, t.Any]', json.loads(self.socket.recv(65536)))

    def arm(self, *uuids: str, max_frozen: float = 60) -> None:
        """Arm it."""
        assert 'error' not in self.say(do='arm', uuids=uuids, max_frozen=max_frozen, agent_timeout=1)


@pytest.fixture
def domains() -> dict[str, FakeDomain]:
    """Three guests by UUID."""
    return {uuid: FakeDomain(uuid) for uuid in ('a', 'b', 'c')}


@pytest.fixture
def talk(domains: dict[str, FakeDomain], monkeypatch: pytest.MonkeyPatch) -> Iterator[Talk]:
    """A watchdog, which ends with the test."""
    one = Talk(domains, monkeypatch)
    yield one
    one.socket.close()
    for domain in domains.values():
        domain.answers = True
    one.thread.join(5)
    assert not one.thread.is_alive()


def until(truth: t.Callable[[], bool]) -> None:
    """Wait for it, 5 seconds at most."""
    deadline = time.monotonic() + 5
    while not truth():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_listens_while_a_guest_is_stuck(talk: Talk, domains: dict[str, FakeDomain]) -> None:
    talk.arm('a')
    domains['a'].frozen, domains['a'].answers = True, False
    talk.say(do='disarm', stuck=['a'])

    talk.arm('b', max_frozen=0.2)  # the next guest of the task
    domains['b'].frozen = True
    until(lambda: not domains['b'].frozen)

    assert 'b' in talk.say(do='disarm', stuck=[])['thawed']
    assert domains['a'].frozen
    domains['a'].answers = True
    until(lambda: not domains['a'].frozen)


def test_goes_on_with_a_stuck_guest_when_the_module_has_ended(talk: Talk, domains: dict[str, FakeDomain]) -> None:
    talk.arm('a', 'b')
    domains['a'].frozen, domains['a'].answers = True, False
    talk.say(do='disarm', stuck=['a'])
    talk.socket.close()
    time.sleep(0.2)
    assert talk.thread.is_alive()

    domains['a'].answers = True

    until(lambda: not domains['a'].frozen)


@pytest.mark.parametrize('how', ['stuck', 'dies', 'paused'])
def test_who_comes_next_waits_until_the_guest_runs(how: str, talk: Talk, domains: dict[str, FakeDomain]) -> None:
    """Else it would end the next one's freeze or pause, which it cannot tell from that of before."""
    talk.arm('a', 'b')
    domains['a'].frozen, domains['a'].answers = True, False
    if how == 'stuck':
        talk.say(do='disarm', stuck=['a'])
    elif how == 'dies':
        talk.socket.close()
        until(lambda: _rescue.await_end(['b'], patience=0) == set())
    else:
        talk.say(do='disarm', stuck=[])
        talk.say(do='pause', uuids=['a'], limit=60)
        domains['a'].paused = libvirt.VIR_DOMAIN_PAUSED_USER
        talk.say(do='resumed', stuck=['a'])
    until(lambda: _rescue.await_end(['a', 'b'], patience=0) == {'a'})

    domains['a'].answers = True

    assert _rescue.await_end(['a'], patience=5) == set()
    assert not domains['a'].frozen or how == 'paused'
    assert domains['a'].paused is None


def test_a_guest_that_a_watchdog_is_about_to_thaw_is_not_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rescue.await_end, '__kwdefaults__', {'patience': 0.1})
    rescued, free = guest(FakeDomain('a')), guest(FakeDomain('b'))
    end = _rescue.begin(rescued.uuid)
    quiesce = Quiesce(t.cast(t.Any, FakeWatchdog()), Terms())

    quiesce.flush([rescued, free])

    assert 'the watchdog of an earlier run still tries to thaw it' in str(rescued.error)
    assert free.error is None
    end()


def test_leaves_a_guest_that_is_not_stuck_alone(talk: Talk, domains: dict[str, FakeDomain]) -> None:
    """Something else had frozen it, and it is not ours to thaw."""
    talk.arm('a', 'b')
    domains['a'].frozen = domains['b'].frozen = True

    talk.say(do='disarm', stuck=['b'])

    until(lambda: not domains['b'].frozen)
    assert domains['a'].frozen


# -- vCPUs that the module stopped --------------------------------------------------------------------------------


@pytest.mark.parametrize('how', ['dies', 'too long', 'stuck'])
def test_resumes_a_guest_that_nobody_else_does(how: str, talk: Talk, domains: dict[str, FakeDomain]) -> None:
    assert 'error' not in talk.say(do='pause', uuids=['a'], limit=0.2 if how == 'too long' else 60)
    domains['a'].paused = libvirt.VIR_DOMAIN_PAUSED_USER

    if how == 'dies':
        talk.socket.close()
    elif how == 'stuck':
        talk.say(do='resumed', stuck=['a'])

    until(lambda: domains['a'].paused is None)


@pytest.mark.parametrize('how', ['dies', 'resumed'])
def test_leaves_a_guest_that_something_else_has_stopped(how: str, talk: Talk, domains: dict[str, FakeDomain]) -> None:
    talk.say(do='pause', uuids=['a', 'b'], limit=60)
    domains['a'].paused = libvirt.VIR_DOMAIN_PAUSED_IOERROR
    domains['b'].paused = libvirt.VIR_DOMAIN_PAUSED_USER
    if how == 'resumed':
        domains['b'].paused = None
        talk.say(do='resumed', stuck=[])
        domains['b'].paused = libvirt.VIR_DOMAIN_PAUSED_USER  # by the operator, later

    talk.socket.close()
    talk.thread.join(5)

    assert domains['a'].paused == libvirt.VIR_DOMAIN_PAUSED_IOERROR
    assert (domains['b'].paused is None) == (how == 'dies')


def test_a_pause_that_takes_effect_after_the_module_died_is_ended(talk: Talk, domains: dict[str, FakeDomain]) -> None:
    talk.say(do='pause', uuids=['a'], limit=60)
    domains['a'].late = 2

    talk.socket.close()

    until(lambda: domains['a'].late == 0 and domains['a'].paused is None)
