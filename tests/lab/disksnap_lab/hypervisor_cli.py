# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""lab hypervisor up|status|reset|down|run."""

from __future__ import annotations

import argparse
import time
from typing import Any

from . import hypervisor
from .commands import become
from .hypervisor import Hypervisor
from .hypervisor_vm import running

_ACTIONS = {
    'up': 'start a hypervisor as it was saved; what is missing is built first, which takes minutes',
    'status': 'show one hypervisor, or all',
    'reset': 'go back to what was saved',
    'down': 'end it and delete its files; the cache stays',
    'run': 'run a command on it',
}


def add_parser(actions: Any) -> None:
    """Our part of the command line."""
    parser = actions.add_parser('hypervisor', help='a whole hypervisor in a VM: LVM, btrfs, xfs, AppArmor')
    inner = parser.add_subparsers(dest='hypervisor_action', required=True)
    for action, text in _ACTIONS.items():
        one = inner.add_parser(action, help=text)
        default = None if action == 'status' else 'lab'
        one.add_argument('--name', default=default, help=f'name of the hypervisor (default: {default or "all"})')
        if action == 'run':
            one.add_argument('argv', nargs='+', metavar='COMMAND', help='put -- before it')


def _up(name: str) -> None:
    started = time.monotonic()
    found = Hypervisor.start(name, print)
    print(f'Hypervisor {name} is up after {time.monotonic() - started:.1f} s, port {found.ssh.port}')


def _status(name: str | None) -> None:
    for each in [name] if name else hypervisor.names():
        found = Hypervisor(each)
        pid = running(found.directory)
        print(f'{each}: QEMU {pid or "not running"}, port {found.ssh.port}')
        if pid is not None and found.ssh.answers():
            acked = ' '.join(f'{target}={seq}' for target, seq in found.guest('inner').acked().items())
            print(f'  inner {found.guest("inner").state}, acknowledged {acked}')


def act(options: argparse.Namespace) -> None:
    """Do what the command line says."""
    if options.hypervisor_action == 'up':
        _up(options.name)
    elif options.hypervisor_action == 'status':
        _status(options.name)
    elif options.hypervisor_action == 'reset':
        Hypervisor(options.name).reset()
    elif options.hypervisor_action == 'down':
        hypervisor.remove(options.name)
    else:
        become(Hypervisor(options.name).ssh.argv(options.argv))
