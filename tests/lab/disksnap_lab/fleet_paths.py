# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where everything of a fleet lies, and what is written down about it."""

from __future__ import annotations

import json
import re

from .errors import LabError
from .fleet_network import Network
from .paths import LabPaths, root

HOSTS_MAX = 100  # as the addresses have room
_NAME = re.compile(r'[a-z0-9][a-z0-9-]{0,23}')


class FleetPaths:
    """The directory of one fleet, with a directory below it for each host."""

    def __init__(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise LabError(f'Fleet name {name!r} is not one to 24 lower-case letters, digits or hyphens')
        self.name = name
        self.base = root() / 'fleets' / name
        self.key = self.base / 'key'  # root's login on all hosts
        self.hosts = self.base / 'hosts'  # /etc/hosts inside
        self.inventory = self.base / 'inventory.json'
        self.record = self.base / 'fleet.json'
        self.lock = self.base.with_name(f'{name}.lock')
        self.network_lock = self.base.with_name('.network.lock')  # of all fleets

    def numbers(self) -> list[int]:
        """Numbers of the hosts that have a directory, whether or not they were written down."""
        found = (re.fullmatch(r'hv(\d+)', path.name) for path in self.base.glob('hv*'))
        return sorted(int(match[1]) for match in found if match)

    def recorded(self) -> dict[str, int]:
        """How many hosts there are ('hosts') and their part of 10.77.0.0/16 ('subnet'); empty for a new fleet."""
        try:
            known: dict[str, int] = json.loads(self.record.read_text(encoding='utf-8'))
        except FileNotFoundError:
            return {}
        return known

    def write_record(self, hosts: int, subnet: int) -> None:
        """Written down before anything is made, so that down() finds it."""
        unfinished = self.record.with_suffix('.new')
        unfinished.write_text(json.dumps({'hosts': hosts, 'subnet': subnet}), encoding='utf-8')
        unfinished.rename(self.record)

    @property
    def network(self) -> Network:
        """The bridge and the addresses that the fleet was given."""
        known = self.recorded()
        if not known:
            raise LabError(f'Fleet {self.name} is not up')
        return Network(known['subnet'], self.base)


class HostPaths(LabPaths):
    """The directories of one host: those of a lab, and files that tell it from the machine it runs on."""

    def __init__(self, fleet: FleetPaths, number: int) -> None:
        name = f'hv{number}'
        super().__init__(name, fleet.base / name)
        self.fleet = fleet
        self.lock = fleet.base.with_name(f'{fleet.name}.{name}.lock')  # beside what down() deletes
        self.own_etc = self.base / 'own-etc'  # files in /etc inside: machine-id, passwd, shadow
        self.boot_id = self.base / 'boot-id'  # /proc/sys/kernel/random/boot_id inside
        self.home = self.base / 'home'  # of root
        self.host_key = self.base / 'host-key'
        self.sshd_config = self.base / 'sshd_config'
        self.sshd_log = self.base / 'sshd.log'

    @property
    def hostname(self) -> str:
        """With a dot, which keeps libvirt from asking name servers for the rest of the name."""
        return f'{self.name}.{self.fleet.name}.disksnap-lab'
