# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several hypervisors on this machine: hosts hv1, hv2, ... by ssh, each with guests of its own.

Each has its own libvirtd and sshd in its own mount, PID, IPC, UTS and network namespaces; they share kernel, programs
and /dev. A private bridge leads to them, from this machine and from each other, and to nowhere else.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

from .daemon import assert_root
from .errors import LabError
from .fleet_daemon import FleetDaemon, make_key
from .fleet_host import FleetHost
from .fleet_network import choose_subnet
from .fleet_paths import HOSTS_MAX, FleetPaths
from .paths import locked, make_root, root

HOSTS = 4
GROUP = 'hypervisors'  # of all hosts, in the inventory


def names() -> list[str]:
    """All fleets that were brought up and not taken down, alive or not."""
    directory = root() / 'fleets'
    return sorted(path.name for path in directory.iterdir() if path.is_dir()) if directory.is_dir() else []


class Fleet:
    """One fleet by its name. Making the object does nothing yet: up() does, or an earlier process did.

    hosts is how many a new fleet gets; one that is there has as many as it had, and up() adds what it lacks.
    """

    def __init__(self, name: str = 'fleet', hosts: int = HOSTS) -> None:
        if not 1 <= hosts <= HOSTS_MAX:
            raise LabError(f'A fleet has 1 to {HOSTS_MAX} hosts, not {hosts}')
        self.name = name
        self.paths = FleetPaths(name)
        self._wanted = hosts
        self._hosts: dict[int, FleetHost] = {}

    def __enter__(self) -> Fleet:
        try:
            self.up()
        except BaseException:
            with contextlib.suppress(LabError):  # what went wrong first is what matters
                self.down()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.down()

    # -- hosts ----------------------------------------------------------------------------------------------

    @property
    def hosts(self) -> list[FleetHost]:
        """hv1, hv2, ..."""
        return [self._host(number) for number in range(1, self.paths.recorded().get('hosts', 0) + 1)]

    def host(self, name: str) -> FleetHost:
        """One of them."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise LabError(
            f'Fleet {self.name} has no host {name}: it has {", ".join(h.name for h in self.hosts) or "none"}'
        )

    def _host(self, number: int) -> FleetHost:
        """Always the same object, which keeps its connection to libvirtd."""
        if number not in self._hosts:
            self._hosts[number] = FleetHost(self.paths, number)
        return self._hosts[number]

    # -- up and down ----------------------------------------------------------------------------------------

    def up(self, timeout: float = 60) -> None:
        """Bring all hosts up, also those that crashed, were cut off, or ended with the machine; quick when they are."""
        assert_root()
        FleetDaemon.require_programs()
        make_root()
        with locked(self.paths.lock):
            self.paths.base.mkdir(exist_ok=True)
            self.paths.base.chmod(0o711)
            with locked(self.paths.network_lock):
                self._record()
                self.paths.network.make()
            make_key(self.paths.key)
            self._write_hosts()
            self.write_inventory()
            for host in self.hosts:
                if not host.daemon.running():
                    host.start(timeout)
                else:
                    host.up(timeout)

    def _record(self) -> None:
        known = self.paths.recorded()
        others = [FleetPaths(name).recorded() for name in names() if name != self.name]
        subnet = known.get('subnet')
        if subnet is None:
            subnet = choose_subnet(self.name, {other['subnet'] for other in others if other})
        self.paths.write_record(max(self._wanted, known.get('hosts', 0)), subnet)

    def _write_hosts(self) -> None:
        """Names and addresses, so that no host needs a name server. Written in place: hosts that run see it, too."""
        lines = [f'{host.address} {host.paths.hostname} {host.name}\n' for host in self.hosts]
        self.paths.hosts.write_text(''.join(['127.0.0.1 localhost\n', *lines]), encoding='ascii')

    def down(self, keep: bool = False) -> None:
        """End all that the fleet started; with keep its files stay, and up() brings the same hosts back."""
        assert_root()
        with locked(self.paths.lock):
            for number in self.paths.numbers():
                self._host(number).down(keep)
            if self.paths.recorded():
                self.paths.network.remove()
            if not keep and self.paths.base.exists():
                shutil.rmtree(self.paths.base)

    # -- Ansible --------------------------------------------------------------------------------------------

    def inventory(self) -> dict[str, Any]:
        """An Ansible inventory of all hosts, in the group hypervisors."""
        return {'all': {'children': {GROUP: {'hosts': {host.name: host.inventory() for host in self.hosts}}}}}

    def write_inventory(self, path: Path | None = None) -> Path:
        """As a file, by default the one that up() writes; its name has to end in .json, .yml or .yaml."""
        target = path or self.paths.inventory
        target.write_text(json.dumps(self.inventory(), indent=1), encoding='utf-8')
        return target
