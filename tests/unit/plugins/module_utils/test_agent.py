# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a guest answers is data: whatever its agent says, there is an answer or one sentence."""

from __future__ import annotations

import contextlib
import json
import typing as t
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.disksnap.libvirt.plugins.module_utils import _agent, _forecast
from ansible_collections.disksnap.libvirt.plugins.module_utils._agent import Agent
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt, libvirt_qemu
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._quiesce import Terms

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
KEYS = st.sampled_from(['pid', 'exited', 'exitcode', 'mountpoint', 'supported_commands', 'name', 'enabled'])
ANSWERS = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3))
REPLIES = st.text(max_size=9) | ANSWERS.map(json.dumps) | ANSWERS.map(lambda one: json.dumps({'return': one}))


@contextlib.contextmanager
def answering(replies: t.Sequence[str]) -> t.Iterator[t.Any]:
    """A domain whose guest gives these answers, the last of them for ever."""
    left = list(replies)

    def answer(*_request: t.Any) -> str:
        return left.pop(0) if left[1:] else left[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(libvirt_qemu, 'qemuAgentCommand', answer)
        patch.setattr(_agent, 'SYNC_LIMIT', 0.01)
        yield SimpleNamespace(name=lambda: 'web')


@given(st.lists(REPLIES, min_size=1, max_size=3))
@example(['{"return": {"pid": 1}}', '{"return": null}'])
@example(['{"return": {"pid": 1}}', '{"return": [1]}'])
@example(['[' * 100000])
def test_any_answer_is_one_or_an_error(replies: list[str]) -> None:
    with answering(replies) as domain:
        agent = Agent(domain, 1)
        with contextlib.suppress(DiskSnapError):
            assert agent.frozen() in (True, False)
        assert agent.sync() in (True, False)


@given(st.lists(REPLIES, min_size=1, max_size=3))
@example(['{"return": "thawed"}', '{"return": [{"mountpoint": {}}]}'])
@example(['{"return": "thawed"}', '{"return": [{"mountpoint": "/"}]}', '{"return": {"supported_commands": [null]}}'])
def test_any_answer_gives_a_forecast(replies: list[str]) -> None:
    with answering(replies) as handle:
        domain: t.Any = SimpleNamespace(name='web', handle=handle, state='running')
        found = _forecast.forecast(domain, Terms(mountpoints=('/',)))
    assert found.error is None or found.error.domain == 'web'


class Reconnecting:
    """A domain of a libvirtd that refuses its agent so many times, and whose XML calls the channel ``state``."""

    def __init__(self, refusals: int, state: str) -> None:
        self.refusals = refusals
        self._state = state

    def name(self) -> str:
        return 'web'

    def XMLDesc(self, _flags: int) -> str:
        target = f'<target type="virtio" name="org.qemu.guest_agent.0" state="{self._state}"/>'
        return f'<domain><devices><channel type="unix">{target}</channel></devices></domain>'

    def fsFreeze(self, _mountpoints: t.Any, _flags: int) -> int:
        return self._served(1)

    def fsThaw(self, _mountpoints: t.Any, _flags: int) -> int:
        return self._served(1)

    def command(self, *_request: t.Any) -> str:
        return str(self._served('{"return": "frozen"}'))

    def _served(self, answer: t.Any) -> t.Any:
        if self.refusals:
            self.refusals -= 1
            raise unresponsive()
        return answer


def unresponsive() -> libvirt.libvirtError:
    """What libvirt says of an agent that it has no connection with."""
    error = libvirt.libvirtError('Guest agent is not responding: QEMU guest agent is not connected')
    error.err = (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_FROM_QEMU, str(error), 2, None, None, None, 0, 0)
    return error


CALLS: dict[str, t.Callable[[Agent], t.Any]] = {
    'status': lambda agent: agent.frozen(),
    'freeze': lambda agent: agent.freeze(None),
    'thaw': lambda agent: agent.thaw(),
}


@pytest.mark.parametrize('call', CALLS)
def test_an_agent_that_libvirtd_has_yet_to_find_is_waited_for(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = Reconnecting(refusals=3, state='connected')
    monkeypatch.setattr(libvirt_qemu, 'qemuAgentCommand', domain.command)

    assert CALLS[call](Agent(domain, 60)) in (True, 1)
    assert domain.refusals == 0


@pytest.mark.parametrize('call', CALLS)
def test_an_agent_that_is_not_there_is_not_waited_for(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = Reconnecting(refusals=3, state='disconnected')
    monkeypatch.setattr(libvirt_qemu, 'qemuAgentCommand', domain.command)

    with pytest.raises(DiskSnapError, match='not connected'):
        CALLS[call](Agent(domain, 60))
    assert domain.refusals == 2


@pytest.mark.parametrize('call', CALLS)
def test_an_agent_that_is_never_found_is_given_up(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = Reconnecting(refusals=10**9, state='connected')
    monkeypatch.setattr(libvirt_qemu, 'qemuAgentCommand', domain.command)

    with pytest.raises(DiskSnapError, match='not connected'):
        CALLS[call](Agent(domain, 1))


@pytest.mark.parametrize('code', [86, 112], ids=['libvirt 9.0', 'libvirt 11.3'])
def test_a_lost_answer_is_asked_for_again(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both libvirts wait as long as they were told and then give up, each with a code of its own."""
    now = [0.0]

    def lost() -> str:
        now.append(now[-1] + _agent.ASK_AGAIN_AFTER)
        error = libvirt.libvirtError('guest agent did not respond')
        error.err = (code, libvirt.VIR_FROM_QEMU, str(error), 2, None, None, None, 0, 0)
        raise error

    answers: list[t.Callable[[], str]] = [lost, lambda: '{"return": "thawed"}']
    monkeypatch.setattr(libvirt_qemu, 'qemuAgentCommand', lambda *_request: answers.pop(0)())
    monkeypatch.setattr(_agent.time, 'monotonic', lambda: now[-1])

    assert Agent(SimpleNamespace(name=lambda: 'web'), 30).frozen() is False
    assert answers == []
