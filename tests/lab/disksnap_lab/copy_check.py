# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the writer's log out of an image that is a copy of a guest's disk, and judge the copy."""

from __future__ import annotations

import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import records
from .acks import Gap
from .commands import require, run
from .errors import LabError
from .paths import make_root
from .records import Record


@dataclass(frozen=True)
class Report:
    """What a copy holds.

    clean: the file system was whole as copied (xfs: after its log was replayed, for a frozen xfs leaves its log
    to be replayed by design). consistent: it is whole after a replay of the journal, as after a power cut.
    replayed: a journal or log had to be replayed. holes: see records.holes. torn_tail: the log ends in half a record.
    """

    clean: bool
    consistent: bool
    replayed: bool
    records: int
    first: int | None
    last: int | None
    holes: list[tuple[int, int]]
    bad_crc: int
    torn_tail: bool
    gaps: list[Gap]
    problem: str = ''

    @property
    def longest_gap_ms(self) -> float:
        """The longest time between the starts of two records of one boot."""
        return max((gap.ms for gap in self.gaps), default=0.0)

    def gaps_over(self, ms: float) -> list[Gap]:
        """Gaps longer than this."""
        return [gap for gap in self.gaps if gap.ms > ms]

    def holds(self, seq: int) -> bool:
        """Whether all records up to this acknowledged one are there and whole."""
        return not self.holes and not self.bad_crc and (seq == 0 or (self.last or 0) >= seq)


@dataclass(frozen=True)
class _FileSystem:
    clean: bool
    consistent: bool
    replayed: bool
    log: bytes
    problem: str


def check_copy(image: Path, format_: str = 'qcow2', fs: str = 'ext4') -> Report:
    """Judge a copy; the image, and its backing chain, are only read. Don't give it an image that is being written."""
    scratch_root = make_root() / 'scratch'
    scratch_root.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch_root, prefix='check-') as directory:
        raw = Path(directory) / 'copy.raw'
        run(['qemu-img', 'convert', '-f', format_, '-O', 'raw', image, raw], timeout=300)
        if fs == 'ext4':
            found = _read_ext4(raw)
        elif fs == 'xfs':
            found = _read_xfs(raw)
        else:
            raise LabError(f'File system {fs!r} is not one of ext4, xfs')
    return _report(found)


def _report(found: _FileSystem) -> Report:
    all_records = list(records.split(found.log))
    good = [record for record in all_records if record]
    return Report(
        clean=found.clean,
        consistent=found.consistent,
        replayed=found.replayed,
        records=len(good),
        first=good[0].seq if good else None,
        last=good[-1].seq if good else None,
        holes=records.holes(record.seq for record in good),
        bad_crc=len(all_records) - len(good),
        torn_tail=len(found.log) % records.RECORD.size != 0,
        gaps=gaps_between(good),
        problem=found.problem,
    )


def gaps_between(good: list[Record]) -> list[Gap]:
    """Time from each record's start to the next one's, within a boot."""
    return [
        Gap(later.seq, (later.start_ns - earlier.start_ns) / 1e6, earlier.realtime_ns)
        for earlier, later in zip(good, good[1:])
        if earlier.boot == later.boot
    ]


def _read_ext4(raw: Path) -> _FileSystem:
    header = run(['dumpe2fs', '-h', raw], accept=(0, 1)).stdout
    replayed = 'needs_recovery' in header
    if replayed:
        run(['e2fsck', '-f', '-y', '-E', 'journal_only', raw], timeout=120, accept=(0, 1, 2, 4))
    check = run(['e2fsck', '-f', '-n', raw], timeout=120, accept=(0, 1, 2, 4, 8, 12))
    consistent = check.returncode == 0
    log = raw.with_name('log')
    run(['debugfs', '-R', f'dump /log {log}', raw], timeout=120)
    return _FileSystem(
        clean=consistent and not replayed,
        consistent=consistent,
        replayed=replayed,
        log=log.read_bytes() if log.exists() else b'',
        problem='' if consistent else check.stdout.strip(),
    )


def _read_xfs(raw: Path) -> _FileSystem:
    """Mount and replay in a child with a mount namespace of its own, so that nothing stays mounted whatever happens."""
    log = raw.with_name('log')
    before = run(['xfs_logprint', '-t', raw], accept=(0, 1))
    replayed = not re.search(r'log tail: \d+ head: \d+ state: <CLEAN>', before.stdout + before.stderr)
    reader = Path(__file__).with_name('xfs_reader.py')
    unshare = ['unshare', '--mount', '--propagation', 'private']
    mounted = run([*unshare, sys.executable or require('python3'), '-B', reader, raw, log], timeout=120, accept=(0, 1))
    check = run(['xfs_repair', '-n', raw], timeout=120, accept=(0, 1, 2))
    consistent = mounted.returncode == 0 and check.returncode == 0
    return _FileSystem(
        clean=consistent,
        consistent=consistent,
        replayed=replayed,
        log=log.read_bytes() if log.exists() else b'',
        problem='' if consistent else (mounted.stderr + check.stdout).strip(),
    )
