# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where everything of the lab lies, and the locks that guard it."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from .errors import LabError

SOURCE = Path(__file__).resolve().parent.parent
_NAME = re.compile(r'[a-z0-9][a-z0-9-]{0,23}')
_SOCKET_PATH_MAX = 107


def root() -> Path:
    """Root of all lab data; environment variable DISKSNAP_LAB_ROOT moves it."""
    return Path(os.environ.get('DISKSNAP_LAB_ROOT') or '/var/cache/disksnap-lab').absolute()


def is_name(text: str) -> bool:
    """Whether a lab may be called so."""
    return bool(_NAME.fullmatch(text))


def make_root() -> Path:
    """Create the root if need be: others may pass through, not look around."""
    path = root()
    (path / 'guest').mkdir(parents=True, exist_ok=True)
    (path / 'labs').mkdir(exist_ok=True)
    for directory in (path, path / 'guest', path / 'labs'):
        directory.chmod(0o711)
    return path


class LabPaths:
    """The directories of one lab; the same path means the same file inside and outside of its namespaces."""

    def __init__(self, name: str, base: Path | None = None) -> None:
        if not is_name(name):
            raise LabError(f'Lab name {name!r} is not one to 24 lower-case letters, digits or hyphens')
        self.name = name
        self.base = base or root() / 'labs' / name
        self.etc = self.base / 'etc'  # /etc/libvirt inside
        self.lib = self.base / 'lib'  # /var/lib/libvirt inside
        self.log = self.base / 'log'  # /var/log/libvirt inside
        self.cache = self.base / 'cache'  # /var/cache/libvirt inside
        self.run = self.base / 'run'  # /run inside; a tmpfs
        self.images = self.base / 'images'
        self.guests = self.base / 'guests'  # what define() made, one JSON file a guest, and consoles and acks
        self.mnt = self.base / 'mnt'  # file systems made by filesystem()
        self.scratch = self.base / 'scratch'
        self.state = self.base / 'state.json'
        self.socket = self.run / 'libvirt' / 'libvirt-sock'
        self.hold = self.run / 'hold-libvirtd'
        self.lock = self.base.with_name(f'{name}.lock')
        self.view = self.base.with_name(f'{name}.view')  # mounts of a lab with a system of its own; see view.py
        self.python = self.base / 'python3'  # of that system

    @property
    def uri(self) -> str:
        """Connection URI that works from any process of this machine."""
        return f'qemu:///system?socket={quote(str(self.socket), safe="/")}'

    def check_length(self) -> None:
        """Unix socket paths are short; say so before libvirtd does in its own words."""
        longest = self.run / 'libvirt' / 'libvirt-admin-sock'
        if len(str(longest)) > _SOCKET_PATH_MAX:
            raise LabError(
                f'{longest} is longer than {_SOCKET_PATH_MAX} bytes: set DISKSNAP_LAB_ROOT to a shorter path'
            )

    def directories(self) -> list[Path]:
        """All directories that up makes."""
        return [
            self.etc, self.lib, self.log, self.cache, self.run,
            self.images, self.guests, self.mnt, self.scratch,
        ]  # fmt: skip


@contextmanager
def locked(path: Path, timeout: float = 180) -> Iterator[None]:
    """Hold an exclusive lock on a file that stays behind (a removed lock file would not lock)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'a', encoding='utf-8') as handle:
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LabError(f'Failed to lock {path}: another process has held it for {timeout:g} s') from None
                time.sleep(0.05)
        yield
