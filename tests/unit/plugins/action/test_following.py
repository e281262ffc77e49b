# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A merge is followed to its end, by a host whose shell is real: one that greets, one that fails now and then."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.disksnap.libvirt.plugins.action.snapshot_merge import EVERY, VARIABLE, ActionModule
from ansible_collections.disksnap.libvirt.plugins.plugin_utils import follow

RUNNING = {'started': 1, 'finished': 0, 'ansible_job_id': 'j1.2'}
DONE = {'changed': True, 'domains': [{'name': 'db1', 'disks': []}]}
AGAIN = 'Run the task again: it finishes what was begun.'
HICCUP = {'rc': 1, 'stdout': '', 'stderr': 'sudo: unable to fork: Resource temporarily unavailable'}
NO_MODULE = {'failed': True, 'rc': 1, 'module_stdout': '', 'module_stderr': 'sudo: unable to fork', 'msg': 'See stderr'}
Happening = Callable[['Host'], Any]


class Host(ActionModule):
    """A host with one job, which ends at its second 100 with a result, unless told otherwise.

    ``at`` is what happens instead of an answer from that second on: takes the host, returns what the shell or
    async_status does, or None for what they would.
    """

    def __init__(self, directory: Path) -> None:
        self.now = 0.0
        self.job = directory / 'j1.2'
        self.result: dict[str, Any] | None = DONE
        self.lasts = 100.0
        self.interpreter = '/bin/sh'
        self.at: dict[str, Happening] = {}
        self.ran: list[str] = []
        self._task = SimpleNamespace(args={}, async_val=0, environment=[], check_mode=False, no_log=False)
        self._templar = SimpleNamespace(template=lambda value: value)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        assert self.now < 20000, 'it does not end'
        if self.now >= self.lasts and self.result is not None:
            self.job.write_text(json.dumps(self.result), 'utf-8')

    def merge(self, **known: Any) -> dict[str, Any]:
        return self._follow(known, 10)

    def _low_level_execute_command(self, cmd: str, **_more: Any) -> dict[str, Any]:
        happened = self.at.get('shell', lambda _host: None)(self)
        if happened is not None:
            return dict(happened)
        seen = {'HOME': str(self.job.parent), 'PATH': '/usr/bin:/bin'}
        cmd = cmd.replace('/run/disksnap/', f'{self.job.parent}/')
        done = subprocess.run(
            [self.interpreter, '-c', cmd], env=seen, capture_output=True, text=True, check=False, timeout=60
        )
        return {'rc': done.returncode, 'stdout': done.stdout, 'stderr': done.stderr}

    def _execute_module(self, **call: Any) -> dict[str, Any]:
        if call.get('wrap_async'):
            [of_merge] = self._task.environment
            progress = self.job.parent / f'progress-{of_merge["DISKSNAP_PROGRESS"]}'
            disk = {'domain': 'db1', 'target': 'vda', 'cur': 1 << 30, 'end': 4 << 30}
            progress.write_text(json.dumps({'seconds': 7.0, 'disks': [disk]}), 'utf-8')
            self.job.write_text(json.dumps(RUNNING), 'utf-8')
            return {**RUNNING, 'results_file': str(self.job), 'changed': True}
        self.ran.append(call['module_name'])
        happened = self.at.get('status', lambda _host: None)(self)
        if happened is not None:
            return dict(happened)
        if not self.job.exists():
            return {'failed': True, 'msg': 'could not find job', 'ansible_job_id': 'j1.2', 'started': 1, 'finished': 1}
        found = json.loads(self.job.read_text('utf-8'))
        return found if 'started' in found else {**found, 'finished': 1, 'ansible_job_id': 'j1.2'}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    # its own only: subprocess sleeps as well
    monkeypatch.setattr(follow, 'time', SimpleNamespace(monotonic=lambda: made.now, sleep=made.sleep))
    return made


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lines and warnings that were shown."""
    found: list[str] = []
    monkeypatch.setattr(Display, 'display', lambda _self, text, *_a, **_k: found.append(text))
    monkeypatch.setattr(Display, 'warning', lambda _self, text, *_a, **_k: found.append(f'warning: {text}'))
    return found


def between(first: float, last: float, answer: Any) -> Happening:
    """Answers so in these seconds, and as ever before and after them."""

    def happen(host: Host) -> Any:
        if not first <= host.now < last:
            return None
        if isinstance(answer, Exception):
            raise answer
        return answer

    return happen


@pytest.mark.parametrize(
    'of_core', [{'invocation': {'module_args': {'name': 'db1'}}}, {}, {'invocation': {}}, {'warnings': ['w']}]
)
@pytest.mark.parametrize('result', [DONE, {'failed': True, 'msg': 'There is no domain db1.'}])
def test_the_modules_own_result(of_core: dict[str, Any], result: dict[str, Any], host: Host, said: list[str]) -> None:
    """Whatever else a release of ansible-core puts into it; 2.21 leaves the invocation out."""
    host.result = {**result, **of_core, 'stderr': 'libvirt: QEMU Driver error : x'}
    assert host.merge() == {**result, **of_core}
    assert said == ['db1 vda merging 25% 1.0/4.0 GiB']
    assert list(host.job.parent.iterdir()) == []
    assert 99 < host.now < 110
    assert len(host.ran) == 1


def greeting(host: Host, words: str) -> None:
    path = host.job.parent.parent / f'{host.job.parent.name}-sh'
    path.write_text(f'#!/bin/sh\n{words}\nexec /bin/sh "$@"\n', 'utf-8')
    path.chmod(0o755)
    host.interpreter = str(path)


@pytest.mark.parametrize('words', ['echo Welcome to hv1', "printf '{}\\n\\n'", 'printf x', 'echo; echo a; echo b'])
def test_a_shell_that_greets(words: str, host: Host, said: list[str]) -> None:
    greeting(host, words)
    assert host.merge() == DONE
    assert said == ['db1 vda merging 25% 1.0/4.0 GiB']
    assert 99 < host.now < 110
    assert len(host.ran) == 1


@pytest.mark.parametrize('words', ['exec >/dev/null', 'exit 1', 'echo no; exit 0'])
def test_a_shell_that_never_says_anything_of_use(words: str, host: Host) -> None:
    """Then there are no lines, and it costs async_status now and then."""
    greeting(host, words)
    assert host.merge() == DONE
    assert 99 < host.now < 130
    assert len(host.ran) < 12


@pytest.mark.parametrize('answer', [HICCUP, {**HICCUP, 'rc': 0}, {'rc': 0, 'stdout': '\r\n\r\n'}, {'rc': 137}])
@pytest.mark.parametrize('last', [12, 50])
def test_a_shell_that_fails_for_a_while(answer: dict[str, Any], last: float, host: Host, said: list[str]) -> None:
    host.at['shell'] = between(8, last, answer)
    assert host.merge() == DONE
    assert 99 < host.now < 110


def test_a_cat_that_fails_once(host: Host) -> None:
    """All marks are there, and the job's file seems not to be."""

    def hide(_host: Host) -> None:
        away = host.job.with_name('away')
        if host.job.exists() and host.now < 10:
            host.job.rename(away)
        elif away.exists():
            away.rename(host.job)

    host.at = {'shell': hide, 'status': lambda _host: {**RUNNING} if host.now < 20 else None}
    assert host.merge() == DONE
    assert host.now > 99
    assert not host.job.exists()


