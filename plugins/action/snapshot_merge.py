# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module of the same name, and says now and then how far it is: a merge may take hours.

The module runs in the background on the managed host, as a task with ``async`` does, so that one run of it starts,
follows and ends the merge. What is asked for meanwhile are two small files, with one command of the shell.
"""

from __future__ import annotations

import contextlib
import posixpath
import secrets
import shlex
import typing as t

from ansible import constants as C
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.disksnap.libvirt.plugins.plugin_utils.follow import (
    Looker,
    NotKnownError,
    finished,
    follow,
    last_words,
    own_result,
)
from ansible_collections.disksnap.libvirt.plugins.plugin_utils.progress import Teller, read

# seconds between two lines of a disk, unless this variable says otherwise; 0 is quiet
VARIABLE = 'disksnap_libvirt_progress'
EVERY = 10.0
# what a module may take beyond its own timeout: to wait for its turn, and to end its jobs
MARGIN = 900
# seconds that Ansible may take to end a module at that limit
_ENDING = 120
# stdout callbacks that others read, or that have room for one line
_QUIET = ('oneline', 'null', 'dense', 'junit', 'tree')
# where the module has its private directory, for root and for others; see _lock.py
_ROOTS, _OTHERS = '/run/disksnap', '"${XDG_RUNTIME_DIR:-$HOME/.cache}"/disksnap'
_AGAIN = 'Run the task again: it finishes what was begun.'


def quiet_callback(name: str) -> bool:
    """Whether a stdout callback wants nothing but what it prints itself: one of those, or any named for JSON."""
    name = name.rpartition('.')[2].lower()
    return 'json' in name or name in _QUIET


def interval(value: t.Any) -> float | None:
    """Seconds between two lines; 0 is none, None is what no number of seconds can be read from."""
    try:
        seconds = float(0 if value is None else value)
    except (TypeError, ValueError):
        return None
    return max(0.0, seconds) if seconds < float('inf') else None


class ActionModule(ActionBase):
    """What Ansible looks for."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module, and follow it where that is of use."""
        super().run(tmp, task_vars)
        known = task_vars or {}
        every = self._every(known)
        if not every or not self._worth_following():
            plain: dict[str, t.Any] = self._execute_module(task_vars=known, wrap_async=self._task.async_val)
            return plain
        return self._follow(known, every)

    def _every(self, known: dict[str, t.Any]) -> float:
        value = self._templar.template(known.get(VARIABLE, EVERY))
        every = interval(value)
        if every is None:
            Display().warning(f'{VARIABLE} is "{value}", which is no number of seconds. {EVERY:g} is used.')
            return EVERY
        return every

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
        limit = self._limit()
        started = self._start(known, token, limit)
        job, file = started.get('ansible_job_id'), started.get('results_file')
        if not job or not file or started.get('failed'):
            return started  # it has not begun, or this connection has no background and it has ended
        status = {'jid': job, '_async_dir': posixpath.dirname(file), 'mode': 'status'}
        progress = [f'{directory}/progress-{token}' for directory in (_ROOTS, _OTHERS)]

        def ask() -> dict[str, t.Any] | None:
            answer: dict[str, t.Any] = self._execute_module(
                module_name='ansible.legacy.async_status', module_args=dict(status), task_vars=known
            )
            return answer if finished(answer) else None

        try:
            ended = follow(self._look(known, every, Looker(file, progress)), ask, limit + _ENDING)
        except NotKnownError as error:
            why = f'The host no longer says what becomes of the merge ({error}). It may run on there.'
            return {'failed': True, 'msg': f'{why} {_AGAIN}'}
        if ended is None:
            return {'failed': True, 'msg': f'The merge has not ended in {limit + _ENDING} seconds. {_AGAIN}'}
        with contextlib.suppress(AnsibleConnectionFailure):  # they are small, and the merge has ended
            self._low_level_execute_command(f'rm -f {shlex.quote(file)} {" ".join(progress)}')
        why = f'The merge ended without a result ({last_words(ended)}).'
        return own_result(ended) or {'failed': True, 'msg': f'{why} {_AGAIN}'}

    def _look(self, known: dict[str, t.Any], every: float, looker: Looker) -> t.Callable[[], bool | None]:
        """What looks how far the merge is, and says it."""
        where = f'{known.get("inventory_hostname")} | ' if len(known.get('ansible_play_hosts_all', ())) > 1 else ''
        teller, display = Teller(every), Display()

        def look() -> bool | None:
            found = looker.read(self._low_level_execute_command(looker.command))
            if found is None:
                return None
            for text in teller.lines(read(found.samples)):
                display.display(f'{where}{text}')
            return found.ended

        return look

    def _limit(self) -> int:
        """Seconds that the module has in the background: well above its own limit."""
        try:
            return max(0, int(self._task.args.get('timeout', 3600))) + MARGIN
        except (TypeError, ValueError):
            return MARGIN  # the module will say what is wrong with it

    def _start(self, known: dict[str, t.Any], token: str, limit: int) -> dict[str, t.Any]:
        """Begin in the background."""
        environment = self._task.environment
        self._task.environment = [*(environment or []), {'DISKSNAP_PROGRESS': token}]
        self._task.async_val = limit
        try:
            started: dict[str, t.Any] = self._execute_module(task_vars=known, wrap_async=True)
            return started
        finally:
            self._task.async_val, self._task.environment = 0, environment
