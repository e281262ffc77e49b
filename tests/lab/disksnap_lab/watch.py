# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure by the host's clock when guests acknowledged nothing.

The guest's own clocks stand still while its CPUs are paused, so a pause does not show in its records.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

POLL_S = 0.002


def together(standstills: Mapping[str, Sequence[tuple[float, float]]]) -> tuple[float, float]:
    """Beginning and end of the longest time within a standstill of every target; twice the same where there is none."""
    steps = [(at, change) for of_one in standstills.values() for gap in of_one for at, change in zip(gap, (1, -1))]
    still, begun, longest = 0, 0.0, (0.0, 0.0)
    for at, change in sorted(steps):
        if still == len(standstills) and at - begun > longest[1] - longest[0]:
            longest = begun, at
        still += change
        begun = at
    return longest


class Watch:
    """A context: from enter to exit, note when each acknowledgement file grows. Precise to some milliseconds."""

    def __init__(self, files: dict[str, Path]) -> None:
        self._files = files
        self._gaps: dict[str, list[tuple[float, float]]] = {target: [] for target in files}
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
        self._gaps[target].append((self._grown[target], now))

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

    def standstills(self, over_ms: float) -> dict[str, list[tuple[float, float]]]:
        """Target -> beginning and end of each time without an acknowledgement that was longer, in monotonic seconds."""
        return {
            target: [(start, end) for start, end in gaps if (end - start) * 1000 > over_ms]
            for target, gaps in self._gaps.items()
        }

    def gaps_ms(self) -> dict[str, float]:
        """Target -> the longest time without an acknowledgement; after the context has ended."""
        return {target: max(end - start for start, end in gaps) * 1000 for target, gaps in self._gaps.items()}

    @property
    def longest_gap_ms(self) -> float:
        """The longest of all disks."""
        return max(self.gaps_ms().values(), default=0.0)
