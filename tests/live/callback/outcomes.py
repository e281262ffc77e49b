# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes what became of each task, a line of JSON each, to the file that DISKSNAP_OUTCOMES names."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: outcomes
type: notification
short_description: What became of each task
description:
  - Writes name, host, status and result of each task to a file.
"""


class CallbackModule(CallbackBase):
    """What Ansible looks for."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = 'notification'
    CALLBACK_NAME = 'outcomes'
    CALLBACK_NEEDS_ENABLED = True

    def _write(self, result: Any, status: str) -> None:
        line = {
            'task': result._task.get_name(),
            'action': result._task.resolved_action or result._task.action,
            'host': result._host.get_name(),
            'status': status,
            'result': result._result,
        }
        with open(os.environ['DISKSNAP_OUTCOMES'], 'a', encoding='utf-8') as handle:
            handle.write(json.dumps(line, default=str) + '\n')

    def v2_runner_on_ok(self, result: Any) -> None:
        """It is done."""
        self._write(result, 'ok')

    def v2_runner_on_skipped(self, result: Any) -> None:
        """It was passed over; a loop without items as well."""
        self._write(result, 'skipped')

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """It failed."""
        self._write(result, 'failed')
