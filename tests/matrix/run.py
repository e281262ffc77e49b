# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run one cell, and know what became of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.disksnap.libvirt.tests.matrix.cells import INTEGRATION, ROLE, SANITY, UNITS, Cell
from ansible_collections.disksnap.libvirt.tests.matrix.venvs import ROOT

LOGS = ROOT / '.build' / 'log' / 'matrix'
#: Seconds that a busy machine may take, environments that have yet to be made included.
TIMEOUTS = {SANITY: 2400.0, UNITS: 2400.0, ROLE: 2400.0, INTEGRATION: 5400.0}
#: What tests/ansible-test ends with.
CLOSING = re.compile(r'^ansible-test \S+: (\d+) passed, (\d+) failed$', re.MULTILINE)

PASSED, FAILED, NOT_RUN = 'passed', 'FAILED', 'not run'


@dataclass(frozen=True)
class Outcome:
    """What became of a cell; ``reason`` says why it did not pass."""

    cell: Cell
    state: str
    seconds: float = 0.0
    tests: int = 0
    reason: str = ''


def run(cell: Cell) -> Outcome:
    """Run it, with all that it prints in a log of its own."""
    if cell.reason:
        return Outcome(cell, NOT_RUN, reason=cell.reason)
    LOGS.mkdir(parents=True, exist_ok=True)
    log = log_of(cell)
    started = time.monotonic()
    with open(log, 'wb') as output:
        status = _status([str(ROOT / 'tests' / 'ansible-test'), *cell.argv()], output.fileno(), TIMEOUTS[cell.test])
    return judge(cell, status, log, time.monotonic() - started)


def log_of(cell: Cell) -> Path:
    """Where all that it prints is kept."""
    return LOGS / f'{cell.name.replace(" ", "-")}.log'


def last_words(cell: Cell, lines: int = 60) -> list[str]:
    """The end of its log, for those who see nothing but what is printed."""
    return log_of(cell).read_text(encoding='utf-8', errors='replace').splitlines()[-lines:]


def judge(cell: Cell, status: int | None, log: Path, seconds: float) -> Outcome:
    """It passed if it ended well, some test passed and none failed; a status of None is a run that had to be ended."""
    closing = CLOSING.findall(log.read_text(encoding='utf-8', errors='replace'))
    passed, failed = (int(count) for count in closing[-1]) if closing else (0, 0)
    if status is None:
        reason = f'it was ended after {seconds:.0f} s'
    elif not closing:
        reason = f'it broke down with status {status}'
    elif failed:
        reason = f'{failed} failed'
    elif status or not passed:
        reason = f'{passed} passed, and its status is {status}'
    else:
        return Outcome(cell, PASSED, seconds, passed)
    return Outcome(cell, FAILED, seconds, passed, f'{reason}; see {os.path.relpath(log, ROOT)}')


def _status(argv: list[str], output: int, timeout: float, grace: float = 30) -> int | None:
    """The exit status; None where it had to be ended, with all processes that it started."""
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.returncode is None:
            _end(process, grace)


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    """First as from the keyboard, so that scripts clear away what they made; in the end all of its group."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + grace
        try:
            os.killpg(process.pid, number)
            while time.monotonic() < deadline:
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(0.1)
        except ProcessLookupError:
            return
