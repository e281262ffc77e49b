# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The writer's log: 64-byte records, as guest/writer.c writes them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# magic, crc of the rest, seq, realtime, start, previous record's sync, boot, period, target, unused
RECORD = struct.Struct('<4sIQQQQII8sQ')
MAGIC = b'DSL1'
_CRC_FROM = 8


@dataclass(frozen=True)
class Record:
    """One record; times in nanoseconds. start and synced are of the monotonic clock of one boot."""

    seq: int
    realtime_ns: int
    start_ns: int
    synced_ns: int
    boot: int
    period_ms: int
    target: str


def pack(record: Record) -> bytes:
    """The 64 bytes of a record."""
    tail = RECORD.pack(
        MAGIC,
        0,
        record.seq,
        record.realtime_ns,
        record.start_ns,
        record.synced_ns,
        record.boot,
        record.period_ms,
        record.target.encode(),
        0,
    )[_CRC_FROM:]
    return MAGIC + struct.pack('<I', zlib.crc32(tail)) + tail


def unpack(data: bytes) -> Record | None:
    """A record, or None when its magic or checksum is wrong."""
    magic, crc, seq, realtime, start, synced, boot, period, target, _unused = RECORD.unpack(data)
    if magic != MAGIC or crc != zlib.crc32(data[_CRC_FROM:]):
        return None
    return Record(seq, realtime, start, synced, boot, period, target.rstrip(b'\0').decode('ascii', 'replace'))


def split(log: bytes) -> Iterator[Record | None]:
    """All whole records of a log, None for each bad one."""
    for place in range(0, len(log) - len(log) % RECORD.size, RECORD.size):
        yield unpack(log[place : place + RECORD.size])


def holes(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """(first missing, last missing) for each jump; (expected, found) where numbers go backwards or repeat."""
    found = []
    expected: int | None = None
    for number in numbers:
        if expected is not None and number > expected:
            found.append((expected, number - 1))
        elif expected is not None and number < expected:
            found.append((expected, number))
        expected = number + 1
    return found
