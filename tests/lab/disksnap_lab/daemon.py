# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The private libvirtd of one lab: configuration, start, stop, and finding its processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

from . import mounts, processes, view
from .commands import require, run
from .errors import LabError
from .paths import LabPaths, root
from .system import system as known_system

# stdio_handler: virtlogd would rotate the files that guests write to. The rest: QEMU as plain root without
# cgroups, mount namespace or extended attributes, which a namespace of ours can't always have.
_QEMU_CONF = """\
security_driver = "none"
user = "root"
group = "root"
namespaces = []
cgroup_controllers = []
remember_owner = 0
stdio_handler = "file"
"""
_LIBVIRTD_CONF = """\
host_uuid = "{uuid}"
unix_sock_group = "root"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
max_clients = 500
max_workers = 40
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
"""


class Daemon:
    """libvirtd in its own namespaces."""

    namespaces: tuple[str, ...] = ('mount', 'pid', 'ipc', 'uts')
    supervisor = 'supervisor.py'

    def __init__(self, paths: LabPaths, system: str | None = None) -> None:
        self.paths = paths
        self._system = known_system(system) if system else None

    def state(self) -> dict[str, Any]:
        """What the supervisor wrote down about itself; empty when the lab never ran."""
        try:
            recorded: dict[str, Any] = json.loads(self.paths.state.read_text(encoding='utf-8'))
        except (FileNotFoundError, ValueError):
            return {}
        return recorded

    def running(self) -> bool:
        """Whether the namespaces exist."""
        recorded = self.state()
        return bool(recorded) and processes.alive(recorded)

    def init_pid(self) -> int:
        """Outer pid of the namespaces' PID 1."""
        recorded = self.state()
        if not recorded or not processes.alive(recorded):
            raise LabError(f'Lab {self.paths.name} is not up')
        return int(recorded['pid'])

    def processes(self) -> dict[int, str]:
        """Pid -> command name of all that runs in the lab, QEMUs included."""
        return processes.in_namespace_of(self.init_pid()) if self.running() else {}

    def libvirtd_pid(self) -> int | None:
        """Outer pid of libvirtd; None while it is down."""
        # libvirtd forks now and then, for a moment; the daemon is the one that PID 1 started first
        found = {processes.inner_pid(pid): pid for pid, name in self.processes().items() if name == 'libvirtd'}
        inner = min((number for number in found if number is not None), default=None)
        return None if inner is None else found[inner]

    @staticmethod
    def require_programs() -> None:
        """Say early what has to be installed."""
        for program in ('libvirtd', 'qemu-system-x86_64', 'qemu-img', 'unshare', 'setsid', 'mount', 'losetup'):
            require(program)

    def start(self, timeout: float) -> None:
        """Make directories, mounts and namespaces, and wait until libvirtd listens."""
        tree = self._system.build() if self._system else None
        self._prepare()
        if tree is not None:
            view.mount(self.paths, tree)
        token = uuid.uuid4().hex
        supervisor = Path(__file__).with_name(self.supervisor)
        unshare = [require('unshare'), *self._namespace_options(), '--fork', '--propagation', 'slave']
        argv = [require('setsid'), '--fork', *unshare, '/usr/bin/python3', '-B', str(supervisor)]
        argv += [self.paths.name, str(self.paths.base), token]
        log = self.paths.base / 'supervisor.log'
        with open(log, 'wb') as out:
            subprocess.run(
                argv,
                cwd='/',
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                timeout=timeout,
                check=True,
                env=_environment(),
            )
        deadline = time.monotonic() + timeout
        while not (self.state().get('token') == token and self.running() and self.paths.socket.exists()):
            said = log.read_text(encoding='utf-8', errors='replace').splitlines()
            if said and said[-1].startswith('unshare:'):
                raise LabError(f'Failed to make namespaces: {said[-1]}')
            if time.monotonic() > deadline:
                raise LabError(f'Failed to start libvirtd in {timeout:g} s: see {log} and {self.paths.log}')
            time.sleep(0.02)

    def _namespace_options(self) -> list[str]:
        return [f'--{namespace}' for namespace in self.namespaces]

    def _prepare(self) -> None:
        base = self.paths.base
        base.mkdir(parents=True, exist_ok=True)
        base.chmod(0o711)
        mounts.bind_shared(base)
        for directory in self.paths.directories():
            directory.mkdir(exist_ok=True)
        mounts.mount_tmpfs(self.paths.run)
        for directory in (self.paths.run / 'libvirt', self.paths.run / 'lock', self.paths.run / 'nbd'):
            directory.mkdir()
        for name in ('images', 'qemu', 'boot', 'dnsmasq'):
            (self.paths.lib / name).mkdir(exist_ok=True)
        (self.paths.etc / 'qemu.conf').write_text(_QEMU_CONF, encoding='utf-8')
        conf = self.paths.etc / 'libvirtd.conf'
        if not conf.exists():
            conf.write_text(_LIBVIRTD_CONF.format(uuid=uuid.uuid4()), encoding='utf-8')

    def stop(self, keep: bool) -> None:
        """End all processes, loop devices and mounts of the lab, whatever state it was left in."""
        recorded = self.state()
        if recorded:
            processes.kill_namespace(recorded)
        for device in mounts.loops_below(self.paths.base):
            mounts.detach_loop(device)
        view.unmount(self.paths.view)
        mounts.unmount_below(self.paths.base)
        for device in mounts.loops_below(self.paths.base):
            mounts.detach_loop(device)  # those that a mount had held
        self.paths.state.unlink(missing_ok=True)
        if not keep and self.paths.base.exists():
            shutil.rmtree(self.paths.base)

    def crash(self) -> None:
        """End all processes, and nothing else."""
        self.init_pid()  # says so when there are none
        processes.kill_namespace(self.state())

    def enter_argv(self, *argv: str, own_system: bool = True) -> list[str]:
        """A command line that runs another one inside the lab's namespaces.

        Where the lab has a system of its own it runs in that, or with own_system=False in this machine's.
        """
        options = self._namespace_options()
        if own_system and view.mounted(self.paths):
            options += ['--root', '--wd']
        return ['nsenter', '--target', str(self.init_pid()), *options, '--', *argv]

    def run_inside(self, *argv: str, timeout: float = 30) -> str:
        """Run a program inside; what it leaves running ends with the lab."""
        return run(self.enter_argv(require(argv[0]), *argv[1:]), timeout=timeout).stdout

    def kill_libvirtd(self, hold: bool = False) -> int:
        """kill -9 libvirtd as a crash would; with hold it stays down until release_libvirtd()."""
        if hold:
            self.paths.hold.touch()
        pid = self.libvirtd_pid()
        if pid is None:
            raise LabError(f'libvirtd of lab {self.paths.name} is not running')
        started = processes.start_time(pid)
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while started is not None and processes.start_time(pid) == started:
            if time.monotonic() > deadline:
                raise LabError('libvirtd is still there 10 s after SIGKILL')
            time.sleep(0.005)
        return pid

    def release_libvirtd(self) -> None:
        """Let a held libvirtd be started again."""
        self.paths.hold.unlink(missing_ok=True)


def _environment() -> dict[str, str]:
    """A plain environment: nothing of the caller's shell leaks into libvirtd."""
    return {
        'PATH': '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        'HOME': '/root',
        'LC_ALL': 'C.UTF-8',
        'DISKSNAP_LAB_ROOT': str(root()),
    }


def assert_root() -> None:
    """The lab mounts file systems and makes namespaces."""
    if os.geteuid() != 0:
        raise LabError('The lab needs root')
