# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The network of one fleet: a bridge, and a pair of virtual Ethernet devices for each host.

Bridge and addresses are told apart by one number, the subnet: disksnapN is 10.77.N.1/24, host M is 10.77.N.(10+M)
behind disksnapN-M. Their hardware addresses come from the fleet's directory. By these remove() knows what is its own,
and as they are the same after each start, nobody's ARP cache goes stale.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Collection
from pathlib import Path

from .commands import require, run
from .errors import LabError

_SUBNETS = 256
_OUTER_END = 128  # added to a host's number for the hardware address of the end that is on the bridge


def _subnet(number: int) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(f'10.77.{number}.0/24')


def _routes() -> list[ipaddress.IPv4Network]:
    """Addresses and networks that this machine knows of. Wide ones are left out: a default route, all of 10.0.0.0/8."""
    found = json.loads(run(['ip', '-json', '-4', 'route', 'show', 'table', 'all']).stdout or '[]')
    routes = [ipaddress.IPv4Network(route['dst']) for route in found if route['dst'] != 'default']
    return [route for route in routes if route.prefixlen >= 16]


def choose_subnet(name: str, taken: Collection[int]) -> int:
    """A subnet that nobody has, the same one for the same name if it is free."""
    first = hashlib.sha256(name.encode()).digest()[0]
    routes = _routes()
    for step in range(_SUBNETS):
        number = (first + step) % _SUBNETS
        if number not in taken and not any(route.overlaps(_subnet(number)) for route in routes):
            return number
    raise LabError('Every subnet 10.77.N.0/24 is in use: take a fleet down')


class Network:
    """The bridge of one fleet, and what hangs on it."""

    def __init__(self, subnet: int, fleet: Path) -> None:
        self.subnet = subnet
        self.bridge = f'disksnap{subnet}'
        self._prefix = '02:' + ':'.join(f'{byte:02x}' for byte in hashlib.sha256(bytes(fleet)).digest()[:4])

    def address(self, number: int) -> str:
        """IP address of a host."""
        return str(_subnet(self.subnet)[10 + number])

    def link(self, number: int) -> str:
        """The host's end on the bridge; inside, the other end is eth0."""
        return f'{self.bridge}-{number}'

    def _hardware_address(self, number: int) -> str:
        return f'{self._prefix}:{number:02x}'

    def links(self) -> dict[str, bool]:
        """Network devices of this fleet on this machine -> whether they are up."""
        found = json.loads(run(['ip', '-json', 'link', 'show']).stdout or '[]')
        return {
            link['ifname']: 'UP' in link['flags'] for link in found
            if link.get('address', '').startswith(f'{self._prefix}:') and link['ifname'].startswith(self.bridge)
        }  # fmt: skip

    def make(self) -> None:
        """The bridge; one that is there already is left as it is."""
        if self.bridge not in self.links():
            run(['ip', 'link', 'add', self.bridge, 'address', self._hardware_address(0), 'type', 'bridge'])
        run(['ip', 'address', 'replace', f'{_subnet(self.subnet)[1]}/24', 'dev', self.bridge])
        run(['ip', 'link', 'set', self.bridge, 'up'])

    def remove(self) -> None:
        """The bridge and all that hangs on it; nothing to do is fine."""
        for link in sorted(self.links(), reverse=True):
            self._delete(link)

    def attach(self, number: int, pid: int) -> None:
        """Give the network namespace of a process the host's address. Whatever is there already is made whole."""
        inside = ['nsenter', '--target', str(pid), '--net', '--', require('ip')]
        link = self.link(number)
        if run([*inside, 'link', 'show', 'eth0'], accept=(0, 1)).returncode:
            self.detach(number)
            ends = [
                link,
                'address',
                self._hardware_address(_OUTER_END + number),
                'type',
                'veth',
                'peer',
                'name',
                'eth0',
            ]
            run(['ip', 'link', 'add', *ends, 'address', self._hardware_address(number), 'netns', str(pid)])
        run([*inside, 'link', 'set', 'lo', 'up'])
        run([*inside, 'address', 'replace', f'{self.address(number)}/24', 'dev', 'eth0'])
        run([*inside, 'link', 'set', 'eth0', 'up'])
        run(['ip', 'link', 'set', link, 'master', self.bridge, 'up'])
        self._forget_neighbours()

    def detach(self, number: int) -> None:
        """Delete a host's devices; nothing to do is fine."""
        if self.link(number) in self.links():
            self._delete(self.link(number))

    def cut(self, number: int) -> None:
        """Pull the host's cable."""
        run(['ip', 'link', 'set', self.link(number), 'down'])

    def mend(self, number: int) -> None:
        """Plug it in again. What was found unreachable meanwhile is asked for anew."""
        run(['ip', 'link', 'set', self.link(number), 'up'])
        self._forget_neighbours()

    def _forget_neighbours(self) -> None:
        run(['ip', 'neighbour', 'flush', 'dev', self.bridge])

    def _delete(self, link: str) -> None:
        """A pair also goes by itself, when the kernel gets round to it, once its host has ended."""
        failed = run(['ip', 'link', 'delete', link], accept=(0, 1)).returncode
        if failed and link in self.links():
            raise LabError(f'Failed to delete network device {link}')
