# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""lab fleet up|status|run|crash|start|down."""

from __future__ import annotations

import argparse
import time
from typing import Any

from . import fleet
from .commands import become
from .fleet import Fleet
from .fleet_host import FleetHost
from .listing import show_guests
from .spec import GuestSpec

_ACTIONS = {
    'up': 'bring a fleet up; what is up already is left alone',
    'status': 'show one fleet, or all',
    'run': 'run a command on a host, by ssh',
    'crash': 'end a host and its guests at once',
    'start': 'start a host that crashed',
    'down': 'end everything a fleet started and delete its files',
}
_GUESTS = 'on each host define and start hvN-vm1 to hvN-vmK, and wait for them'


def add_parser(actions: Any) -> None:
    """Our part of the command line."""
    parser = actions.add_parser('fleet', help='several hypervisors, each by ssh with its own libvirtd')
    inner = parser.add_subparsers(dest='fleet_action', required=True)
    for action, text in _ACTIONS.items():
        one = inner.add_parser(action, help=text)
        default = None if action == 'status' else 'fleet'
        one.add_argument('--name', default=default, help=f'name of the fleet (default: {default or "all"})')
        if action in ('run', 'crash', 'start'):
            one.add_argument('host', metavar='HOST', help='hv1, hv2, ...')
        if action == 'run':
            one.add_argument('argv', nargs='+', metavar='COMMAND', help='put -- before it')
        if action == 'up':
            one.add_argument('--hosts', type=int, default=fleet.HOSTS, metavar='N', help='default: %(default)s')
            one.add_argument('--guests', type=int, default=0, metavar='K', help=_GUESTS)
        if action == 'down':
            one.add_argument('--keep', action='store_true', help='keep the files')
            one.add_argument('--all', action='store_true', help='take down every fleet')


def example(host: FleetHost, number: int) -> GuestSpec:
    """The guests of "lab fleet up --guests"; there may be many, so they write less often."""
    return GuestSpec(f'{host.name}-vm{number}', writer_period_ms=50)


def _up(found: Fleet, guests: int) -> None:
    started = time.monotonic()
    found.up()
    print(f'Fleet {found.name} is up after {time.monotonic() - started:.1f} s: {found.paths.inventory}')
    specs = [(host, example(host, number)) for host in found.hosts for number in range(1, guests + 1)]
    for host, spec in specs:
        known = {guest.name: guest for guest in host.guests()}
        if spec.name not in known:
            host.define(spec)
        elif known[spec.name].state == 'shutoff':
            known[spec.name].start()
    for host, spec in specs:
        host.guest(spec.name).wait_agent(timeout=180 + 20 * len(specs))
    if specs:
        print(f'{len(specs)} guests with agents after {time.monotonic() - started:.1f} s')


def _status(name: str) -> None:
    found = Fleet(name)
    print(f'{name}: {len(found.hosts)} hosts, {found.paths.inventory}')
    for host in found.hosts:
        pid = host.daemon.libvirtd_pid() if host.daemon.running() else None
        network = host.address if host.connected() else f'{host.address} (not reachable)'
        print(f' {host.name}: libvirtd {pid or "not running"}, {network}, {host.uri}')
        if pid is not None:
            show_guests(host)


def act(options: argparse.Namespace) -> None:
    """Do what the command line says."""
    if options.fleet_action == 'up':
        _up(Fleet(options.name, options.hosts), options.guests)
    elif options.fleet_action == 'status':
        for name in [options.name] if options.name else fleet.names():
            _status(name)
    elif options.fleet_action == 'run':
        become(Fleet(options.name).host(options.host).ssh.argv(options.argv))
    elif options.fleet_action == 'crash':
        Fleet(options.name).host(options.host).crash()
    elif options.fleet_action == 'start':
        Fleet(options.name).host(options.host).start()
    else:
        for name in fleet.names() if options.all else [options.name]:
            Fleet(name).down(options.keep)
