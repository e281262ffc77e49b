# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What others need is not removed: a snapshot within our layer, and guests and images on our copies.

Of libvirt's own snapshots, tests/live/test_virsh_snapshots.py has more.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.disksnap.libvirt.tests.live.harness import (
    Guests,
    Runner,
    chain,
    put_back,
    ready,
    untouched,
)
from ansible_collections.disksnap.libvirt.tests.live.playing import playbook
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab

INTERNAL = '<domainsnapshot><name>theirs</name></domainsnapshot>'
EXTERNAL = '<domainsnapshot><name>theirs</name><disks><disk name="vda" snapshot="external"/></disks></domainsnapshot>'


def command(*words: str | Path) -> None:
    subprocess.run(words, check=True, timeout=60, capture_output=True)


@pytest.fixture(scope='module')
def made(shared: Guests) -> list[Guest]:
    """One that is shut off, and one that runs."""
    found = [shared(GuestSpec('needs', state='shutoff')), shared(GuestSpec('needs-on'))]
    ready(*found)
    return found


@pytest.fixture
def pair(made: list[Guest]) -> Iterator[list[Guest]]:
    """The same; each test leaves them without a snapshot."""
    yield made
    for guest in made:
        for snapshot in guest.domain.listAllSnapshots(0):
            snapshot.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
    put_back(*made)
    ready(*made)


def needed_by(run_module: Runner, guest: Guest) -> list[str]:
    """Why the snapshot s1 of a guest cannot go."""
    [domain] = run_module('disk_snapshot_info', {'name': guest.name})['domains']
    [found] = [one['needed_by'] for one in domain['snapshots'] if one['name'] == 's1']
    return list(found)


def kept(lab: Lab, run_module: Runner, guest: Guest, why: str, *words: str) -> None:
    """It is told beforehand, and the removal is refused: nothing is changed."""
    assert why in needed_by(run_module, guest)
    task = {'name': guest.name, 'snapshot_name': 's1', 'state': 'absent'}
    for check in (True, False):
        with untouched(lab, guest):
            refused = run_module.fails('disk_snapshot', task, check=check)
        for word in (guest.name, 'disk vda', 'Nothing was changed', *words):
            assert word in refused['msg']


def goes(run_module: Runner, guest: Guest) -> None:
    """Nothing is in its way any more."""
    assert needed_by(run_module, guest) == []
    run_module('disk_snapshot', {'name': guest.name, 'snapshot_name': 's1', 'state': 'absent'})
    assert run_module('disk_snapshot_info', {'name': guest.name})['domains'][0]['snapshots'] == []


# -- snapshots of others in our layers ----------------------------------------------------------------------------


def test_an_internal_snapshot_that_libvirt_does_not_know(
    pair: list[Guest], lab: Lab, run_module: Runner, tmp_path: Path
) -> None:
    web = pair[0]
    run_module('disk_snapshot', {'name': web.name, 'snapshot_name': 's1'})
    overlay = chain(web, 'vda')[0]
    command('qemu-img', 'snapshot', '-c', 'theirs', overlay)
    run_module('disk_snapshot', {'name': web.name, 'snapshot_name': 's2'})

    kept(lab, run_module, web, f'The internal snapshot theirs lies within {overlay}.', 'qemu-img snapshot -d')
    rules = {'fleet_snapshot_keep': {'last': 1}, 'fleet_snapshot_domains': web.name}
    done = playbook(lab, 'prune', tmp_path, rules, '-v')
    assert done.returncode == 0, done.stdout
    assert f'needs s1: needed: The internal snapshot theirs lies within {overlay}.' in done.stdout
    assert 'Nothing goes.' in done.stdout
    command('qemu-img', 'snapshot', '-d', 'theirs', overlay)
    run_module('disk_snapshot', {'name': web.name, 'snapshot_name': 's2', 'state': 'absent'})
    goes(run_module, web)


# -- guests and images on our copies ------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def images(lab: Lab) -> Iterator[Path]:
    """A subvolume for the images of a guest, on a btrfs."""
    directory = lab.filesystem('needs', 'btrfs', size_mib=500)
    command('btrfs', 'subvolume', 'create', directory / 'images')
    yield directory / 'images'
    lab.remove_filesystem('needs')


@pytest.fixture(scope='module')
def copied(images: Path, shared: Guests) -> Iterator[Guest]:
    yield shared(GuestSpec('needs-copy', disks=[DiskSpec(format='raw')], directory=images, state='shutoff'))
    shared.remove()


@pytest.mark.parametrize('method', ['reflink', 'btrfs'])
def test_a_restored_guest_and_an_overlay(
    method: str, copied: Guest, lab: Lab, run_module: Runner, guest: Guests
) -> None:
    run_module('disk_snapshot', {'name': copied.name, 'snapshot_name': 's1', 'method': method})
    [domain] = run_module('disk_snapshot', {'name': copied.name, 'snapshot_name': 's1', 'method': method})['domains']
    source = domain['disks'][0]['backup_source']['path']
    guest(GuestSpec(f'restored-{method}', disks=[DiskSpec(backing=Path(source))], state='shutoff'))

    kept(lab, run_module, copied, f'The domain restored-{method} uses {source}.', f'the domain restored-{method}')
    assert os.path.exists(source)
    guest.remove()
    # an overlay that nobody has defined a guest for yet, in a directory that is a pool, or that of the copy
    clone = Path(copied.disks['vda'].image).parent / 'clone.qcow2'
    if method == 'btrfs':
        lab.pool('needs-pool', clone.parent)
    try:
        command('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', source, clone)
        kept(lab, run_module, copied, f'{clone} stands on {source}.', str(clone))
    finally:
        clone.unlink()
        if method == 'btrfs':
            lab.remove_pool('needs-pool')
    goes(run_module, copied)
    assert not os.path.exists(source)


def test_one_that_is_lost_takes_no_place(pair: list[Guest], lab: Lab, run_module: Runner, tmp_path: Path) -> None:
    web = pair[0]
    task: dict[str, Any] = {'name': web.name}
    overlays = []
    for name in ('s1', 's2'):
        run_module('disk_snapshot', {**task, 'snapshot_name': name})
        overlays.append(chain(web, 'vda')[0])
    below, top = overlays
    # somebody commits the newer overlay, and has the guest use the image below
    command('qemu-img', 'commit', '-q', '-d', top)
    web.lab.connection.defineXML(web.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE).replace(top, below))
    os.unlink(top)

    [domain] = run_module('disk_snapshot_info', task)['domains']
    assert {one['name']: one['disks'][0]['fault'] for one in domain['snapshots']} == {
        's1': None,
        's2': 'its overlay is gone, or stands on another image',
    }
    rules = {'fleet_snapshot_keep': {'last': 1}, 'fleet_snapshot_domains': web.name}
    done = playbook(lab, 'prune', tmp_path, rules, '-v')
    assert done.returncode == 0, done.stdout
    assert 'needs s1: last' in done.stdout
    assert 'needs s2: last, does not count: its disk vda is broken' in done.stdout
    assert 'Nothing goes.' in done.stdout
