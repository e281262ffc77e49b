# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The writer's records and acknowledgements, as the host reads them."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import time
from pathlib import Path

import pytest

pytest.importorskip('libvirt')

from disksnap_lab import acks, copy_check, records
from disksnap_lab.paths import SOURCE
from disksnap_lab.records import Record

MS = 1_000_000


def record(seq: int, at_ms: int, boot: int = 7) -> Record:
    return Record(seq, 10**18 + at_ms * MS, at_ms * MS, max(0, at_ms * MS - 5), boot, 10, 'vda')


def test_a_record_is_64_bytes_and_survives_the_round_trip() -> None:
    data = records.pack(record(5, 100))
    assert len(data) == 64
    assert records.unpack(data) == record(5, 100)


@pytest.mark.parametrize('place', [0, 4, 8, 30, 63])
def test_one_wrong_bit_is_seen(place: int) -> None:
    data = bytearray(records.pack(record(5, 100)))
    data[place] ^= 1
    assert records.unpack(bytes(data)) is None


@pytest.mark.parametrize(
    ('numbers', 'expected'),
    [
        ([], []),
        ([1, 2, 3], []),
        ([4, 5, 8, 9], [(6, 7)]),
        ([1, 2, 2, 3], [(3, 2)]),
        ([1, 2, 5, 3], [(3, 4), (6, 3)]),
    ],
)
def test_holes(numbers: list[int], expected: list[tuple[int, int]]) -> None:
    assert records.holes(numbers) == expected


def test_gaps_are_not_counted_across_boots() -> None:
    log = [record(1, 0), record(2, 10), record(3, 260), record(4, 5, boot=8), record(5, 15, boot=8)]
    assert [(gap.seq, gap.ms) for gap in copy_check.gaps_between(log)] == [(2, 10), (3, 250), (5, 10)]


def test_report_on_a_log_with_everything_wrong() -> None:
    bad = bytearray(records.pack(record(3, 20)))
    bad[40] ^= 1
    log = records.pack(record(1, 0)) + records.pack(record(2, 10)) + bytes(bad) + records.pack(record(4, 330)) + b'half'
    found = copy_check._FileSystem(clean=True, consistent=True, replayed=False, log=log, problem='')
    report = copy_check._report(found)
    assert (report.records, report.first, report.last) == (3, 1, 4)
    assert report.holes == [(3, 3)]
    assert report.bad_crc == 1
    assert report.torn_tail
    assert report.longest_gap_ms == 320
    assert [gap.seq for gap in report.gaps_over(100)] == [4]
    assert not report.holds(2)


def test_report_holds_what_was_acknowledged() -> None:
    log = records.pack(record(1, 0)) + records.pack(record(2, 10))
    whole = copy_check._FileSystem(clean=True, consistent=True, replayed=False, log=log, problem='')
    report = copy_check._report(whole)
    assert report.holds(0)
    assert report.holds(2)
    assert not report.holds(3)
    empty = copy_check._report(dataclasses.replace(whole, log=b''))
    assert empty.holds(0)
    assert not empty.holds(1)
    assert empty.longest_gap_ms == 0


ACKS = """\
S 1 1000000 2000000 5000000000 0 0000002a
S 2 11000000 12000000 5010000000 10000000 0000002a
S 3 511000000 512000000 5510000000 500000000 0000002a
E 4 521000000 0 5520000000 10000000 0000002a
S 5 5310"""


def test_acknowledgements(tmp_path: Path) -> None:
    path = tmp_path / 'vda.acks'
    path.write_text(ACKS)
    assert [ack.seq for ack in acks.read(path)] == [1, 2, 3, 4]
    assert [ack.seq for ack in acks.read(path, since=2)] == [3, 4]
    assert acks.last_synced(path) == 3, 'the record that failed is not on the disk'
    assert acks.longest_gap_ms(path) == 500
    assert acks.longest_gap_ms(path, since=3) == 10
    assert acks.gaps(path, over_ms=100) == [acks.Gap(3, 500.0, 5_010_000_000)]


def test_no_acknowledgements_yet(tmp_path: Path) -> None:
    assert acks.last(tmp_path / 'none') is None
    assert acks.last_synced(tmp_path / 'none') == 0
    assert acks.gaps(tmp_path / 'none') == []


@pytest.mark.parametrize('line', ['', 'S 1 2', 'X 1 2 3 4 5 6', 'S one 2 3 4 5 6'])
def test_lines_that_are_none(line: str) -> None:
    assert acks.parse_line(line) is None


def _wait_for_lines(path: Path, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(path.read_text().splitlines()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(not shutil.which('gcc'), reason='needs gcc')
def test_the_writer_itself_agrees(tmp_path: Path) -> None:
    """Run the guest's program here: the reader must understand it, and a second run must go on counting."""
    program = tmp_path / 'writer'
    subprocess.run(['gcc', '-O2', '-o', program, SOURCE / 'guest' / 'writer.c'], check=True, timeout=60)
    log = tmp_path / 'log'
    for run in (1, 2):
        port = tmp_path / f'port{run}'
        port.touch()
        process = subprocess.Popen([program, 'log', 'vda', log, port, '1', 'sync'])
        try:
            _wait_for_lines(port, 20)
        finally:
            process.kill()
            process.wait(10)
        if run == 1:
            with open(log, 'ab') as handle:
                handle.write(b'torn')
    good = [one for one in records.split(log.read_bytes()) if one]
    assert len(good) * 64 == log.stat().st_size, 'the torn tail was cut off, and every record is whole'
    assert [one.seq for one in good] == list(range(1, len(good) + 1))
    assert {one.target for one in good} == {'vda'}
    assert acks.last_synced(tmp_path / 'port2') in (len(good), len(good) - 1)
