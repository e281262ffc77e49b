# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All guests of all hosts at one instant, by the role over ssh: taken, and undone where a host is lost."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.tests.fleet.harness import Gate, Play, frozen, layers, one_each, until
from disksnap_lab import Fleet, Guest, check_copy

PLAYBOOK = Path(__file__).with_name('any.yml')  # of the variables play_serial and play_strategy
# brings a word to the process of a host: its arguments are the socket and the word
CLIENT = """
import socket, sys
channel = socket.socket(socket.AF_UNIX)
channel.settimeout(60)
channel.connect(sys.argv[1])
channel.sendall(sys.argv[2].encode() + b'\\n')
print(channel.makefile().readline())
"""


@pytest.fixture(scope='module')
def guests(fleet: Fleet) -> list[Guest]:
    """A guest on each host."""
    return one_each(fleet, 'app')


def remove(fleet: Fleet, scratch: Path, snapshot: str) -> None:
    """What a test has taken."""
    play = Play(fleet, scratch, snapshot, fleet_snapshot_state='absent')
    play.succeed()


def test_taken_on_all_hosts(fleet: Fleet, guests: list[Guest], tmp_path: Path) -> None:
    acked = [guest.wait_acked()['vda'] for guest in guests]
    play = Play(fleet, tmp_path, 'nightly')
    results = play.succeed()
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
    results = play.succeed()
    assert [result['domains'][0]['consistency'] for result in results.values()] == ['filesystem', 'filesystem']
    remove(fleet, tmp_path, 'weekly')


@pytest.mark.parametrize(
    ('words', 'extra', 'why'),
    [
        (('--forks', '1'), {'fleet_snapshot_max_frozen': 3}, 'Run with more forks'),
        ((), {'fleet_snapshot_order': ['a*', 'b*', 'c*'], 'fleet_snapshot_max_frozen': 5}, 'Name fewer patterns'),
        ((), {'play_serial': 1}, 'The play has serial set'),
        ((), {'play_strategy': 'free'}, 'The play has the strategy free'),
    ],
)
def test_a_play_that_cannot_be_of_one_instant(
    words: tuple[str, ...], extra: dict[str, Any], why: str, fleet: Fleet, guests: list[Guest], tmp_path: Path
) -> None:
    before = [layers(guest) for guest in guests]
    play = Play(fleet, tmp_path, 'refused', playbook=PLAYBOOK, words=words, **extra)
    play.wait()
    assert play.process.returncode != 0
    assert why in ' '.join(play.said.split())
    assert [layers(guest) for guest in guests] == before
    assert not any(frozen(guest) for guest in guests)


@pytest.mark.parametrize(('task', 'taken'), [('Say freeze', False), ('Say commit', False), ('Say finish', True)])
def test_a_controller_that_dies(task: str, taken: bool, fleet: Fleet, guests: list[Guest], tmp_path: Path) -> None:
    """All hosts have come to the same step. Nobody stays frozen, and the same play, run again, is whole at once."""
    before = [guest.acked()['vda'] for guest in guests]
    gate = Gate(tmp_path, task)
    play = Play(fleet, tmp_path, 'yearly', gate=gate, fleet_snapshot_max_frozen=20)
    gate.wait(play)
    play.kill()
    until('no guest is frozen', lambda: not any(frozen(guest) for guest in guests), 120)
    after = [guest.wait_acked()['vda'] for guest in guests]

    foretold = Play(fleet, tmp_path, 'yearly', words=('--check',))
    assert [result['changed'] for result in foretold.wait().values()] == [True, True], foretold.said
    again = Play(fleet, tmp_path, 'yearly')
    results = again.succeed()
    for guest, result, held, past in zip(guests, results.values(), before if taken else after, after):
        assert result['changed'] is True
        assert len(layers(guest)) == 2
        [disk] = result['domains'][0]['disks']
        report = check_copy(Path(disk['backup_source']['path']), disk['backup_source']['format'], 'ext4')
        assert report.clean, report
        assert report.holds(held)
        assert report.holds(past) is not taken  # what was taken is finished, what was not is of now
    remove(fleet, tmp_path, 'yearly')


