# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mounts and loop devices of a lab: make, list, and clear away."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from .commands import run
from .errors import LabError


def _unescaped(text: str) -> str:
    return re.sub(r'\\([0-7]{3})', lambda match: chr(int(match.group(1), 8)), text)


def below(directory: Path) -> list[Path]:
    """Mount points at or below a directory, the last mounted first."""
    found = []
    with open('/proc/self/mountinfo', encoding='utf-8') as handle:
        for line in handle:
            point = Path(_unescaped(line.split()[4]))
            if point == directory or directory in point.parents:
                found.append(point)
    return found[::-1]


def mount_tmpfs(directory: Path) -> None:
    """A small tmpfs for sockets and pid files."""
    run(['mount', '-t', 'tmpfs', '-o', 'mode=755,size=64m', 'disksnap-lab', directory])


def bind_shared(directory: Path) -> None:
    """Turn a directory into a shared mount: what gets mounted below it later shows up in the lab's namespace too."""
    run(['mount', '--bind', directory, directory])
    run(['mount', '--make-shared', directory])


def unmount_below(directory: Path) -> None:
    """Unmount all at or below a directory; what is busy for too long is detached."""
    for _round in range(3):
        for point in below(directory):
            _unmount(point)
        if not below(directory):
            return
    raise LabError(f'Failed to unmount {below(directory)[0]}')


def _unmount(point: Path) -> None:
    for _attempt in range(10):
        if run(['umount', point], accept=(0, 1, 32)).returncode == 0:
            return
        if point not in below(point):
            return
        time.sleep(0.1)
    run(['umount', '-l', point], accept=(0, 1, 32))


def loops_below(directory: Path) -> dict[str, str]:
    """Loop device -> backing file, of those whose file lies below a directory."""
    found = {}
    for entry in sorted(os.listdir('/sys/block')):
        try:
            backing = Path(f'/sys/block/{entry}/loop/backing_file').read_text(encoding='utf-8').rstrip('\n')
        except OSError:
            continue  # no loop device, or a free one
        if backing.startswith(f'{directory}{os.sep}'):
            found[f'/dev/{entry}'] = backing
    return found


def attach_loop(file: Path, read_only: bool = False) -> str:
    """Attach a file to a free loop device."""
    flags = ['--read-only'] if read_only else []
    return run(['losetup', '--find', '--show', *flags, file]).stdout.strip()


def detach_loop(device: str) -> None:
    """Detach a loop device; one that is gone already is fine."""
    run(['losetup', '--detach', device], accept=(0, 1))
