# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Holds a play before one of its tasks, so that a test can do something just then."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: gate
type: notification
short_description: Hold a play before a task
description:
  - Before the task that GATE_TASK names, makes the file C(reached) in the directory GATE, and waits for the file
    C(open).
"""

LONGEST = 180


class CallbackModule(CallbackBase):
    """All hosts wait: the strategy asks here before it starts the task on any of them."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = 'notification'
    CALLBACK_NAME = 'gate'

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """The only thing that we look at."""
        directory = Path(os.environ.get('GATE', ''))
        if task.name != os.environ.get('GATE_TASK') or (directory / 'reached').exists():
            return
        (directory / 'reached').touch()
        deadline = time.monotonic() + LONGEST
        while not (directory / 'open').exists() and time.monotonic() < deadline:
            time.sleep(0.02)