def test_a_process_that_dies_when_all_have_taken_it(fleet: Fleet, guests: list[Guest], tmp_path: Path) -> None:
    """The module notes it in its place, and the play is none the worse for it."""
    gate = Gate(tmp_path, 'Say finish')
    play = Play(fleet, tmp_path, 'daily', gate=gate)
    gate.wait(play)
    lock = f'/run/disksnap/{guests[1].domain.UUIDString()}.lock'
    fleet.host('hv2').run(['sh', '-c', f'kill -9 "$(cat {lock})"'])
    gate.open()
    results = play.succeed()
    assert [(result['changed'], result['failed']) for result in results.values()] == [(True, False)] * 2
    assert all(result['domains'][0]['consistency'] == 'filesystem' for result in results.values())
    again = Play(fleet, tmp_path, 'daily')
    assert [result['changed'] for result in again.wait().values()] == [False, False], again.said
    remove(fleet, tmp_path, 'daily')


def test_a_play_that_dies_between_two_hosts(fleet: Fleet, guests: list[Guest], tmp_path: Path) -> None:
    """One host has taken its disks and the other has not: the next run undoes the one, and takes both."""
    gate = Gate(tmp_path, 'Say commit')
    play = Play(fleet, tmp_path, 'monthly', gate=gate, fleet_snapshot_max_frozen=20)
    gate.wait(play)
    play.kill()
    sockets = f'/run/disksnap/part-{hashlib.sha256(b"monthly").hexdigest()[:16]}-*'
    said = fleet.host('hv1').run(['sh', '-c', f'exec python3 -c "$0" {sockets} commit', CLIENT])
    assert json.loads(said.stdout)['state'] == 'committed'
    until('the other host has given up', lambda: len(layers(guests[1])) == 1, 120)
    assert not any(frozen(guest) for guest in guests)

    foretold = Play(fleet, tmp_path, 'monthly', words=('--check',))
    assert [result['changed'] for result in foretold.wait().values()] == [True, True], foretold.said
    assert foretold.process.returncode == 0, foretold.said
    again = Play(fleet, tmp_path, 'monthly')
    results = again.succeed()
    acked = [guest.wait_acked()['vda'] for guest in guests]
    for result, guest, after in zip(results.values(), guests, acked):
        assert len(layers(guest)) == 2
        [disk] = result['domains'][0]['disks']
        report = check_copy(Path(disk['backup_source']['path']), disk['backup_source']['format'], 'ext4')
        assert report.clean, report
        assert (report.last or 0) < after
    remove(fleet, tmp_path, 'monthly')


def test_one_host_that_was_added(fleet: Fleet, guests: list[Guest], tmp_path: Path) -> None:
    """It is there on one host for good, so that nothing that is taken now is of its instant."""
    one = Play(fleet, tmp_path, 'grown', words=('--limit', 'hv1'))
    one.succeed()
    both = Play(fleet, tmp_path, 'grown')
    both.wait()
    assert both.process.returncode != 0
    assert 'is there on hv1, and not of one instant on all hosts' in ' '.join(both.said.split())
    assert len(layers(guests[1])) == 1
    remove(fleet, tmp_path, 'grown')


def test_check_mode_and_tags(fleet: Fleet, guests: list[Guest], tmp_path: Path) -> None:
    before = [layers(guest) for guest in guests]
    foretold = Play(fleet, tmp_path, 'maybe', words=('--check',))
    predicted = foretold.succeed()
    assert [result['changed'] for result in predicted.values()] == [True, True]
    assert [layers(guest) for guest in guests] == before
    skipped = Play(fleet, tmp_path, 'maybe', words=('--skip-tags', 'fleet_snapshot'))
    assert skipped.wait() == {}
    assert skipped.process.returncode == 0
    assert [layers(guest) for guest in guests] == before

    taken = Play(fleet, tmp_path, 'maybe', words=('--tags', 'fleet_snapshot'))
    results = taken.succeed()
    sources = [
        [result['domains'][0]['disks'][0]['backup_source'] for result in of_run.values()]
        for of_run in (predicted, results)
    ]
    assert sources[0] == sources[1]
    remove(fleet, tmp_path, 'maybe')
