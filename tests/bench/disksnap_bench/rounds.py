# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rounds: every contender takes its turn in each, so that all meet the same machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from disksnap_lab import Guest

from .contenders import Contender

RECORDS_AFTER = 10


def measure(
    contenders: Sequence[Contender],
    guests: Sequence[Guest],
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


def _turn(contender: Contender, guests: Sequence[Guest], snapshot: str, ready: Callable[[], None]) -> float:
    ready()
    before = [guest.wait_acked(RECORDS_AFTER) for guest in guests]
    contender.take(guests, snapshot)
    for guest in guests:
        guest.wait_acked(RECORDS_AFTER)
    gap = max(guest.longest_gap_ms(since) for guest, since in zip(guests, before))
    if contender.back is not None:
        contender.back(guests, snapshot)
    return gap
