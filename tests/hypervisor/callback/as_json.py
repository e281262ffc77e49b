# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Says what one task on one host returned, as JSON, and nothing else."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: as_json
type: stdout
short_description: The result of a task as JSON
description:
  - Prints what one task on one host returned.
"""


class CallbackModule(CallbackBase):
    """For "ansible HOST -m MODULE"."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = 'stdout'
    CALLBACK_NAME = 'as_json'

    def _say(self, result: Any, **more: Any) -> None:
        self._display.display(json.dumps({**result._result, **more}, default=str))

    def v2_runner_on_ok(self, result: Any) -> None:
        """It returned."""
        self._say(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """It failed."""
        self._say(result, failed=True)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """It could not even be asked."""
        self._say(result, failed=True, unreachable=True)
