# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Know a process by more than its number: pid plus start time, and the PID namespace it lives in."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from .errors import LabError


def boot_id() -> str:
    """Changes with each boot of the machine, after which no recorded pid means anything."""
    return Path('/proc/sys/kernel/random/boot_id').read_text(encoding='ascii').strip()


def start_time(pid: int) -> int | None:
    """Start time of a living process in clock ticks since boot; None when it has ended or is a zombie."""
    try:
        fields = Path(f'/proc/{pid}/stat').read_text(encoding='utf-8', errors='replace').rpartition(')')[2].split()
    except OSError:
        return None
    return None if fields[0] in 'ZX' else int(fields[19])


def identity(pid: int) -> dict[str, Any]:
    """What to write down so that the process can be recognized later."""
    return {'pid': pid, 'start': start_time(pid), 'boot': boot_id()}


def alive(recorded: dict[str, Any]) -> bool:
    """Whether the process written down is still that process."""
    started = recorded['start']
    return recorded.get('boot') == boot_id() and started is not None and start_time(recorded['pid']) == started


def _comm(pid: int) -> str:
    return Path(f'/proc/{pid}/comm').read_text(encoding='utf-8', errors='replace').strip()


def in_namespace_of(init: int) -> dict[int, str]:
    """Pid -> command name of all processes in the PID namespace that this process started, itself included."""
    found = {}
    try:
        namespace = os.readlink(f'/proc/{init}/ns/pid')
    except OSError:
        return {}
    for entry in os.listdir('/proc'):
        if entry.isdigit():
            try:
                if os.readlink(f'/proc/{entry}/ns/pid') == namespace:
                    found[int(entry)] = _comm(int(entry))
            except OSError:
                continue  # ended meanwhile
    return found


def inner_pid(pid: int) -> int | None:
    """The number a process has inside its own PID namespace; None when it has ended."""
    try:
        lines = Path(f'/proc/{pid}/status').read_text(encoding='utf-8').splitlines()
    except OSError:
        return None
    return next((int(line.split()[-1]) for line in lines if line.startswith('NSpid:')), pid)


def kill_namespace(recorded: dict[str, Any], timeout: float = 20) -> None:
    """Kill PID 1 of a namespace, and so all in it; return when the kernel has cleared them away."""
    if not alive(recorded):
        return
    members = {pid: start_time(pid) for pid in in_namespace_of(recorded['pid'])}
    try:
        os.kill(recorded['pid'], signal.SIGKILL)
    except ProcessLookupError:
        return
    deadline = time.monotonic() + timeout
    while any(start is not None and start_time(pid) == start for pid, start in members.items()):
        if time.monotonic() > deadline:
            raise LabError(f'Failed to end the lab: processes still there {timeout:g} s after SIGKILL')
        time.sleep(0.02)


def with_arguments(script: str, *arguments: str) -> list[int]:
    """Living processes that run a script of this file name, with these arguments among others."""
    found = []
    for entry in filter(str.isdigit, os.listdir('/proc')):
        try:
            words = Path(f'/proc/{entry}/cmdline').read_bytes().decode('utf-8', 'replace').split('\0')
        except OSError:
            continue  # ended meanwhile
        runs = any(os.path.basename(word) == script for word in words)
        if runs and set(arguments) <= set(words) and start_time(int(entry)) is not None:
            found.append(int(entry))
    return found
