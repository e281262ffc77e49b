# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Volumes of storage arrays: tasks of the user's take them while all guests of all hosts stand still."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.tests.fleet.harness import Gate, Play, frozen, until
from disksnap_lab import DiskSpec, Fleet, Guest, GuestSpec, acks, check_copy

TASKS = Path(__file__).with_name('array')  # of an array that is a btrfs file system with exports by NBD


UNREACHABLE = """
- name: Ask an array that is not there
  ansible.builtin.ping:
  delegate_to: nowhere
  vars:
    ansible_connection: ssh
    ansible_host: 127.0.0.1
    ansible_port: 1
"""


@pytest.fixture(scope='module')
def guests(fleet: Fleet) -> Iterator[list[Guest]]:
    """A guest on each host, with a disk on an array, by NBD, and another in a file."""
    made = []
    for host in fleet.hosts:
        for other in host.guests():
            other.remove()
        lun = host.filesystem('array', 'btrfs') / 'lun1'
        subprocess.run(['btrfs', 'subvolume', 'create', str(lun)], check=True, timeout=60, capture_output=True)
        disks = [DiskSpec(kind='network', format='raw', directory=lun), DiskSpec()]
        made.append(host.define(GuestSpec(f'{host.name}-db', disks=disks, writer_period_ms=50)))
    for guest in made:
        guest.wait_agent()
        guest.wait_acked()
    yield made
    for host, guest in zip(fleet.hosts, made):
        guest.remove()
        host.remove_filesystem('array')


def lun_of(guest: Guest) -> Path:
    """The volume on its array."""
    return Path(guest.disks['vda'].image).parent


def play(fleet: Fleet, guests: list[Guest], scratch: Path, name: str, **extra: Any) -> Play:
    """The role over both hosts, with the array's part."""
    disks = {
        guest.name: [
            {
                'target': 'vda',
                'method': 'array',
                'volume': {'path': str(lun_of(guest)), 'image': Path(guest.disks['vda'].image).name, 'group': 'db'},
            },
            {'target': 'vdb'},
        ]
        for guest in guests
    }
    wanted = {'fleet_snapshot_disks': disks, 'fleet_snapshot_array_tasks': str(TASKS), 'fleet_snapshot_max_frozen': 60}
    return Play(fleet, scratch, name, **{**wanted, **extra})


def on_arrays(guests: list[Guest], name: str) -> list[bool]:
    """Whether each guest's array has a snapshot of this name."""
    return [lun_of(guest).with_name(f'lun1.{name}').exists() for guest in guests]


def layers(guest: Guest) -> int:
    """How many images the disk in a file has."""
    return len(list(guest.images.glob(f'{guest.name}-vdb*')))


def copied(disk: dict[str, Any], scratch: Path) -> Path:
    """A copy of what a backup reads."""
    source = disk['backup_source']
    if source['type'] != 'network':
        return Path(source['path'])
    socket = source['xml'].partition('socket="')[2].partition('"')[0]
    copy = scratch / 'copy.raw'
    argv = ['qemu-img', 'convert', '-f', 'raw', '-O', 'raw', f'nbd+unix:///?socket={socket}', str(copy)]
    subprocess.run(argv, check=True, timeout=300)
    return copy


def test_there_and_back_and_gone(fleet: Fleet, guests: list[Guest], tmp_path: Path) -> None:
    acked = [guest.wait_acked() for guest in guests]
    results = play(fleet, guests, tmp_path, 'nightly').succeed()
    last = []
    for host, guest, before in zip(fleet.hosts, guests, acked):
        [domain] = results[host.name]['domains']
        assert domain['consistency'] == 'filesystem'
        assert [disk['method'] for disk in domain['disks']] == ['array', 'qemu']
        for disk in domain['disks']:
            source = disk['backup_source']
            report = check_copy(copied(disk, tmp_path), source['format'], 'ext4')
            assert report.clean, report
            assert report.holds(before[disk['target']])
            if disk['target'] == 'vda':
                assert report.last is not None
                last.append(report.last)
        guest.wait_acked(5)

    again = play(fleet, guests, tmp_path, 'nightly')
    assert [result['changed'] for result in again.succeed().values()] == [False, False]

    refused = play(fleet, guests, tmp_path, 'nightly', fleet_snapshot_state='reverted')
    refused.wait()
    assert 'say force: true' in ' '.join(refused.said.split()), refused.said
    assert [guest.state for guest in guests] == ['running', 'running']

    play(fleet, guests, tmp_path, 'nightly', fleet_snapshot_state='reverted', fleet_snapshot_force=True).succeed()
    for guest, number in zip(guests, last):
        guest.wait_agent()
        guest.wait_acked()
        assert acks.first_of_this_boot(guest.acks_path('vda')) == number + 1

    play(fleet, guests, tmp_path, 'nightly', fleet_snapshot_state='absent').succeed()
    assert on_arrays(guests, 'nightly') == [False, False]
    assert [layers(guest) for guest in guests] == [1, 1]
    for guest in guests:
        guest.wait_acked()


