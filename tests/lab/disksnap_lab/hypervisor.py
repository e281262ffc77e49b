# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A running hypervisor with LVM, btrfs, xfs, AppArmor and a guest, which goes back to where it began in seconds."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import hypervisor_layout as layout
from .errors import LabError
from .hypervisor_guest import HypervisorGuest
from .hypervisor_image import hypervisor_image, hypervisor_root
from .hypervisor_ssh import Connection
from .hypervisor_state import READY, hypervisor_state
from .hypervisor_vm import Machine, end
from .paths import locked
from .waiting import wait_for

_ATTEMPTS = 3
# so that a program on one whose emulation broke down does not seem to run for ever
_SSH_OPTIONS = ('ServerAliveInterval=30', 'ServerAliveCountMax=6')
_NAME = re.compile(r'[a-z0-9][a-z0-9-]{0,23}')


def _directory(name: str) -> Path:
    Hypervisor.check_name(name)
    return hypervisor_root() / 'running' / name


def names() -> list[str]:
    """All hypervisors that were started and not stopped, those that a crash left behind included."""
    directory = hypervisor_root() / 'running'
    return sorted(path.name for path in directory.iterdir() if path.is_dir()) if directory.is_dir() else []


class Hypervisor:
    """One VM. Get it by start(); another process finds it by its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.directory = _directory(name)
        self.machine = Machine(self.directory, hypervisor_image())
        self.ssh = Connection(self.directory, self.machine.port, self.machine.image.key, more_options=_SSH_OPTIONS)

    @staticmethod
    def check_name(name: str) -> None:
        """Its files and its socket bear the name."""
        if not _NAME.fullmatch(name):
            raise LabError(f'Hypervisor name {name!r} is not one to 24 lower-case letters, digits or hyphens')

    @classmethod
    def start(cls, name: str, say: Callable[[str], None] = lambda _text: None) -> Hypervisor:
        """A fresh one; what the cache lacks is built first (minutes), and one left under this name is ended."""
        state = hypervisor_state(say)
        directory = _directory(name)
        with locked(directory.with_suffix('.lock')):
            _remove(directory)
            directory.mkdir(mode=0o700)
            state.copy_to(directory).start(READY)
        found = cls(name)
        found._settle()
        return found

    def reset(self) -> None:
        """Back to the saved state: disks, memory, guests, all, in a QEMU of its own.

        Loaded by a QEMU that runs on, the state finds its clock (TSC) as far ahead as that QEMU has run: the kernel
        reports a lockup, systemd's watchdog kills what it watches after three minutes of that, and the nested guest's
        agent may fall silent (measured with QEMU 10).

        Now and then what was saved does not come to life: its kernel stalls, and the guest's agent never answers
        (seen once in some hundred times, on a busy machine). It is loaded anew then.
        """
        for attempt in range(_ATTEMPTS):
            self.ssh.close()
            end(self.directory)
            self.machine.start(READY)
            try:
                self._settle()
                return
            except LabError:
                if attempt == _ATTEMPTS - 1:
                    raise

    def _settle(self) -> None:
        wait_for(f'ssh to hypervisor {self.name} (see {self.machine.console})', self.ssh.answers, 180, 0.2)
        self.run(['date', '--set', f'@{time.time():.3f}'])
        self.guest('inner').wait_agent()

    def stop(self) -> None:
        """Pull the plug and delete its files; the cache stays."""
        self.ssh.close()
        with locked(self.directory.with_suffix('.lock')):
            _remove(self.directory)

    def run(
        self, argv: Sequence[str | Path], timeout: float = 300, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as root; with check LabError unless it ends with 0."""
        return self.ssh.run(argv, timeout, check)

    def put(self, local_path: Path | str, remote_path: Path | str) -> None:
        """Copy a file there."""
        self.ssh.put(Path(local_path), str(remote_path))

    def fetch(self, remote_path: Path | str, local_path: Path | str) -> Path:
        """Copy a file or block device from there, to a sparse file."""
        self.ssh.fetch(str(remote_path), Path(local_path))
        return Path(local_path)

    def guest(self, name: str) -> HypervisorGuest:
        """One of its guests: inner runs, spare is shut off."""
        if name not in layout.DISKS:
            raise LabError(f'The hypervisor has no guest {name}: there are {", ".join(layout.DISKS)}')
        return HypervisorGuest(self.ssh, name)

    def inventory(self) -> dict[str, Any]:
        """What Ansible has to know of this host. It shares our ssh connection, so that reset() ends it for both."""
        return {
            'ansible_host': '127.0.0.1',
            'ansible_port': self.ssh.port,
            'ansible_user': 'root',
            'ansible_ssh_private_key_file': str(self.ssh.key),
            'ansible_ssh_common_args': ' '.join(self.ssh.options),
            'ansible_python_interpreter': '/usr/bin/python3',
        }


def remove(name: str) -> None:
    """End a hypervisor whatever state it was left in, and delete its files."""
    directory = _directory(name)
    with locked(directory.with_suffix('.lock')):
        _remove(directory)


def _remove(directory: Path) -> None:
    end(directory)
    shutil.rmtree(directory, ignore_errors=True)
