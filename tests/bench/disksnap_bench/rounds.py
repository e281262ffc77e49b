# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rounds: every contender takes its turn in each, so that all meet the same machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .contenders import Contender

RECORDS_AFTER = 10


class Written(Protocol):
    """A guest whose writers say how long they stood still."""

    def wait_acked(self, count: int = 1) -> dict[str, int]:
        """Wait for new records on each disk."""

    def longest_gap_ms(self, since: Any = None) -> float:
        """The longest time between two records."""


def measure(
    contenders: Sequence[Contender],
    guests: Sequence[Written],
    rounds: int,
    *,
    ready: Callable[[], None],
    say: Callable[[str], None],
) -> dict[str, list[float]]:
    """Longest time, in milliseconds, that any writer in any of the guests stood still; a value a round and contender.

    Args:
        ready: called before each turn, for what the guests must come to first.
    """
    gaps: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(rounds):
        turn = number % len(contenders)
        for contender in [*contenders[turn:], *contenders[:turn]]:
            gaps[contender.name].append(_turn(contender, guests, f'r{number}', ready))
        say(f'  round {number + 1} of {rounds}: ' + ', '.join(f'{name} {gaps[name][-1]:.0f} ms' for name in gaps))
    return gaps


def _turn(contender: Contender, guests: Sequence[Written], snapshot: str, ready: Callable[[], None]) -> float:
    ready()
    before = [guest.wait_acked(RECORDS_AFTER) for guest in guests]
    contender.take(guests, snapshot)
    for guest in guests:
        guest.wait_acked(RECORDS_AFTER)
    gap = max(guest.longest_gap_ms(since) for guest, since in zip(guests, before))
    if contender.back is not None:
        contender.back(guests, snapshot)
    return gap
