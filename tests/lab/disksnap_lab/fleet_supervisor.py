# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PID 1 of one host of a fleet: a lab's supervisor, with an identity of the host's own, and sshd.

Run by fleet_host.py as a script, by its path, in fresh mount, PID, IPC, UTS and network namespaces:
    fleet_supervisor.py NAME BASE TOKEN
Its network device comes later, from outside; sshd listens on any address.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from disksnap_lab.commands import require, run
from disksnap_lab.fleet_paths import FleetPaths, HostPaths
from disksnap_lab.supervisor import Child, daemons, enter, supervise


def take_identity(paths: HostPaths) -> None:
    """Look like a machine of its own that has just booted."""
    run(['mount', '-t', 'sysfs', 'sysfs', '/sys'])  # shows the network devices of the namespace it is mounted in
    inside = {Path('/etc', source.name): source for source in [paths.fleet.hosts, *paths.own_etc.iterdir()]}
    inside[Path('/var/lib/dbus/machine-id')] = paths.own_etc / 'machine-id'  # where Ansible looks first
    inside[Path('/proc/sys/kernel/random/boot_id')] = paths.boot_id
    for target, source in inside.items():
        if target.exists():
            run(['mount', '--bind', source, target])


def main() -> None:
    """Never returns: when PID 1 ends, so does all in its namespace."""
    name, base, token = sys.argv[1:]
    paths = HostPaths(FleetPaths(Path(base).parent.name), int(name.removeprefix('hv')))
    enter(paths, token, paths.hostname)
    take_identity(paths)
    sshd = Child([require('sshd'), '-D', '-e', '-f', str(paths.sshd_config)], paths.sshd_log)
    supervise([*daemons(paths), sshd])


if __name__ == '__main__':
    main()
