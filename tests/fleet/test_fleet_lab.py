# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hosts of a fleet are machines of their own, as far as the collection can see."""

from __future__ import annotations

import uuid
from pathlib import Path

import libvirt
import pytest
from lxml import etree

from ansible_collections.disksnap.libvirt.tests.fleet.harness import ansible
from disksnap_lab import Fleet, FleetHost, Guest, GuestSpec, LabError, check_copy


@pytest.fixture(scope='module')
def guests(fleet: Fleet) -> dict[str, Guest]:
    """Host -> its guest, which runs and has an agent."""
    made = {host.name: host.define(GuestSpec(f'{host.name}-db', writer_period_ms=50)) for host in fleet.hosts}
    for guest in made.values():
        guest.wait_agent()
    return made


def text(host: FleetHost, path: str) -> str:
    """A file of the host."""
    return host.run(['cat', path]).stdout.strip()


def libvirt_uuid(host: FleetHost) -> str:
    """What libvirt takes the host for."""
    return str(etree.fromstring(host.connection.getCapabilities()).findtext('host/uuid'))


def test_hosts_are_told_apart(fleet: Fleet) -> None:
    def count(answers: list[str]) -> int:
        assert all(answers)
        return len(set(answers))

    hosts = fleet.hosts
    assert [host.name for host in hosts] == ['hv1', 'hv2']
    assert [host.run(['hostname', '--short']).stdout.strip() for host in hosts] == ['hv1', 'hv2']
    assert count([host.connection.getHostname() for host in hosts]) == 2
    assert count([libvirt_uuid(host) for host in hosts]) == 2
    assert count([text(host, '/etc/machine-id') for host in hosts]) == 2
    assert count([text(host, '/proc/sys/kernel/random/boot_id') for host in hosts]) == 2
    assert count([host.address for host in hosts]) == 2
    assert count([host.run(['sh', '-c', 'cd && pwd']).stdout for host in hosts]) == 2


def test_the_outside_does_not_show(fleet: Fleet) -> None:
    host = fleet.host('hv1')
    assert host.run(['ls', '/sys/class/net']).stdout.split() == ['eth0', 'lo']
    assert text(host, '/proc/1/comm') == 'python3'
    assert host.run(['ls', str(fleet.host('hv2').paths.run)]).stdout == ''


def test_hosts_know_each_other_by_name(fleet: Fleet) -> None:
    other = fleet.host('hv2')
    assert fleet.host('hv1').run(['getent', 'hosts', 'hv2']).stdout.split()[0] == other.address
    reach = f'import socket; print(socket.create_connection(("hv2", {other.ssh.port}), 10).recv(4))'
    assert fleet.host('hv1').run(['python3', '-c', reach]).stdout.strip() == "b'SSH-'"


def test_ansible_reaches_all_hosts(fleet: Fleet, tmp_path: Path) -> None:
    results = ansible(fleet.write_inventory(tmp_path / 'hosts.json'), tmp_path, 'ping')
    assert {host: result['ping'] for host, result in results.items()} == {'hv1': 'pong', 'hv2': 'pong'}


def test_ansible_tells_hosts_apart(fleet: Fleet, tmp_path: Path) -> None:
    results = ansible(fleet.paths.inventory, tmp_path, 'setup', '--args', 'gather_subset=!all,min,network')
    facts = {host: result['ansible_facts'] for host, result in results.items()}
    assert len({of_host['ansible_machine_id'] for of_host in facts.values()}) == 2
    for host in fleet.hosts:
        of_host = facts[host.name]
        assert of_host['ansible_hostname'] == host.name
        assert of_host['ansible_fqdn'] == host.paths.hostname
        assert of_host['ansible_all_ipv4_addresses'] == [host.address]


def test_each_host_has_its_own_guests(fleet: Fleet, guests: dict[str, Guest]) -> None:
    for host in fleet.hosts:
        guest = guests[host.name]
        assert host.run(['virsh', 'list', '--name']).stdout.split() == [guest.name]
        assert guest.wait_acked()['vda'] > 0
        assert guest.exec('true').status == 0


def test_a_host_crashes_and_comes_back(fleet: Fleet, guests: dict[str, Guest]) -> None:
    host, guest, other = fleet.host('hv1'), guests['hv1'], guests['hv2']
    identity = libvirt_uuid(host), text(host, '/etc/machine-id')
    boot = text(host, '/proc/sys/kernel/random/boot_id')
    guest.wait_acked()
    host.crash()
    acked = guest.acked()
    with pytest.raises(libvirt.libvirtError):
        host.lookup(guest.name)
    assert not host.connected()
    other.wait_acked()
    image = Path(guest.disks['vda'].image)
    report = check_copy(image, 'qcow2', 'ext4')
    assert report.consistent
    assert report.holds(acked['vda'])

    host.start()
    assert guest.state == 'shutoff'
    assert (libvirt_uuid(host), text(host, '/etc/machine-id')) == identity
    assert str(uuid.UUID(text(host, '/proc/sys/kernel/random/boot_id'))) != boot
    guest.start()
    guest.wait_agent()
    assert guest.wait_acked()['vda'] > acked['vda']
    assert other.state == 'running'


def test_a_host_drops_off_the_network(fleet: Fleet, guests: dict[str, Guest], tmp_path: Path) -> None:
    host, guest = fleet.host('hv1'), guests['hv1']
    host.run(['true'])  # there is a connection that has to break
    host.cut_network()
    assert not host.connected()
    guest.wait_acked()
    with pytest.raises(LabError, match='Failed to run true'):
        host.run(['true'], timeout=60)
    results = ansible(fleet.write_inventory(tmp_path / 'hosts.json'), tmp_path, 'ping')
    assert results['hv1']['unreachable']
    assert results['hv2']['ping'] == 'pong'
    guest.wait_acked()

    host.mend_network()
    assert host.connected()
    host.run(['true'])
    assert guest.state == 'running'


def test_up_again_starts_what_is_down(fleet: Fleet, guests: dict[str, Guest]) -> None:
    fleet.host('hv2').cut_network()
    before = guests['hv2'].acked()
    fleet.up()
    assert fleet.host('hv2').connected()
    assert fleet.host('hv2').run(['hostname', '--short']).stdout.strip() == 'hv2'
    assert guests['hv2'].wait_acked()['vda'] > before['vda']