def test_the_end_is_not_known_at_once(host: Host) -> None:
    host.at['status'] = between(99, 120, NO_MODULE)
    assert host.merge() == DONE
    assert 120 <= host.now < 130


def test_a_host_that_says_nothing_any_more(host: Host) -> None:
    """The job's file stays, so that a later look finds what became of it."""
    host.at = {'shell': between(8, 1e9, HICCUP), 'status': between(8, 1e9, NO_MODULE)}
    failed = host.merge()
    assert failed['failed'] is True
    assert 'no longer says what becomes of the merge (sudo: unable to fork)' in failed['msg']
    assert failed['msg'].endswith(AGAIN)
    assert 60 < host.now < 90
    assert host.job.exists()


def test_a_job_that_never_ends(host: Host) -> None:
    """The host was started anew, say: nobody is left to write its file."""
    host.result = None
    host._task.args['timeout'] = '600'
    failed = host.merge()
    assert failed == {'failed': True, 'msg': f'The merge has not ended in 1620 seconds. {AGAIN}'}
    assert 1620 <= host.now < 1630
    assert host.job.exists()


@pytest.mark.parametrize('timeout', [-5000, 'long', None, '{{'])
def test_a_timeout_that_is_none(timeout: Any, host: Host) -> None:
    host._task.args['timeout'] = timeout
    assert host.merge() == DONE


