# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A play that quiesces, copies and thaws, and is cut off in between: each host's watchdog thaws at max_frozen."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.tests.fleet.harness import Gate, Play, ansible, frozen, one_each, until
from disksnap_lab import Fleet, Guest

PLAYBOOK = Path(__file__).with_name('held.yml')
MAX_FROZEN = 20
# seconds that it may take to look: an agent's answer, and the next of the writer's records
SLACK = 3


@pytest.fixture(scope='module')
def guests(fleet: Fleet) -> list[Guest]:
    """A guest on each host."""
    return one_each(fleet, 'held')


@pytest.fixture
def connected(fleet: Fleet) -> Iterator[None]:
    """All hosts are on the network again afterwards."""
    yield
    for host in fleet.hosts:
        if not host.connected():
            host.mend_network()


def held(fleet: Fleet, scratch: Path, guests: list[Guest]) -> tuple[Gate, Play]:
    """A play, at the moment at which its guests stand still and nothing of it runs on the hosts."""
    scratch.mkdir()
    gate = Gate(scratch, 'Copy')
    extra: dict[str, Any] = {'guest': 'held', 'max_frozen': MAX_FROZEN}
    play = Play(fleet, scratch, 'none', gate=gate, playbook=PLAYBOOK, **extra)
    gate.wait(play)
    assert all(frozen(guest) for guest in guests)
    return gate, play


def thawed_in_time(guest: Guest, since: float) -> None:
    """It writes again, by the time that it may stand still at most."""
    before = guest.acked()['vda']
    until('a guest that writes', lambda: guest.acked()['vda'] > before + 3, MAX_FROZEN + 10)
    assert time.monotonic() - since < MAX_FROZEN + 2 + SLACK
    assert not frozen(guest)


def test_cut_off_between_quiesce_and_thaw(fleet: Fleet, guests: list[Guest], connected: None, tmp_path: Path) -> None:
    """First one host is cut off, and the play thaws the other and says so; then the play dies."""
    gate, play = held(fleet, tmp_path / 'cut', guests)
    since = time.monotonic()
    fleet.host('hv1').cut_network()
    gate.open()
    until('the other guest thawed by the play', lambda: not frozen(guests[1]), MAX_FROZEN - 5)
    assert frozen(guests[0])
    thawed_in_time(guests[0], since)
    play.wait()
    assert play.process.returncode != 0
    assert 'module thawed hv2-held' in play.said
    assert 'hv1' in play.said.partition('UNREACHABLE')[0].rpartition('\n')[2]
    fleet.host('hv1').mend_network()

    _gate, play = held(fleet, tmp_path / 'killed', guests)
    since = time.monotonic()
    play.kill()
    assert all(frozen(guest) for guest in guests)
    for guest in guests:
        thawed_in_time(guest, since)

    results: dict[str, Any] = {}
    for host in fleet.hosts:
        options = json.dumps({'name': f'{host.name}-held', 'state': 'thawed'})
        words = ('--args', options, '--limit', host.name)
        inventory = fleet.write_inventory(tmp_path / 'hosts.json')
        results |= ansible(inventory, tmp_path, 'disksnap.libvirt.storage_quiesce', *words)
    for result in results.values():
        [domain] = result['domains']
        assert (domain['state'], domain['thawed_by']) == ('thawed', 'watchdog')
        assert (MAX_FROZEN - 1) * 1000 <= domain['window_ms'] <= (MAX_FROZEN + 2) * 1000