def test_an_array_that_fails(fleet: Fleet, guests: list[Guest], tmp_path: Path) -> None:
    """It has taken one volume: that goes again, and so does all else."""
    in_the_way = lun_of(guests[1]).with_name('lun1.weekly')
    in_the_way.write_text('not a subvolume')

    failed = play(fleet, guests, tmp_path, 'weekly')
    failed.wait()

    assert failed.process.returncode != 0
    assert 'The tasks for the array failed to create' in ' '.join(failed.said.split()), failed.said
    assert not any(frozen(guest) for guest in guests)
    assert [layers(guest) for guest in guests] == [1, 1]
    in_the_way.unlink()
    assert on_arrays(guests, 'weekly') == [False, False]
    for guest in guests:
        guest.wait_acked()


def test_a_controller_that_dies_when_the_array_has_taken_its_part(
    fleet: Fleet, guests: list[Guest], tmp_path: Path
) -> None:
    gate = Gate(tmp_path, 'Say commit')
    dead = play(fleet, guests, tmp_path, 'monthly', gate=gate, fleet_snapshot_max_frozen=20)
    gate.wait(dead)
    dead.kill()
    until('guests that run', lambda: not any(frozen(guest) for guest in guests))
    assert on_arrays(guests, 'monthly') == [True, True]

    results = play(fleet, guests, tmp_path, 'monthly').succeed()

    assert [result['domains'][0]['consistency'] for result in results.values()] == ['filesystem', 'filesystem']
    play(fleet, guests, tmp_path, 'monthly', fleet_snapshot_state='absent').succeed()
    assert on_arrays(guests, 'monthly') == [False, False]


def test_an_array_that_cannot_be_reached(fleet: Fleet, guests: list[Guest], tmp_path: Path) -> None:
    """A task that is delegated to what cannot be reached takes the host that it is for out of the play."""
    tasks = tmp_path / 'array'
    shutil.copytree(TASKS, tasks)
    (tasks / 'create.yml').write_text(UNREACHABLE, encoding='utf-8')

    failed = play(fleet, guests, tmp_path, 'daily', fleet_snapshot_array_tasks=str(tasks), fleet_snapshot_max_frozen=20)
    failed.wait()

    assert failed.process.returncode != 0
    until('guests that run', lambda: not any(frozen(guest) for guest in guests))
    until('all undone', lambda: [layers(guest) for guest in guests] == [1, 1])
    play(fleet, guests, tmp_path, 'daily').succeed()
    play(fleet, guests, tmp_path, 'daily', fleet_snapshot_state='absent').succeed()
    assert on_arrays(guests, 'daily') == [False, False]


def test_tasks_that_are_missing(fleet: Fleet, guests: list[Guest], tmp_path: Path) -> None:
    refused = play(fleet, guests, tmp_path, 'yearly', fleet_snapshot_array_tasks='no-such-directory')
    refused.wait()
    assert refused.process.returncode != 0
    assert 'fleet_snapshot_array_tasks is' in ' '.join(refused.said.split()), refused.said
    assert not any(frozen(guest) for guest in guests)
    assert [layers(guest) for guest in guests] == [1, 1]
    assert not any('<disksnap:journal' in guest.domain.XMLDesc(0) for guest in guests)
