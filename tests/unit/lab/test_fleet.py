# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names and addresses of a fleet."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

pytest.importorskip('libvirt')

from disksnap_lab import Fleet, LabError, fleet_network
from disksnap_lab.fleet_network import Network, choose_subnet
from disksnap_lab.fleet_paths import HOSTS_MAX, FleetPaths, HostPaths


def test_names_fit_the_kernel() -> None:
    """A network device's name has at most 15 characters (IFNAMSIZ)."""
    assert len(Network(255, Path('/x')).link(HOSTS_MAX)) == 15


def test_addresses_stay_in_the_subnet() -> None:
    network = Network(7, Path('/x'))
    assert [network.address(1), network.address(HOSTS_MAX)] == ['10.77.7.11', '10.77.7.110']


def test_a_name_has_a_subnet_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_network, '_routes', lambda: [])
    first = choose_subnet('a', [])
    assert choose_subnet('a', []) == first
    assert choose_subnet('a', [first]) == (first + 1) % 256


def test_a_subnet_that_the_machine_uses_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_network, '_routes', lambda: [ipaddress.IPv4Network('10.77.0.0/17')])
    assert choose_subnet('a', []) >= 128
    monkeypatch.setattr(fleet_network, '_routes', lambda: [ipaddress.IPv4Network('10.77.0.0/16')])
    with pytest.raises(LabError, match='take a fleet down'):
        choose_subnet('a', [])


def test_paths_of_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('DISKSNAP_LAB_ROOT', '/a')
    paths = HostPaths(FleetPaths('x'), 2)
    assert paths.uri == 'qemu:///system?socket=/a/fleets/x/hv2/run/libvirt/libvirt-sock'
    assert paths.hostname == 'hv2.x.disksnap-lab'
    HostPaths(FleetPaths('x' * 24), HOSTS_MAX).check_length()


@pytest.mark.parametrize('hosts', [0, HOSTS_MAX + 1])
def test_number_of_hosts(hosts: int) -> None:
    with pytest.raises(LabError, match='1 to 100 hosts'):
        Fleet('x', hosts)


def test_a_fleet_that_was_never_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv('DISKSNAP_LAB_ROOT', str(tmp_path))
    fleet = Fleet('x')
    assert fleet.hosts == []
    with pytest.raises(LabError, match='Fleet x has no host hv1'):
        fleet.host('hv1')
