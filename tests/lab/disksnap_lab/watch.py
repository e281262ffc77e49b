# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure by the host's clock how long a guest acknowledged nothing.

The guest's own clocks stand still while its CPUs are paused, so a pause does not show in its records.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

POLL_S = 0.002


class Watch:
    """A context: from enter to exit, note when each acknowledgement file grows. Precise to some milliseconds."""

    def __init__(self, files: dict[str, Path]) -> None:
        self._files = files
        self._longest = dict.fromkeys(files, (0.0, 0.0))
        self._grown: dict[str, float] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._follow, name='lab-watch', daemon=True)

    def __enter__(self) -> Watch:
        now = time.monotonic()
        self._grown = dict.fromkeys(self._files, now)
        self._thread.start()
        return self

    def __exit__(self, *_exception: Any) -> None:
        self._end.set()
        self._thread.join(10)
        now = time.monotonic()
        for target in self._files:
            self._note(target, now)

    def _note(self, target: str, now: float) -> None:
        start, end = self._longest[target]
        if now - self._grown[target] > end - start:
            self._longest[target] = self._grown[target], now

    def _follow(self) -> None:
        sizes = {target: path.stat().st_size for target, path in self._files.items()}
        while not self._end.wait(POLL_S):
            now = time.monotonic()
            for target, path in self._files.items():
                size = path.stat().st_size
                if size != sizes[target]:
                    sizes[target] = size
                    self._note(target, now)
                    self._grown[target] = now

    def longest(self) -> dict[str, tuple[float, float]]:
        """Target -> beginning and end of the longest time without an acknowledgement, by the monotonic clock."""
        return dict(self._longest)

    def gaps_ms(self) -> dict[str, float]:
        """Target -> the longest time without an acknowledgement; after the context has ended."""
        return {target: (end - start) * 1000 for target, (start, end) in self._longest.items()}

    @property
    def longest_gap_ms(self) -> float:
        """The longest of all disks."""
        return max(self.gaps_ms().values(), default=0.0)
