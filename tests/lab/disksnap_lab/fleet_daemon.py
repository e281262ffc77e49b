# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirtd and sshd of one host of a fleet: configuration, start, stop."""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from pathlib import Path

from . import processes
from .commands import require, run
from .daemon import Daemon
from .fleet_paths import FleetPaths, HostPaths
from .waiting import wait_for

# No PAM: what its modules ask for is the machine's, not the host's. MaxStartups: a controller with many forks.
_SSHD_CONFIG = """\
ListenAddress 0.0.0.0
HostKey "{host_key}"
AuthorizedKeysFile "{authorized}"
AuthenticationMethods publickey
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
UseDNS no
PidFile none
PrintMotd no
AcceptEnv LANG LC_*
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
"""
_SHADOW = 'root:*:19000:0:99999:7:::\n'  # no password; without PAM, sshd refuses an account that is locked ('!')


def make_key(path: Path) -> None:
    """A key pair, unless it is there: path and path.pub."""
    if path.exists():
        return
    unfinished = path.with_name(f'{path.name}.new')
    for left in (unfinished, Path(f'{unfinished}.pub')):
        left.unlink(missing_ok=True)
    run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'disksnap-lab', '-f', unfinished])
    Path(f'{unfinished}.pub').rename(f'{path}.pub')
    unfinished.rename(path)


def _passwd(home: Path) -> str:
    """The machine's accounts, but for root's home: on each host another, where Ansible puts its files."""
    lines = Path('/etc/passwd').read_text(encoding='utf-8').splitlines(keepends=True)
    others = [line for line in lines if not line.startswith('root:')]
    return ''.join([f'root:x:0:0:root:{home}:/bin/bash\n', *others])


class FleetDaemon(Daemon):
    """A lab's libvirtd, in a network namespace besides the others, and with sshd."""

    namespaces = (*Daemon.namespaces, 'net')
    supervisor = 'fleet_supervisor.py'
    paths: HostPaths

    def __init__(self, fleet: FleetPaths, number: int) -> None:
        super().__init__(HostPaths(fleet, number))

    @staticmethod
    def require_programs() -> None:
        """Say early what has to be installed."""
        Daemon.require_programs()
        for program in ('ip', 'nsenter', 'ssh', 'ssh-keygen', 'sshd'):
            require(program)

    def _prepare(self) -> None:
        super()._prepare()
        paths = self.paths
        paths.own_etc.mkdir(exist_ok=True)
        paths.home.mkdir(mode=0o700, exist_ok=True)
        (paths.run / 'sshd').mkdir()
        if not (paths.own_etc / 'machine-id').exists():
            (paths.own_etc / 'machine-id').write_text(f'{uuid.uuid4().hex}\n', encoding='ascii')
        (paths.own_etc / 'passwd').write_text(_passwd(paths.home), encoding='utf-8')
        (paths.own_etc / 'shadow').write_text(_SHADOW, encoding='ascii')
        paths.boot_id.write_text(f'{uuid.uuid4()}\n', encoding='ascii')
        make_key(paths.host_key)
        config = _SSHD_CONFIG.format(host_key=paths.host_key, authorized=f'{paths.fleet.key}.pub')
        paths.sshd_config.write_text(config, encoding='utf-8')

    def stop(self, keep: bool) -> None:
        """Also a host that was being started when up() was killed, and had not written down who it is."""
        for pid in self._supervisors():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(f'end of host {self.paths.name}', lambda: not self._supervisors(), 20, 0.02)
        super().stop(keep)

    def _supervisors(self) -> list[int]:
        """Pids of the host's PID 1, and of unshare, which waits for it."""
        script = Path(__file__).with_name(self.supervisor).name
        return processes.with_arguments(script, str(self.paths.base))
