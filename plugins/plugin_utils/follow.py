# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a background job is followed to its end: what its host is asked, and what the answers mean.

A look is one command of the shell that prints two files. It is cheap, and only a hint: a shell may print a greeting,
sudo may fail once. What counts is what async_status says, and it is asked when a look says that the job is over, or
when looks have told nothing for a while.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
import time
import typing as t
from dataclasses import dataclass

from ansible.errors import AnsibleConnectionFailure

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
# seconds for which looks may tell nothing, before async_status is asked
_DOUBT = 15.0
# seconds for which the host may be out of reach, or say nothing of use
_PATIENCE = 60.0
# what Ansible adds to the result of a background job
_OF_THE_JOB = ('ansible_job_id', 'results_file', 'started', 'finished', 'cmd', 'data', 'outdata', 'child_pid')
_STREAMS = ('stdout', 'stderr', 'stdout_lines', 'stderr_lines')
# what async_wrapper writes instead of a result: the module printed none, was not started, took too long
_WRAPPERS = ('data', 'outdata', 'child_pid')


class NotKnownError(Exception):
    """The host has answered, and does not say what becomes of the job."""


@dataclass(frozen=True)
class Look:
    """What one look has shown: whether the job seems to have ended, and the text of its progress file."""

    ended: bool
    samples: str


class Looker:
    """The command of a look, and what its output means.

    Args:
        job: the file of the background job.
        progress: where the progress file may be, quoted for the shell.
    """

    def __init__(self, job: str, progress: t.Sequence[str]) -> None:
        mark = secrets.token_hex(16)
        self._marks = [f'{mark}-{place}' for place in range(3)]
        shown = f'cat {shlex.quote(job)} 2>/dev/null', ' || '.join(f'cat {path} 2>/dev/null' for path in progress)
        first, second, third = (f"printf '\\n%s\\n' {mark}" for mark in self._marks)
        self.command = f'{first}; {shown[0]}; {second}; {shown[1]}; {third}'

    def read(self, done: t.Mapping[str, t.Any]) -> Look | None:
        """What the look has shown; None if that is not known.

        Args:
            done: the result of the command, with its ``rc`` and ``stdout``.
        """
        lines = [line.strip() for line in str(done.get('stdout') or '').splitlines()]
        if done.get('rc', 0) != 0 or not all(mark in lines for mark in self._marks):
            return None
        first, second, third = (lines.index(mark) for mark in self._marks)
        ended = _ended('\n'.join(lines[first + 1 : second]))
        return None if ended is None else Look(ended, '\n'.join(lines[second + 1 : third]))


def _ended(state: str) -> bool | None:
    """Whether a job has, by its file; None if that is none of a job. One that is not there was lost, or not read."""
    if not state.strip():
        return True
    try:
        found = json.loads(state)
    except (ValueError, RecursionError):
        return None
    return bool(found.get('finished', 'started' not in found)) if isinstance(found, dict) else None


def follow(
    look: t.Callable[[], bool | None], ask: t.Callable[[], dict[str, t.Any] | None], limit: float
) -> dict[str, t.Any] | None:
    """Wait for the end of a job.

    Args:
        look: one look; whether the job seems to have ended, None if that is not known.
        ask: the result of the job, None if it has not ended.
        limit: seconds.

    Returns:
        The result; None if there is none at the limit.

    Raises:
        AnsibleConnectionFailure: if the host is out of reach for longer than one is patient.
        NotKnownError: if it answers, and nothing of use for as long.
    """
    known = time.monotonic()
    deadline, pause = known + limit, _FIRST_PAUSE
    while time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
        try:
            ended = look()
            if ended is None and time.monotonic() - known < _DOUBT:
                continue
            result = None if ended is False else ask()
        except (AnsibleConnectionFailure, NotKnownError):
            if time.monotonic() - known > _PATIENCE:
                raise
            continue
        if result is not None:
            return result
        known = time.monotonic()
    return None


def finished(answer: dict[str, t.Any]) -> bool:
    """Whether the job has ended, by what async_status returned.

    Raises:
        NotKnownError: if that is not an answer of async_status; with what was said instead.
    """
    if 'finished' not in answer:
        said = (answer.get(key) for key in ('module_stderr', 'module_stdout', 'msg'))
        raise NotKnownError(next((_short(text) for text in said if text), 'no answer'))
    return bool(answer['finished'])


def own_result(answer: dict[str, t.Any]) -> dict[str, t.Any] | None:
    """The module's own result in what async_status returned, without what is Ansible's about the background.

    By what is in it: not by ``invocation``, which ansible-core 2.21 leaves out.

    Returns:
        None if the module left no result; see last_words.
    """
    # a module's result has no "started": async_status adds it to what it says itself
    if any(key in answer for key in ('started', *_WRAPPERS)) or not (answer.get('failed') or 'domains' in answer):
        return None
    return {key: value for key, value in answer.items() if key not in (*_OF_THE_JOB, *_STREAMS)}


def last_words(answer: dict[str, t.Any]) -> str:
    """Why a module left no result, in short."""
    # async_wrapper's own message is then of its failure to read what was printed
    keys = ('stderr', 'data') if 'data' in answer else ('msg', 'stderr')
    return next((_short(answer[key]) for key in keys if answer.get(key)), 'the module was killed')


def _short(text: t.Any) -> str:
    return re.sub(r'\s+', ' ', str(text)).strip()[-200:]
