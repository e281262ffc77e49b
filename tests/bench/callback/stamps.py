# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notes when each task of a play begins."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: stamps
type: notification
short_description: Note when each task begins
description:
  - Appends a line of JSON to the file that STAMPS names, with the name of the task and the monotonic time in seconds.
"""


class CallbackModule(CallbackBase):
    """All hosts are done with one task when the strategy begins the next."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = 'notification'
    CALLBACK_NAME = 'stamps'

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """The only thing that we look at."""
        with open(os.environ['STAMPS'], 'a', encoding='utf-8') as stamps:
            stamps.write(json.dumps([task.name, time.monotonic()]) + '\n')
