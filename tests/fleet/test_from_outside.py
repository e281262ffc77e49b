# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hypervisors on which nothing can be installed: the modules run on the controller, and libvirt goes by ssh."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.tests.fleet.harness import Play, frozen, one_each
from disksnap_lab import Fleet, Guest, check_copy

PLAYBOOK = Path(__file__).with_name('outside.yml')


@pytest.fixture(scope='module')
def guests(fleet: Fleet) -> list[Guest]:
    """A guest on each host."""
    return one_each(fleet, 'far')


@pytest.mark.parametrize('consistency', ['host', 'fleet'])
def test_there_and_gone(consistency: str, fleet: Fleet, guests: list[Guest], tmp_path: Path) -> None:
    here = {'ansible_connection': 'local', 'ansible_python_interpreter': '/usr/bin/python3'}
    inventory = fleet.inventory()
    inventory['all']['hosts'] = {'localhost': here}
    listed = tmp_path / 'outside.json'
    listed.write_text(json.dumps(inventory), encoding='utf-8')
    options: dict[str, Any] = {
        'playbook': PLAYBOOK,
        'inventory': listed,
        'key': str(fleet.paths.key),
        'fleet_snapshot_consistency': consistency,
    }
    acked = [guest.wait_acked()['vda'] for guest in guests]

    play = Play(fleet, tmp_path, 'far', **options)
    results = play.succeed()
    for host, guest, before in zip(fleet.hosts, guests, acked):
        [domain] = results[host.name]['domains']
        assert (domain['name'], domain['consistency']) == (guest.name, 'filesystem')
        source = domain['disks'][0]['backup_source']
        report = check_copy(Path(source['path']), source['format'], 'ext4')
        assert report.clean, report
        assert report.holds(before)
        assert not frozen(guest)
        guest.wait_acked()

    gone = Play(fleet, tmp_path, 'far', **options, fleet_snapshot_state='absent')
    gone.succeed()
    assert [guest.source_file('vda') for guest in guests] == [guest.disks['vda'].image for guest in guests]
