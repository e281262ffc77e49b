# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Retention on real guests: the playbook prune, and fleet_snapshot_keep of the role."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.disksnap.libvirt.tests.live.harness import (
    JOURNALS,
    Guests,
    Runner,
    chain,
    put_back,
    ready,
    untouched,
)
from ansible_collections.disksnap.libvirt.tests.live.playing import playbook, stat
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab


@pytest.fixture(scope='module')
def made(shared: Guests) -> list[Guest]:
    found = [
        shared(GuestSpec('prune-on', disks=[DiskSpec(), DiskSpec(format='raw')])),
        shared(GuestSpec('prune-off', state='shutoff')),
    ]
    ready(*found)
    return found


@pytest.fixture
def pair(made: list[Guest]) -> Iterator[list[Guest]]:
    """A guest that runs and one that is shut off; each test leaves them without a snapshot."""
    yield made
    put_back(*made)


def names(run_module: Runner, guest: Guest) -> list[str]:
    [domain] = run_module('disk_snapshot_info', {'name': guest.name})['domains']
    assert domain['problems'] == []
    return [snapshot['name'] for snapshot in domain['snapshots']]


def age(guest: Guest, days: dict[str, int]) -> None:
    """Have the journal say that snapshots were taken on these days of March 2026."""
    kind, flags = libvirt.VIR_DOMAIN_METADATA_ELEMENT, libvirt.VIR_DOMAIN_AFFECT_CONFIG
    if guest.state == 'running':
        flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
    text = guest.domain.metadata(kind, JOURNALS[0], 0)
    for name, day in days.items():
        pattern = rf'(<snapshot name="{name}"[^>]* created-at=")[^"]*'
        text, count = re.subn(pattern, rf'\g<1>2026-03-{day:02}T02:00:00.000Z', text)
        assert count == 1
    guest.domain.setMetadata(kind, text, 'disksnap', JOURNALS[0], flags)


def test_the_playbook(pair: list[Guest], lab: Lab, run_module: Runner, tmp_path: Path) -> None:
    on, off = pair
    for name in ('n1', 'n2', 'hand', 'n3', 'n4'):
        run_module('disk_snapshot', {'domains': [{'name': on.name}, {'name': off.name}], 'snapshot_name': name})
    for guest in pair:
        age(guest, {'n1': 1, 'n2': 2, 'hand': 2, 'n3': 3, 'n4': 4})
    rules: dict[str, Any] = {'fleet_snapshot_keep': {'daily': 2}, 'fleet_snapshot_keep_names': 'n*'}

    nothing = playbook(lab, 'prune', tmp_path, {})
    assert nothing.returncode == 2
    assert 'Set fleet_snapshot_keep' in nothing.stdout

    with untouched(lab, *pair):
        checked = playbook(lab, 'prune', tmp_path, rules, '--check', '-v')
    assert checked.returncode == 0, checked.stdout
    foretold = stat(checked, 'fleet_snapshot_prune')['hv1']
    assert {(one['domain'], one['name']) for one in foretold} == {
        (guest.name, name) for guest in pair for name in ('n1', 'n2')
    }
    assert all(one['allocation'] > 0 and one['merge_bytes'] > 0 for one in foretold)
    assert re.search(r'prune-on n1: [\d.]+ [KM]iB come back at most, [\d.]+ [KM]iB to copy', checked.stdout)
    assert '4 in all: ' in checked.stdout
    assert 'prune-off n4: daily 2026-03-04' in checked.stdout

    done = playbook(lab, 'prune', tmp_path, rules)
    assert done.returncode == 0, done.stdout
    for guest in pair:
        assert names(run_module, guest) == ['hand', 'n3', 'n4']
    assert len(stat(done, 'fleet_snapshot_prune')['hv1']) == 4
    again = playbook(lab, 'prune', tmp_path, rules)
    assert 'Nothing goes.' in again.stdout
    assert 'changed=0' in again.stdout

    one = playbook(lab, 'prune', tmp_path, {'fleet_snapshot_keep': {'last': 1}, 'fleet_snapshot_domains': 'prune-off'})
    assert one.returncode == 0, one.stdout
    assert names(run_module, off) == ['n4']
    assert names(run_module, on) == ['hand', 'n3', 'n4']


def test_one_that_cannot_be_removed_does_not_keep_the_others(
    pair: list[Guest], lab: Lab, run_module: Runner, guest: Guests, tmp_path: Path
) -> None:
    on, _off = pair
    for name in ('n1', 'n2', 'n3'):
        run_module('disk_snapshot', {'name': on.name, 'snapshot_name': name, 'disks': [{'target': 'vda'}]})
    base = chain(on, 'vda')[-1]
    guest(GuestSpec('prune-clone', disks=[DiskSpec(backing=Path(base))], state='shutoff'))
    # n1 would be merged into what the clone stands on
    done = playbook(lab, 'prune', tmp_path, {'fleet_snapshot_keep': {'last': 1}}, '-v')
    assert done.returncode == 0, done.stdout
    assert f'prune-on n1: needed: The domain prune-clone uses {base}.' in done.stdout
    assert names(run_module, on) == ['n1', 'n3']


@pytest.mark.parametrize('consistency', ['domain', 'fleet'])
def test_the_role_keeps_what_it_is_told(
    consistency: str, pair: list[Guest], lab: Lab, run_module: Runner, tmp_path: Path
) -> None:
    on = pair[0]
    run_module('disk_snapshot', {'name': on.name, 'snapshot_name': 'by-hand'})
    nightly = {
        'fleet_snapshot_domains': [on.name],
        'fleet_snapshot_consistency': consistency,
        'fleet_snapshot_keep': {'last': 2},
        'fleet_snapshot_keep_names': ['nightly-*'],
    }
    for number in (1, 2):
        done = playbook(lab, 'snapshot', tmp_path, {**nightly, 'fleet_snapshot_name': f'nightly-{number}'})
        assert done.returncode == 0, done.stdout
        assert stat(done, 'fleet_snapshot')['hv1']['removed'] == []
    third = {**nightly, 'fleet_snapshot_name': 'nightly-3'}
    with untouched(lab, *pair):
        checked = playbook(lab, 'snapshot', tmp_path, third, '--check')
    foretold = stat(checked, 'fleet_snapshot')['hv1']['removed']
    assert [(one['domain'], one['name']) for one in foretold] == [(on.name, 'nightly-1')]
    done = playbook(lab, 'snapshot', tmp_path, third)
    assert done.returncode == 0, done.stdout
    result = stat(done, 'fleet_snapshot')['hv1']
    assert [one['name'] for one in result['removed']] == ['nightly-1']
    assert names(run_module, on) == ['by-hand', 'nightly-2', 'nightly-3']

    failing = {**nightly, 'fleet_snapshot_name': 'nightly-4', 'fleet_snapshot_domains': [on.name, 'nobody']}
    assert playbook(lab, 'snapshot', tmp_path, failing).returncode != 0
    assert names(run_module, on) == ['by-hand', 'nightly-2', 'nightly-3']
