# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""lab up|status|down|run|hypervisor|fleet."""

from __future__ import annotations

import argparse
import os
import sys
import time

import libvirt

from . import fleet_cli, hypervisor_cli
from .commands import become, require
from .daemon import assert_root
from .errors import LabError
from .lab import Lab, names
from .listing import show_guests
from .spec import DeviceSpec, DiskSpec, GuestSpec


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='lab', description='A private libvirtd with tiny real guests.')
    actions = parser.add_subparsers(dest='action', required=True)
    up = actions.add_parser('up', help='bring a lab up; what is up already is left alone')
    up.add_argument(
        '--guests', type=int, default=0, metavar='K', help='define and start web1 to webK and wait for them'
    )
    up.add_argument('--system', metavar='RELEASE', help="have this Debian release's libvirt and QEMU, as trixie")
    status = actions.add_parser('status', help='show one lab, or all')
    down = actions.add_parser('down', help='end everything a lab started and delete its files')
    down.add_argument('--keep', action='store_true', help='keep the files')
    down.add_argument('--all', action='store_true', help='take down every lab')
    run = actions.add_parser('run', help='run a command with LIBVIRT_DEFAULT_URI set')
    run.add_argument('--inside', action='store_true', help="run it in the lab's namespaces")
    for action in (up, down, run):
        action.add_argument('--name', default='lab', help='name of the lab (default: lab)')
    status.add_argument('--name', help='name of the lab (default: all)')
    run.add_argument('argv', nargs='+', metavar='COMMAND', help='put -- before it')
    hypervisor_cli.add_parser(actions)
    fleet_cli.add_parser(actions)
    return parser


def example(number: int) -> GuestSpec:
    """The guests of "lab up --guests": the first has three unlike disks and an empty CD-ROM drive."""
    if number > 1:
        return GuestSpec(f'web{number}')
    disks = [DiskSpec(), DiskSpec(fs='xfs', format='raw'), DiskSpec()]
    return GuestSpec('web1', disks=disks, devices=[DeviceSpec('cdrom')])


def _up(lab: Lab, guests: int) -> None:
    started = time.monotonic()
    lab.up()
    print(f'Lab {lab.name} is up after {time.monotonic() - started:.1f} s: {lab.uri}')
    known = {guest.name for guest in lab.guests()}
    for number in range(1, guests + 1):
        if f'web{number}' not in known:
            lab.define(example(number))
        elif lab.guest(f'web{number}').state == 'shutoff':
            lab.guest(f'web{number}').start()
    for number in range(1, guests + 1):
        lab.guest(f'web{number}').wait_agent(timeout=180 + 20 * guests)
    if guests:
        print(f'{guests} guests with agents after {time.monotonic() - started:.1f} s')


def _status(lab: Lab) -> None:
    pid = lab.daemon.libvirtd_pid() if lab.daemon.running() else None
    print(f'{lab.name}: libvirtd {pid or "not running"}, {lab.uri}')
    if pid is not None:
        show_guests(lab)


def _run(lab: Lab, argv: list[str], inside: bool) -> None:
    os.environ['LIBVIRT_DEFAULT_URI'] = lab.uri
    if inside:
        argv = lab.daemon.enter_argv(*argv)
        argv[0] = require(argv[0])
    else:
        lab.daemon.init_pid()  # says so when the lab is down
    become(argv)


def _act(options: argparse.Namespace) -> None:
    assert_root()
    if options.action == 'hypervisor':
        hypervisor_cli.act(options)
    elif options.action == 'fleet':
        fleet_cli.act(options)
    elif options.action == 'up':
        _up(Lab(options.name, system=options.system), options.guests)
    elif options.action == 'run':
        _run(Lab(options.name), options.argv, options.inside)
    elif options.action == 'down':
        for name in names() if options.all else [options.name]:
            Lab(name).down(options.keep)
    else:
        for name in [options.name] if options.name else names():
            _status(Lab(name))


def main(argv: list[str] | None = None) -> int:
    """Exit status 1 with one sentence when something is wrong."""
    try:
        _act(_parser().parse_args(argv))
    except (LabError, libvirt.libvirtError) as error:
        print(f'lab: {error}', file=sys.stderr)
        return 1
    return 0
