# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a fleet leaves behind when it is taken down: nothing, whatever state it was in."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from disksnap_lab import Fleet, mounts, processes
from disksnap_lab.commands import run
from disksnap_lab.fleet import names
from disksnap_lab.fleet_network import Network
from disksnap_lab.fleet_supervisor import __file__ as supervisor
from disksnap_lab.paths import SOURCE
from disksnap_lab.waiting import wait_for


@pytest.fixture
def doomed(fleet_name: str) -> Iterator[Fleet]:
    """One that a test may break."""
    fleet = Fleet(f'{fleet_name}-x', hosts=1)
    fleet.down()
    yield fleet
    fleet.down()


def ours(fleet: Fleet) -> list[int]:
    """Living processes that name the fleet's directory, or that run on its hosts."""
    found = [pid for host in fleet.hosts for pid in host.daemon.processes()]
    for entry in filter(str.isdigit, os.listdir('/proc')):
        try:
            words = Path(f'/proc/{entry}/cmdline').read_bytes()
        except OSError:
            continue  # ended meanwhile
        if bytes(fleet.paths.base) + b'/' in words and processes.start_time(int(entry)) is not None:
            found.append(int(entry))
    return found


def namespaces() -> set[str]:
    """Network namespaces of all processes."""
    listed = run(['lsns', '--type', 'net', '--noheadings', '--output', 'NS']).stdout
    return set(listed.split())


def assert_nothing_is_left(fleet: Fleet, network: Network | None = None) -> None:
    """By all that one can see from outside."""
    wait_for('end of its processes', lambda: not ours(fleet), 60)
    assert not fleet.paths.base.exists()
    assert not mounts.below(fleet.paths.base)
    assert fleet.name not in names()
    assert network is None or not network.links()


def test_down_leaves_nothing(doomed: Fleet) -> None:
    doomed.up()
    network = doomed.paths.network
    doomed.host('hv1').run(['true'])
    assert len(ours(doomed)) > 3
    assert network.links() == {network.bridge: True, network.link(1): True}
    inside = str(Path(f'/proc/{doomed.host("hv1").daemon.init_pid()}/ns/net').stat().st_ino)
    assert inside in namespaces()
    doomed.down()
    assert_nothing_is_left(doomed, network)
    wait_for('end of its namespace', lambda: inside not in namespaces(), 60)
    doomed.down()


def test_down_after_a_crash_of_the_host(doomed: Fleet) -> None:
    doomed.up()
    network = doomed.paths.network
    doomed.host('hv1').crash()
    assert network.links() == {network.bridge: True}
    doomed.down()
    assert_nothing_is_left(doomed, network)


@pytest.mark.parametrize('seconds', [0.3, 0.5, 0.7, 0.9, 1.2])
def test_down_after_up_was_killed(doomed: Fleet, seconds: float) -> None:
    up = subprocess.Popen([str(SOURCE / 'lab'), 'fleet', 'up', '--hosts', '1', '--name', doomed.name])
    time.sleep(seconds)
    up.kill()
    up.wait(10)
    known = doomed.paths.recorded()
    network = doomed.paths.network if known else None
    doomed.down()
    assert_nothing_is_left(doomed, network)
    assert not processes.with_arguments(Path(supervisor).name, str(doomed.paths.base / 'hv1'))


def test_two_fleets_side_by_side(doomed: Fleet, fleet_name: str) -> None:
    doomed.up()
    with Fleet(f'{fleet_name}-y', hosts=1) as other:
        assert other.host('hv1').address != doomed.host('hv1').address
        assert other.paths.network.bridge != doomed.paths.network.bridge
        names_inside = [one.host('hv1').run(['hostname']).stdout for one in (doomed, other)]
        assert len(set(names_inside)) == 2
    assert doomed.host('hv1').run(['virsh', 'list', '--name']).stdout.strip() == ''
    assert len(doomed.paths.network.links()) == 2


def test_a_fleet_grows(doomed: Fleet) -> None:
    doomed.up()
    first = doomed.host('hv1')
    pid = first.daemon.init_pid()
    Fleet(doomed.name, hosts=2).up()
    assert [host.name for host in doomed.hosts] == ['hv1', 'hv2']
    assert first.daemon.init_pid() == pid
    assert first.run(['getent', 'hosts', 'hv2']).stdout.split()[0] == doomed.host('hv2').address
