# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All guests of all hosts at one instant, by the role over ssh: taken, and undone where a host is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.disksnap.libvirt.tests.fleet.harness import Play, frozen, layers, until
from disksnap_lab import Fleet, Guest, GuestSpec, check_copy


@pytest.fixture(scope='module')
def guests(fleet: Fleet) -> list[Guest]:
    """A guest on each host, with an agent; what other tests have left there goes."""
    for host in fleet.hosts:
        for other in host.guests():
            other.remove()
    made = [host.define(GuestSpec(f'{host.name}-app', writer_period_ms=50)) for host in fleet.hosts]
    for guest in made:
        guest.wait_agent()
        guest.wait_acked()
    return made


def test_taken_on_all_hosts(fleet: Fleet, guests: list[Guest], tmp_path: Path) -> None:
    acked = [guest.wait_acked()['vda'] for guest in guests]
    play = Play(fleet, tmp_path, 'nightly')
    results = play.wait()
    assert play.process.returncode == 0, play.said
    for host, guest, before in zip(fleet.hosts, guests, acked):
        result = results[host.name]
        [domain] = result['domains']
        assert (result['changed'], domain['snapshot_name']) == (True, 'nightly')
        assert domain['consistency'] == 'filesystem'
        [disk] = domain['disks']
        report = check_copy(Path(disk['backup_source']['path']), disk['backup_source']['format'], 'ext4')
        assert report.clean, report
        assert report.records >= before
        guest.wait_acked()

    again = Play(fleet, tmp_path, 'nightly')
    repeated = again.wait()
    assert [result['changed'] for result in repeated.values()] == [False, False]
    assert [result['domains'] for result in repeated.values()] == [result['domains'] for result in results.values()]

    removed = Play(fleet, tmp_path, 'nightly', fleet_snapshot_state='absent')
    assert [result['changed'] for result in removed.wait().values()] == [True, True]


def test_a_host_that_dies_while_all_stand_still(fleet: Fleet, guests: list[Guest], tmp_path: Path) -> None:
    before = [layers(guest) for guest in guests]
    play = Play(fleet, tmp_path, 'weekly', fleet_snapshot_max_frozen=30)
    try:
        until('a freeze', lambda: frozen(guests[0]) or play.process.poll() is not None, 120)
        fleet.host('hv2').crash()
        until('a thaw on the other host', lambda: not frozen(guests[0]), 60)
        results = play.wait()
    finally:
        fleet.host('hv2').start()
    assert play.process.returncode != 0
    assert 'hv2: it cannot be reached' in play.said
    assert results['hv1']['failed'] is True
    assert layers(guests[0]) == before[0]
    guests[0].wait_acked()

    # what the dead host left is undone by the next run on it, and the snapshot is taken
    guests[1].start()
    guests[1].wait_agent()
    play = Play(fleet, tmp_path, 'weekly')
    results = play.wait()
    assert play.process.returncode == 0, play.said
    assert [result['domains'][0]['consistency'] for result in results.values()] == ['filesystem', 'filesystem']
