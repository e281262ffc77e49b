# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Four hosts with five guests each: one instant of all, or nothing, at whichever step a host dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.tests.fleet.harness import Gate, Play, frozen, layers
from disksnap_lab import Fleet, Guest, GuestSpec, check_copy
from disksnap_lab.watch import Watch

pytestmark = pytest.mark.timeout(1200)  # twenty guests boot and are merged in that

HOSTS, GUESTS = 4, 5
PERIOD_MS = 500  # there are many guests for a small machine, so they write at leisure
DOOMED = 'hv3'
# before which task of the role, and whether the others have the snapshot for good by then
STEPS = [('Get everything ready', False), ('Say freeze', False), ('Say commit', False), ('Say finish', True)]


@pytest.fixture(scope='module')
def four(fleet_name: str) -> Iterator[Fleet]:
    """Four hosts."""
    found = Fleet(f'{fleet_name}-four', hosts=HOSTS)
    found.down()
    with found:
        yield found


@pytest.fixture(scope='module')
def guests(four: Fleet) -> dict[str, list[Guest]]:
    """Host -> its guests, with agents."""
    made = {
        host.name: [
            host.define(GuestSpec(f'{host.name}-vm{number}', writer_period_ms=PERIOD_MS))
            for number in range(1, GUESTS + 1)
        ]
        for host in four.hosts
    }
    for guest in everyone(made):
        guest.wait_agent(600)
    return made


def everyone(guests: dict[str, list[Guest]]) -> list[Guest]:
    """The guests of all hosts."""
    return [guest for of_host in guests.values() for guest in of_host]


@pytest.fixture
def clear(four: Fleet, guests: dict[str, list[Guest]], tmp_path: Path) -> Iterator[None]:
    """No snapshot before or after."""
    yield
    for host in four.hosts:
        if not host.daemon.running():
            host.start()
            start(guests[host.name])
    play = Play(four, tmp_path, 'nightly', fleet_snapshot_state='absent')
    play.succeed(600)
    assert all(len(layers(guest)) == 1 for guest in everyone(guests))


def start(guests: list[Guest]) -> None:
    """Start guests whose host was down."""
    for guest in guests:
        guest.start()
    for guest in guests:
        guest.wait_agent(600)


def take(four: Fleet, scratch: Path, **options: Any) -> Play:
    """A play that may freeze for long: this machine is small, and a test looks around meanwhile."""
    return Play(four, scratch, 'nightly', **{'fleet_snapshot_max_frozen': 120, **options})


def whole(results: dict[str, Any], guests: dict[str, list[Guest]], acked: dict[str, int]) -> dict[str, int]:
    """One snapshot of all guests, and each backup source is clean and has what was acknowledged before.

    Returns: guest -> the last record that its backup source holds.
    """
    domains = {domain['name']: domain for result in results.values() for domain in result['domains']}
    assert sorted(domains) == sorted(guest.name for guest in everyone(guests))
    assert {domain['snapshot_name'] for domain in domains.values()} == {'nightly'}
    held = {}
    for name, domain in domains.items():
        assert domain['consistency'] == 'filesystem', name
        [disk] = domain['disks']
        report = check_copy(Path(disk['backup_source']['path']), disk['backup_source']['format'], 'ext4')
        assert report.clean, (name, report)
        assert report.holds(acked[name]), (name, report, acked[name])
        assert report.last is not None, name
        held[name] = report.last
    return held


def acknowledged(guests: dict[str, list[Guest]]) -> dict[str, int]:
    """Guest -> its last acknowledged record."""
    return {guest.name: guest.acked()['vda'] for guest in everyone(guests)}


@pytest.mark.usefixtures('clear')
def test_one_instant(four: Fleet, guests: dict[str, list[Guest]], tmp_path: Path, tell: Callable[[str], None]) -> None:
    """What the copies hold was acknowledged before anything that one of them lacks was."""
    acked = acknowledged(guests)
    with Watch({guest.name: guest.acks_path('vda') for guest in everyone(guests)}) as watch:
        play = take(four, tmp_path)
        results = play.succeed(600)
        for guest in everyone(guests):
            guest.wait_acked(timeout=120)
    held = whole(results, guests, acked)
    silences = [watch.around(name, number) for name, number in held.items()]
    last = [held_at for held_at, _lacked_at in silences]
    first = [lacked_at for _held_at, lacked_at in silences]
    lengths = [end - begin for begin, end in silences]
    tell(
        f'{HOSTS} hosts x {GUESTS} guests: no records for {min(lengths):.2f} to {max(lengths):.2f} s, of all together '
        f'for {min(first) - max(last):.2f} s; from the first to the last {max(first) - min(last):.2f} s'
    )
    reported = [domain['freeze']['window_ms'] for result in results.values() for domain in result['domains']]
    tell(f'windows as the modules report them: {min(reported):.0f} to {max(reported):.0f} ms')
    assert max(last) < min(first)


@pytest.mark.usefixtures('clear')
@pytest.mark.parametrize(('task', 'taken'), STEPS, ids=[task for task, _taken in STEPS])
def test_a_host_dies(
    task: str, taken: bool, four: Fleet, guests: dict[str, list[Guest]], tmp_path: Path, tell: Callable[[str], None]
) -> None:
    others = [guest for name in guests if name != DOOMED for guest in guests[name]]
    before = acknowledged(guests)
    gate = Gate(tmp_path, task)
    play = take(four, tmp_path, gate=gate)
    gate.wait(play)
    four.host(DOOMED).crash()
    gate.open()
    results = play.wait(600)
    assert play.process.returncode != 0
    assert f'{DOOMED}: it cannot be reached' in play.said
    assert all(results[name]['failed'] for name in guests if name != DOOMED)
    assert not any(frozen(guest) for guest in others)
    assert {len(layers(guest)) for guest in others} == {2 if taken else 1}
    assert ('within ten minutes, which finishes it' in play.said) is taken
    for guest in others:
        guest.wait_acked(timeout=120)

    four.host(DOOMED).start()
    start(guests[DOOMED])
    acked = before if taken else acknowledged(guests)
    play = take(four, tmp_path)
    results = play.succeed(600)
    whole(results, guests, acked)
    tell(f'{DOOMED} died before "{task}": the others were {"kept" if taken else "undone"}, and the next run was whole')
