# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read what a guest's writer acknowledged: last number, and how long writes stood still. See guest/writer.c."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TAIL = 4096


@dataclass(frozen=True)
class Ack:
    """One line of an acknowledgement file; times in nanoseconds of the guest's clocks.

    kind: S synced, W written only, F disk full and stopped, E error and stopped.
    gap_ns: the longest time between starts of neighbouring records since the line before.
    """

    kind: str
    seq: int
    start_ns: int
    done_ns: int
    realtime_ns: int
    gap_ns: int
    boot: str


@dataclass(frozen=True)
class Gap:
    """Writes stood still: between the start of the record before seq (the one that hung) and the start of seq."""

    seq: int
    ms: float
    realtime_ns: int


def parse_line(line: str) -> Ack | None:
    """One line, or None when it is not whole."""
    words = line.split()
    if len(words) != 7 or words[0] not in ('S', 'W', 'F', 'E'):
        return None
    try:
        return Ack(words[0], *(int(word) for word in words[1:6]), words[6])  # type: ignore[call-arg, arg-type]
    except ValueError:
        return None


def read(path: Path, since: int = 0) -> Iterator[Ack]:
    """All whole lines with a number above since."""
    if not path.exists():
        return
    with open(path, encoding='ascii', errors='replace') as handle:
        for line in handle:
            ack = parse_line(line) if line.endswith('\n') else None
            if ack and ack.seq > since:
                yield ack


def last(path: Path) -> Ack | None:
    """The newest whole line, read from the end of the file."""
    try:
        with open(path, 'rb') as handle:
            handle.seek(0, 2)
            size = handle.tell()
            handle.seek(max(0, size - _TAIL))
            lines = handle.read().decode('ascii', 'replace').split('\n')[:-1]
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        ack = parse_line(line)
        if ack:
            return ack
    return None


def last_synced(path: Path) -> int:
    """Highest number that is known to be on the disk (with nosync: written); 0 for none."""
    ack = last(path)
    if ack is None:
        return 0
    return ack.seq if ack.kind != 'E' else ack.seq - 1


def first_of_this_boot(path: Path) -> int:
    """Number of the first record since the guest was started last.

    Raises:
        ValueError: if there is none.
    """
    lines = list(read(path))
    return min(line.seq for line in lines if line.boot == lines[-1].boot)


def gaps(path: Path, since: int = 0, over_ms: float = 0) -> list[Gap]:
    """Gaps longer than over_ms, in order, of records after since."""
    return [
        Gap(ack.seq, ack.gap_ns / 1e6, ack.realtime_ns - ack.gap_ns)
        for ack in read(path, since)
        if ack.gap_ns / 1e6 > over_ms
    ]


def longest_gap_ms(path: Path, since: int = 0) -> float:
    """The longest time between the starts of two records, the period included."""
    return max((ack.gap_ns for ack in read(path, since)), default=0) / 1e6
