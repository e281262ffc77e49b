# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""File systems that fail whoever writes to them: full, mounted read-only, or with a file that nobody may change."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

BLOCK = 4096


def fill(path: Path) -> None:
    """Make a file that takes all the room there is."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        at, step = 0, 1 << 30
        while step >= BLOCK:
            try:
                os.posix_fallocate(handle, at, step)
                at += step
            except OSError:
                step //= 2
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def full(filler: Path) -> Iterator[None]:
    """The file system has no room left meanwhile, as this file takes it."""
    fill(filler)
    try:
        yield
    finally:
        filler.unlink()


@contextlib.contextmanager
def read_only(point: Path) -> Iterator[None]:
    """The file system is mounted read-only meanwhile."""
    subprocess.run(['mount', '-o', 'remount,ro', point], check=True, timeout=60)
    try:
        yield
    finally:
        subprocess.run(['mount', '-o', 'remount,rw', point], check=True, timeout=60)


@contextlib.contextmanager
def immutable(path: Path) -> Iterator[None]:
    """Nobody may write to this file meanwhile, or change what is in this directory, not even root."""
    subprocess.run(['chattr', '+i', path], check=True, timeout=10)
    try:
        yield
    finally:
        subprocess.run(['chattr', '-i', path], check=True, timeout=10)
