# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PID 1 inside a lab's namespaces: mounts, then virtlogd and libvirtd, restarted whenever they end.

Run by daemon.py as a script, by its path, in fresh mount, PID, IPC and UTS namespaces:
    supervisor.py NAME BASE TOKEN
While the file run/hold-libvirtd exists a libvirtd that ended is not started again.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from disksnap_lab import mounts, processes, view
from disksnap_lab.commands import find, require, run
from disksnap_lab.paths import LabPaths, root

RESTART_PAUSE = 0.1


class Child:
    """One daemon that is kept running."""

    def __init__(self, argv: list[str], log: Path, hold: Path | None = None) -> None:
        self._argv = argv
        self._log = log
        self._hold = hold
        self._next_start = 0.0
        self.pid = 0

    def keep_running(self) -> None:
        """Start it unless it runs, is held, or has only just ended."""
        held = self._hold is not None and self._hold.exists()
        if self.pid or held or time.monotonic() < self._next_start:
            return
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        files = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(self._log), append, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        # Not subprocess.Popen: it would reap children behind our back, and hand our signal mask on.
        self.pid = os.posix_spawn(
            self._argv[0], self._argv, os.environ, file_actions=files, setsigmask=[], setsigdef=[signal.SIGPIPE]
        )

    def ended(self) -> None:
        """Note that it has gone."""
        self.pid = 0
        self._next_start = time.monotonic() + RESTART_PAUSE


def enter(paths: LabPaths, token: str, hostname: str) -> None:
    """Write down who we are, then make the machine look as if it had nothing but this lab."""
    # /proc is still the outer one here, so this is our number outside, which down needs.
    state = dict(processes.identity(int(os.readlink('/proc/self'))), token=token)
    ours = {paths.base, paths.view}
    for point in mounts.below(root()):
        if not ours & {point, *point.parents}:
            run(['umount', '-l', point], accept=(0, 1, 32))  # mounts of other labs and fleets: do not keep them alive
    top = paths.view if view.mounted(paths) else Path('/')
    # A view has them, and so has this machine's own system, for programs that are not part of the other one.
    for place in dict.fromkeys([Path('/'), top]):
        _furnish(paths, place)
    if top != Path('/'):
        os.chroot(top)
        os.chdir('/')
    socket.sethostname(hostname)
    unfinished = paths.state.with_suffix('.new')
    unfinished.write_text(json.dumps(state), encoding='utf-8')
    unfinished.rename(paths.state)


def _furnish(paths: LabPaths, top: Path) -> None:
    run(['mount', '-t', 'proc', 'proc', view.inside(Path('/proc'), top)])
    inside = {
        paths.etc: '/etc/libvirt',
        paths.lib: '/var/lib/libvirt',
        paths.log: '/var/log/libvirt',
        paths.cache: '/var/cache/libvirt',
        paths.run: '/run',
    }
    for source, target in inside.items():
        point = view.inside(Path(target), top)
        os.makedirs(point, exist_ok=True)
        run(['mount', '--bind', source, point])


def daemons(paths: LabPaths) -> list[Child]:
    """libvirt's, in the order of their start."""
    children = [Child([require('libvirtd')], paths.log / 'libvirtd.out', hold=paths.hold)]
    virtlogd = find('virtlogd')
    if virtlogd:
        children.insert(0, Child([virtlogd], paths.log / 'virtlogd.out'))
    return children


def supervise(children: list[Child]) -> None:
    """Keep the daemons running and reap everybody's orphans, for ever."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    while True:
        for child in children:
            child.keep_running()
        signal.sigtimedwait([signal.SIGCHLD], 0.05 if any(not child.pid for child in children) else 5)
        while True:
            try:
                pid, _status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            for child in children:
                if child.pid == pid:
                    child.ended()


def main() -> None:
    """Never returns: when PID 1 ends, so does all in its namespace."""
    name, base, token = sys.argv[1:]
    paths = LabPaths(name, Path(base))
    # The dot keeps libvirt from asking name servers for the rest of the name.
    enter(paths, token, hostname=f'{name}.disksnap-lab')
    supervise(daemons(paths))


if __name__ == '__main__':
    main()
