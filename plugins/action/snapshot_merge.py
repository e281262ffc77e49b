# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module of the same name, and says now and then how far it is: a merge may take hours.

The module runs in the background on the managed host, as a task with ``async`` does, so that one run of it starts,
follows and ends the merge. What is asked for meanwhile are two small files, with one command of the shell.
"""

from __future__ import annotations

import json
import posixpath
import secrets
import shlex
import time
import typing as t

from ansible import constants as C
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.disksnap.libvirt.plugins.plugin_utils.progress import Teller, read

# seconds between two lines of a disk, unless this variable says otherwise; 0 is quiet
VARIABLE = 'disksnap_libvirt_progress'
EVERY = 10.0
# what a module may take beyond its own timeout: to wait for its turn, and to end its jobs
MARGIN = 900
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
# seconds for which the host may be out of reach
_PATIENCE = 60.0
# stdout callbacks that others read, or that have room for one line
_QUIET = ('json', 'jsonl', 'oneline', 'null', 'dense', 'junit', 'tree')
# where the module has its private directory, for root and for others; see _lock.py
_ROOTS, _OTHERS = '/run/disksnap', '"${XDG_RUNTIME_DIR:-$HOME/.cache}"/disksnap'
# what Ansible adds to the result of a background job
_OF_THE_JOB = ('ansible_job_id', 'results_file', 'started', 'finished', 'stdout', 'stderr', 'stdout_lines', 'cmd')


def quiet_callback(name: str) -> bool:
    """Whether a stdout callback wants nothing but what it prints itself."""
    return name.rpartition('.')[2].lower() in _QUIET


def interval(value: t.Any) -> float:
    """Seconds between two lines; 0 for what is none."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return 0.0
    return seconds if 0 < seconds < float('inf') else 0.0


class ActionModule(ActionBase):
    """What Ansible looks for."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module, and follow it where that is of use."""
        super().run(tmp, task_vars)
        known = task_vars or {}
        every = interval(known.get(VARIABLE, EVERY))
        if not every or not self._worth_following():
            plain: dict[str, t.Any] = self._execute_module(task_vars=known, wrap_async=self._task.async_val)
            return plain
        return self._follow(known, every)

    def _worth_following(self) -> bool:
        args = self._task.args
        return not (
            self._task.async_val
            or self._task.check_mode
            or self._task.no_log
            or quiet_callback(str(C.config.get_config_value('DEFAULT_STDOUT_CALLBACK')))
            or args.get('state', 'merged') != 'merged'
            or str(args.get('wait', True)).lower() in ('false', 'no', 'off', '0', 'n', 'f')
        )

    # -- following ------------------------------------------------------------------------------------------------

    def _follow(self, known: dict[str, t.Any], every: float) -> dict[str, t.Any]:
        token = secrets.token_hex(16)
        started = self._start(known, token)
        job, file = started.get('ansible_job_id'), started.get('results_file')
        if not job or not file or started.get('failed'):
            return started  # it has not begun, or this connection has no background and it has ended
        where = f'{known.get("inventory_hostname")} | ' if len(known.get('ansible_play_hosts_all', ())) > 1 else ''
        teller, display = Teller(every), Display()
        progress = f'cat {_ROOTS}/progress-{token} 2>/dev/null || cat {_OTHERS}/progress-{token} 2>/dev/null'
        command = f'cat {shlex.quote(file)} 2>/dev/null; echo; {progress}'
        pause, lost_since = _FIRST_PAUSE, None
        while True:
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
            try:
                told = str(self._low_level_execute_command(command).get('stdout', ''))
            except AnsibleConnectionFailure:
                lost_since = lost_since or time.monotonic()
                if time.monotonic() - lost_since > _PATIENCE:
                    raise
                continue
            lost_since = None
            state, _newline, samples = told.strip('\r\n').partition('\n')
            for text in teller.lines(read(samples)):
                display.display(f'{where}{text}')
            if _over(state):
                return self._end(known, job, posixpath.dirname(file), token)

    def _start(self, known: dict[str, t.Any], token: str) -> dict[str, t.Any]:
        """Begin in the background: with a time limit of Ansible's own that the module's is well below."""
        environment = self._task.environment
        self._task.environment = [*(environment or []), {'DISKSNAP_PROGRESS': token}]
        try:
            limit = int(self._templar.template(self._task.args.get('timeout', 3600))) + MARGIN
        except (TypeError, ValueError):
            limit = MARGIN  # the module will say what is wrong with it
        self._task.async_val = limit
        try:
            started: dict[str, t.Any] = self._execute_module(task_vars=known, wrap_async=True)
            return started
        finally:
            self._task.async_val, self._task.environment = 0, environment

    def _end(self, known: dict[str, t.Any], job: str, directory: str, token: str) -> dict[str, t.Any]:
        """The module's own result, without what is Ansible's about the background."""
        status = {'module_name': 'ansible.legacy.async_status', 'task_vars': known}
        about = {'jid': job, '_async_dir': directory}
        result: dict[str, t.Any] = self._execute_module(module_args={**about, 'mode': 'status'}, **status)
        self._execute_module(module_args={**about, 'mode': 'cleanup'}, **status)
        if 'jid' in result.get('invocation', {}).get('module_args', {'jid': job}):  # it is not the module that says so
            self._low_level_execute_command(f'rm -f {_ROOTS}/progress-{token} {_OTHERS}/progress-{token}')
            said = ' '.join(str(result.get('msg') or result.get('stderr') or result.get('data') or '').split())
            result['failed'] = True
            result['msg'] = (
                f'The merge ended without a result ({said[-200:] or "the module was killed"}). Run the task again: it '
                'finishes what was begun.'
            )
        for name in _OF_THE_JOB:
            result.pop(name, None)
        return result


def _over(state: str) -> bool:
    """Whether the background job has ended, by its file; one that is not there was lost."""
    if not state.strip():
        return True
    try:
        found = json.loads(state)
    except ValueError:
        return False  # it is being written
    return isinstance(found, dict) and bool(found.get('finished', 'started' not in found))
