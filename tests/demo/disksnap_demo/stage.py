# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab that the demo plays in: brought up, and taken down on every way out."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from disksnap_lab import Lab, LabError
from disksnap_lab.paths import make_root

NAME = 'demo'
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stage() -> Iterator[Lab]:
    """A lab of the demo's own.

    Raises:
        LabError: if another demo is running, or somebody brought a lab of that name up by hand.
    """
    lab = Lab(NAME)
    note = os.open(make_root() / f'{NAME}.demo', os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _claim(lab, note)
        for number in _SIGNALS:
            signal.signal(number, _interrupt)
        try:
            lab.up()
            yield lab
        finally:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave guests running
            lab.down()
            os.ftruncate(note, 0)
    finally:
        os.close(note)


def left_running(lab: Lab) -> list[str]:
    """Command lines that name a path of the lab."""
    commands = [_command(path) for path in Path('/proc').glob('[0-9]*/cmdline')]
    return [command for command in commands if str(lab.paths.base) in command]


def _command(path: Path) -> str:
    try:
        return path.read_bytes().replace(b'\0', b' ').decode(errors='replace')
    except OSError:
        return ''  # it has ended meanwhile


def _claim(lab: Lab, note: int) -> None:
    """Only one demo at a time. The note says that the lab is a demo's, so that the leftover of a killed one can go."""
    try:
        fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LabError('Another demo is running; wait for its end') from None
    if lab.daemon.running() and not os.pread(note, 1, 0):
        raise LabError(f'A lab {NAME} is up, and not by a demo: take it down with tests/lab/lab down --name {NAME}')
    lab.down()
    os.pwrite(note, b'up', 0)


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)
