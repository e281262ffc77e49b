# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure by the host's clock when guests acknowledged nothing.

The guest's own clocks stand still while its CPUs are paused, so a pause does not show in its records.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import acks

POLL_S = 0.002


def around(seen: Iterable[tuple[float, int]], number: int) -> tuple[float, float]:
    """When the record of this number was acknowledged, and when the one after it.

    seen: times and the highest number acknowledged by then, in order.

    Raises:
        LookupError: if one of them was not acknowledged meanwhile.
    """
    last = [at for at, acknowledged in seen if acknowledged == number]
    later = [at for at, acknowledged in seen if acknowledged > number]
    if not last or not later:
        raise LookupError(f'the records {number} and {number + 1} were not both acknowledged in {list(seen)}')
    return last[0], later[0]


class Watch:
    """A context: from enter to exit, note when each acknowledgement file grows. Precise to some milliseconds."""

    def __init__(self, files: dict[str, Path]) -> None:
        self._files = files
        self._seen: dict[str, list[tuple[float, int]]] = {target: [] for target in files}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._follow, name='lab-watch', daemon=True)

    def __enter__(self) -> Watch:
        self._note_all()
        self._thread.start()
        return self

    def __exit__(self, *_exception: Any) -> None:
        self._end.set()
        self._thread.join(10)
        self._note_all()

    def _note_all(self) -> None:
        now = time.monotonic()
        for target in self._files:
            self._note(target, now)

    def _note(self, target: str, now: float) -> None:
        self._seen[target].append((now, acks.last_synced(self._files[target])))

    def _follow(self) -> None:
        sizes = {target: path.stat().st_size for target, path in self._files.items()}
        while not self._end.wait(POLL_S):
            now = time.monotonic()
            for target, path in self._files.items():
                size = path.stat().st_size
                if size != sizes[target]:
                    sizes[target] = size
                    self._note(target, now)

    def around(self, target: str, number: int) -> tuple[float, float]:
        """See the function of this name; after the context has ended, in monotonic seconds."""
        return around(self._seen[target], number)

    def gaps_ms(self) -> dict[str, float]:
        """Target -> the longest time without an acknowledgement; after the context has ended."""
        return {
            target: max(later[0] - earlier[0] for earlier, later in zip(seen, seen[1:])) * 1000
            for target, seen in self._seen.items()
        }

    @property
    def longest_gap_ms(self) -> float:
        """The longest of all disks."""
        return max(self.gaps_ms().values(), default=0.0)
