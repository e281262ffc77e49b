# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One hypervisor of a fleet: a lab that has an address and an sshd, and that can crash or drop off the network."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .daemon import assert_root
from .fleet_daemon import FleetDaemon
from .fleet_paths import FleetPaths, HostPaths
from .hypervisor_ssh import Connection
from .lab import Lab
from .paths import locked
from .waiting import wait_for

# A host that crashed or was cut off sends nothing any more, so ssh has to find out by itself: in 10 to 15 s.
_SSH_OPTIONS = ('ConnectTimeout=10', 'ServerAliveInterval=5', 'ServerAliveCountMax=2')
SSH_PORT = 22


class FleetHost(Lab):
    """Get it by Fleet.host(). All that a lab can do goes for it as well: define(), guest(), connection, pool(), ..."""

    paths: HostPaths

    def __init__(self, fleet: FleetPaths, number: int) -> None:
        super().__init__(f'hv{number}', FleetDaemon(fleet, number))
        self.number = number
        self._fleet = fleet

    @property
    def address(self) -> str:
        """Its IP address."""
        return self._fleet.network.address(self.number)

    @property
    def ssh(self) -> Connection:
        """Root's login."""
        return Connection(self.paths.base, SSH_PORT, self._fleet.key, self.address, _SSH_OPTIONS)

    def run(
        self, argv: Sequence[str | Path], timeout: float = 300, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on it by ssh, as root; with check LabError unless it ends with 0."""
        return self.ssh.run(argv, timeout, check)

    def inventory(self) -> dict[str, Any]:
        """What Ansible has to know of this host. It shares our ssh connection, so that down() ends it for both."""
        return {
            'ansible_host': self.address,
            'ansible_port': SSH_PORT,
            'ansible_user': 'root',
            'ansible_ssh_private_key_file': str(self.ssh.key),
            'ansible_ssh_common_args': ' '.join(self.ssh.options),
            'ansible_python_interpreter': '/usr/bin/python3',
        }

    # -- up and down ----------------------------------------------------------------------------------------

    def up(self, timeout: float = 60, keep: bool = True) -> None:
        """Start it, unless it runs, and put it on the network; its files stay, unlike a lab's."""
        super().up(timeout, keep)
        with locked(self._fleet.network_lock):
            self._fleet.network.attach(self.number, self.daemon.init_pid())
        wait_for(f'sshd on host {self.name} (see {self.paths.sshd_log})', self._sshd_answers, timeout)

    def _sshd_answers(self) -> bool:
        try:
            with socket.create_connection((self.address, SSH_PORT), timeout=2) as stream:
                return stream.recv(4) == b'SSH-'
        except OSError:
            return False

    def start(self, timeout: float = 60) -> None:
        """Boot it after crash(): another boot_id, an empty /run, and guests that are defined and shut off."""
        self.ssh.close()  # may be one to the boot before, which nobody answers
        self.up(timeout)

    def crash(self) -> None:
        """Lose power: everything on it ends at once, guests included, and whoever talks to it hears nothing more."""
        assert_root()
        self.daemon.init_pid()  # says so when there is nothing to crash
        if self.connected():
            self.cut_network()  # else the kernel would close its connections in good order
        super().crash()
        self._fleet.network.detach(self.number)

    def down(self, keep: bool = False) -> None:
        """End it, whatever state it was left in; nothing to do is fine."""
        if self._fleet.recorded():
            self.ssh.close()
        super().down(keep)
        if self._fleet.recorded():
            self._fleet.network.detach(self.number)

    # -- network --------------------------------------------------------------------------------------------

    def cut_network(self) -> None:
        """Nobody reaches it any more, and it reaches nobody; it runs on, and so do its guests."""
        self._fleet.network.cut(self.number)

    def mend_network(self) -> None:
        """Undo cut_network(). A connection from before goes on, if neither end has given it up."""
        self._fleet.network.mend(self.number)

    def connected(self) -> bool:
        """Whether it is on the network."""
        network = self._fleet.network
        return network.links().get(network.link(self.number), False)