@pytest.mark.parametrize('place', ['shell', 'status'])
def test_a_connection_that_is_lost_for_a_while(place: str, host: Host) -> None:
    host.at[place] = between(40 if place == 'shell' else 99, 130, AnsibleConnectionFailure('gone'))
    if place == 'shell':
        with pytest.raises(AnsibleConnectionFailure):
            host.merge()
        assert 95 < host.now < 110
    else:
        assert host.merge() == DONE
        assert 130 <= host.now < 140


def test_a_connection_that_is_lost_after_the_end(host: Host) -> None:
    def lose(host: Host) -> None:
        if host.ran:
            raise AnsibleConnectionFailure('gone')

    host.at['shell'] = lose
    assert host.merge() == DONE


LEFT: dict[str, tuple[dict[str, Any], str]] = {
    'killed': ({'failed': 1, 'cmd': 'x', 'data': '', 'stderr': '', 'msg': 'Traceback: no json'}, 'was killed'),
    'crashed': ({'failed': 1, 'cmd': 'x', 'data': '', 'stderr': 'NameError: x', 'msg': 'Traceback'}, 'NameError: x'),
    'not started': ({'failed': True, 'cmd': 'x', 'outdata': '', 'stderr': '', 'msg': 'No such file'}, 'No such file'),
    'too long': ({'msg': 'Timeout exceeded', 'failed': True, 'child_pid': 7}, 'Timeout exceeded'),
    'nothing': ({'changed': False}, 'the module was killed'),
}


@pytest.mark.parametrize('how', list(LEFT))
def test_no_result(how: str, host: Host) -> None:
    host.result, why = LEFT[how]
    failed = host.merge()
    assert set(failed) == {'failed', 'msg'}
    assert why in failed['msg']
    assert failed['msg'].endswith(f'). {AGAIN}')
    assert list(host.job.parent.iterdir()) == []


def test_a_job_that_was_lost(host: Host) -> None:
    host.result = None
    host.at['shell'] = lambda host: host.job.unlink(missing_ok=True) if host.now > 30 else None
    failed = host.merge()
    assert 'could not find job' in failed['msg']
    assert 30 < host.now < 40


def test_the_host_comes_first_where_there_are_several(host: Host, said: list[str]) -> None:
    host.merge(inventory_hostname='hv1', ansible_play_hosts_all=['hv1', 'hv2'])
    assert said == ['hv1 | db1 vda merging 25% 1.0/4.0 GiB']


def test_what_does_not_begin(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = {'failed': True, 'msg': 'no python'}
    monkeypatch.setattr(host, '_execute_module', lambda **_call: failed)
    assert host.merge() == failed


@pytest.mark.parametrize(
    ('value', 'every', 'warned'),
    [('{{ 2 * 30 }}', 60, False), (0, None, False), ('often', EVERY, True), ('{{ none }}', None, False)],
)
def test_the_variable(
    value: Any, every: float | None, warned: bool, host: Host, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a template; what is no number is said."""
    templates = {'{{ 2 * 30 }}': '60', '{{ none }}': None}
    host._templar = SimpleNamespace(template=lambda text: templates.get(text, text))
    monkeypatch.setattr(ActionBase, 'run', lambda *_a, **_k: {})
    monkeypatch.setattr(host, '_worth_following', lambda: True)
    monkeypatch.setattr(host, '_follow', lambda _known, every: {'every': every})
    monkeypatch.setattr(host, '_execute_module', lambda **_call: {'every': None})
    assert host.run(task_vars={VARIABLE: value}) == {'every': every}
    assert [text for text in said if VARIABLE in text] == said
    assert bool(said) is warned
