# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The QEMU that a hypervisor runs in: its command line, its monitor, its start and its end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path

from .commands import run
from .errors import LabError
from .hypervisor_image import HypervisorImage
from .hypervisor_monitor import human
from .hypervisor_qemu import emulator
from .waiting import wait_for

# Disks beside the root file system's; inside they are /dev/disk/by-id/virtio-NAME.
DISKS = {'vg0': '3G', 'vg1': '128M', 'btrfs': '1G', 'xfs': '512M'}
MEMORY_MIB = 2048
_PID_FILE = 'qemu.pid'
_MACHINE = 'pc-q35-7.2'  # the newest that both Debian 12 and 13 have: a saved state holds for one machine type only
# tsc=reliable: else Linux reads the time from an emulated HPET, and whatever runs inside is slower by far
_CMDLINE = 'root=/dev/vda rw console=ttyS0 net.ifnames=0 tsc=reliable mitigations=off no_timer_check quiet panic=5'


class Machine:
    """One VM; all its files lie in one directory, the backing file of its root disk apart."""

    def __init__(self, directory: Path, image: HypervisorImage) -> None:
        self.directory = directory
        self.image = image
        self.console = directory / 'console'
        self._monitor = directory / 'qmp'
        self._port_file = directory / 'port'

    def disk(self, name: str) -> Path:
        """The image behind one of its disks, 'root' or one of DISKS."""
        return self.directory / f'{name}.qcow2'

    def make_disks(self) -> None:
        """Empty disks, and a root disk that is an overlay of the image's."""
        backing = ['-F', 'raw', '-b', str(self.image.disk)]
        run(['qemu-img', 'create', '-q', '-f', 'qcow2', *backing, self.disk('root')])
        for name, size in DISKS.items():
            run(['qemu-img', 'create', '-q', '-f', 'qcow2', self.disk(name), size])

    @property
    def port(self) -> int:
        """Port of this machine's loopback that leads to the VM's sshd."""
        try:
            return int(self._port_file.read_text(encoding='ascii'))
        except FileNotFoundError:
            raise LabError(f'There is no hypervisor in {self.directory}') from None

    def start(self, state: str | None = None, timeout: float = 180) -> None:
        """Start it, in a state saved earlier or from its boot. It outlives this process."""
        for attempt in range(3):
            if attempt or not self._port_file.exists():  # one that ran before keeps its port, if it can
                self._port_file.write_text(str(_free_port()), encoding='ascii')
            try:
                run(self._argv(state), timeout=timeout)
                return
            except LabError as error:
                if 'hostfwd' not in str(error) and 'host forwarding' not in str(error):
                    raise
        raise LabError(f'Failed to start {self.directory}: found no free port')

    def _argv(self, state: str | None) -> list[str]:
        argv = [*emulator(), '-name', f'disksnap-{self.directory.name}', '-nodefaults', '-no-user-config']
        argv += ['-machine', _MACHINE, '-accel', 'tcg,thread=multi,tb-size=512', '-cpu', 'max', '-smp', '2']
        argv += ['-m', str(MEMORY_MIB), '-display', 'none', '-serial', f'file:{self.console}', '-no-reboot']
        argv += ['-kernel', str(self.image.kernel), '-initrd', str(self.image.initrd), '-append', _CMDLINE]
        for name in ('root', *DISKS):
            drive = f'file={self.disk(name)},format=qcow2,cache=unsafe,discard=unmap,if=none,id={name}'
            argv += ['-drive', drive, '-device', f'virtio-blk-pci,drive={name},serial={name}']
        # nothing but the one port in: the VM has no way out
        network = f'user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-10.0.2.15:22'
        argv += ['-netdev', network, '-device', 'virtio-net-pci,netdev=net,romfile=', '-device', 'virtio-rng-pci']
        argv += [
            '-qmp',
            f'unix:{self._monitor},server=on,wait=off',
            '-pidfile',
            str(self.directory / _PID_FILE),
            '-daemonize',
        ]
        return [*argv, '-loadvm', state] if state else argv

    def ask(self, command: str, timeout: float = 30) -> str:
        """What QEMU's human monitor says to a command (info registers, info usernet)."""
        try:
            return human(self._monitor, command, timeout)
        except (OSError, ValueError) as error:
            raise LabError(f'Failed to ask QEMU of {self.directory} for {command!r}: {error}') from None

    def monitor(self, command: str, timeout: float = 180) -> None:
        """One command of QEMU's human monitor (savevm, loadvm) that must say nothing."""
        said = self.ask(command, timeout).strip()
        if said:
            raise LabError(f'Failed to {command}: {said}')


def running(directory: Path) -> int | None:
    """Process id of the QEMU whose files lie in this directory; None where none runs."""
    pid_file = directory / _PID_FILE
    try:
        pid = int(pid_file.read_text(encoding='ascii'))
        words = Path(f'/proc/{pid}/cmdline').read_bytes().split(b'\0')
    except (OSError, ValueError):
        return None
    return pid if str(pid_file).encode() in words else None


def end(directory: Path) -> None:
    """Pull the plug of the machine in this directory, if it runs. QEMU itself ends cleanly: its images are whole."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        pid = running(directory)
        if pid is None:
            return
        os.kill(pid, signal_number)
        with contextlib.suppress(LabError):
            wait_for(f'end of QEMU {pid}', lambda: running(directory) is None, 30)
    if running(directory) is not None:
        raise LabError(f'Failed to end QEMU of {directory}: it is still there after SIGKILL')


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return int(probe.getsockname()[1])
