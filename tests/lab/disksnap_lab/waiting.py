# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wait for something to become true, never for ever."""

from __future__ import annotations

import time
from typing import Callable, TypeVar

from .errors import LabError

Result = TypeVar('Result')


def wait_for(what: str, ask: Callable[[], Result | None], timeout: float, pause: float = 0.05) -> Result:
    """Ask until the answer is true-ish, and return it; LabError naming what was waited for after timeout."""
    deadline = time.monotonic() + timeout
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise LabError(f'No {what} after {timeout:g} s')
        time.sleep(pause)
