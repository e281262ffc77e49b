# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A disk on a storage array: what the modules do, and what they leave to the tasks of a play.

The array is an xfs file system, and its snapshot of a volume a clone of the image. The tests do what the tasks would.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.tests.live.harness import (
    Guests,
    Runner,
    chain,
    end_watchdogs,
    frozen,
    journal,
    put_back,
    ready,
    until,
    untouched,
)
from ansible_collections.disksnap.libvirt.tests.live.steps import say
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab, acks, check_copy

LUN = {'serial': '6001', 'group': 'databases'}
DISKS = [{'target': 'vda', 'method': 'array', 'volume': LUN}, {'target': 'vdb'}]
NAMED = {'name': 'db', 'snapshot_name': 's1'}
TASK = {**NAMED, 'disks': DISKS, 'quiesce': 'required'}
MAX_FROZEN = 60


@pytest.fixture(scope='module')
def one(lab: Lab, shared: Guests) -> Iterator[Guest]:
    """A raw disk on the array and a qcow2 image beside it."""
    directory = lab.filesystem('array', 'xfs')
    yield shared(GuestSpec('db', disks=[DiskSpec(format='raw'), DiskSpec()], directory=directory))
    shared.remove()
    lab.remove_filesystem('array')


@pytest.fixture
def db(one: Guest) -> Iterator[Guest]:
    """The guest as it was made."""
    ready(one)
    yield one
    end_watchdogs()
    put_back(one)
    clone_of(one).unlink(missing_ok=True)


def clone_of(guest: Guest) -> Path:
    """Where the array has its snapshot."""
    return Path(f'{guest.disks["vda"].image}.s1')


def clone(source: Path, target: Path) -> None:
    """What the array does."""
    subprocess.run(['cp', '--reflink=always', '--no-preserve=all', str(source), str(target)], check=True, timeout=60)


def step(run_module: Runner, name: str, **options: Any) -> dict[str, Any]:
    """A step of which the answer comes from the module."""
    return run_module('snapshot_step', {**NAMED, 'step': name, **options})


def prepare(run_module: Runner, group: str = 'g1') -> dict[str, Any]:
    """Have everything ready."""
    return run_module('snapshot_step', {**TASK, 'step': 'prepare', 'group': group, 'max_frozen': MAX_FROZEN})


def take(run_module: Runner, guest: Guest) -> dict[str, Any]:
    """Take it; what the commit answers."""
    prepared = prepare(run_module)
    say(prepared['command'], 'freeze')
    assert frozen(guest)
    clone(Path(guest.disks['vda'].image), clone_of(guest))
    [volume] = prepared['volumes']
    assert (volume['domain'], volume['target'], volume['volume']) == ('db', 'vda', LUN)
    assert volume['identity'] is None
    identity = {'path': str(clone_of(guest)), 'label': 'kept for the tasks'}
    taken = say(prepared['command'], 'commit', identities={volume['key']: identity})
    assert taken['failed'] is False
    assert say(prepared['command'], 'finish')['state'] == 'present'
    return taken


def test_there_and_gone(db: Guest, lab: Lab, run_module: Runner) -> None:
    acked = db.wait_acked()
    [domain] = take(run_module, db)['domains']

    assert not frozen(db)
    assert domain['consistency'] == 'filesystem'
    disk = domain['disks'][0]
    assert (disk['method'], disk['modified_disk'], disk['volumes']) == ('array', None, [])
    assert disk['backup_source']['path'] == str(clone_of(db))
    report = check_copy(clone_of(db), 'raw', 'ext4')
    assert report.clean, report.problem
    assert report.holds(acked['vda'])

    [volume] = step(run_module, 'volumes')['volumes']
    assert volume['identity'] == {'path': str(clone_of(db)), 'label': 'kept for the tasks'}
    with untouched(lab, db):
        assert prepare(run_module, 'g2')['state'] == 'present'
        assert run_module('snapshot_step', {**NAMED, 'step': 'removed'}, check=True)['changed'] is True

    clone_of(db).unlink()
    assert step(run_module, 'removed')['changed'] is True
    assert step(run_module, 'removed')['changed'] is False
    removed = run_module('disk_snapshot', {**NAMED, 'disks': DISKS, 'state': 'absent'})
    assert removed['warnings'] == []
    assert journal(db) is None
    assert len(chain(db, 'vdb')) == 1


def test_check_mode(db: Guest, lab: Lab, run_module: Runner) -> None:
    with untouched(lab, db):
        foretold = run_module('snapshot_step', {**TASK, 'step': 'prepare', 'group': 'g1'}, check=True)
    disk = foretold['domains'][0]['disks'][0]
    assert (disk['method'], disk['backup_source']) == ('array', None)


def test_back(db: Guest, lab: Lab, run_module: Runner) -> None:
    take(run_module, db)
    last = check_copy(clone_of(db), 'raw', 'ext4').last
    assert last is not None
    db.wait_acked(5)
    back = {**NAMED, 'state': 'reverted', 'force': True}
    with untouched(lab, db):
        refused = run_module.fails('disk_snapshot', back)
        assert 'has not taken its volume back' in refused['msg']
        assert 'force: true' in run_module.fails('snapshot_step', {**NAMED, 'step': 'stop'})['msg']
        assert 'was not stopped' in run_module.fails('snapshot_step', {**NAMED, 'step': 'reverted'})['msg']
        foretold = run_module('snapshot_step', {**NAMED, 'step': 'stop', 'force': True}, check=True)
        assert foretold['changed'] is True

    assert step(run_module, 'stop', force=True)['changed'] is True
    assert db.state == 'shutoff'
    assert step(run_module, 'stop', force=True)['changed'] is False
    assert 'has not taken its volume back' in run_module.fails('disk_snapshot', back)['msg']
    assert 'on its way back' in run_module.fails('snapshot_step', {**NAMED, 'step': 'removed'})['msg']
    clone(clone_of(db), Path(db.disks['vda'].image))
    assert step(run_module, 'reverted')['changed'] is True
    run_module('disk_snapshot', back)

    assert db.state == 'running'
    ready(db)
    assert acks.first_of_this_boot(db.acks_path('vda')) == last + 1
    # and once more: what the array did for the last revert does not count for this one
    step(run_module, 'stop', force=True)
    assert 'has not taken its volume back' in run_module.fails('disk_snapshot', back)['msg']
    clone(clone_of(db), Path(db.disks['vda'].image))
    step(run_module, 'reverted')
    run_module('disk_snapshot', back)
    ready(db)


def test_what_the_array_may_have_after_it_was_given_up(db: Guest, lab: Lab, run_module: Runner) -> None:
    prepared = prepare(run_module)
    say(prepared['command'], 'freeze')

    given_up = say(prepared['command'], 'abandon')

    assert given_up['failed'] is True
    assert 'a storage array may have' in given_up['msg']
    assert not frozen(db)
    assert len(chain(db, 'vdb')) == 1
    with untouched(lab, db):
        again = prepare(run_module, 'g2')
        assert (again['state'], again['group']) == ('left', 'g1')
        other = run_module.fails('disk_snapshot', {'name': 'db', 'snapshot_name': 's2'})
        assert 'a storage array may have' in other['msg']
    assert step(run_module, 'removed', group='g1')['changed'] is True
    run_module('snapshot_step', {**NAMED, 'step': 'abandon', 'group': 'g1'})
    assert journal(db) is None


def test_layers_above_the_volume(db: Guest, lab: Lab, run_module: Runner) -> None:
    """To put the volume back below them would ruin the disk."""
    take(run_module, db)
    later = {'name': 'db', 'snapshot_name': 's2', 'disks': [{'target': 'vda'}]}
    run_module('disk_snapshot', later)
    with untouched(lab, db):
        refused = run_module.fails('snapshot_step', {**NAMED, 'step': 'stop', 'force': True})
        assert 'layers newer than the snapshot are on it' in refused['msg']
        assert '(snapshot s2)' in refused['msg']
    run_module('disk_snapshot', {**later, 'state': 'absent'})


def test_who_was_started_meanwhile_goes_back_anew(db: Guest, run_module: Runner) -> None:
    take(run_module, db)
    step(run_module, 'stop', force=True)
    step(run_module, 'reverted')
    db.start()
    ready(db)

    refused = run_module.fails('disk_snapshot', {**NAMED, 'state': 'reverted', 'force': True})

    assert 'has not taken its volume back' in refused['msg']
    assert db.state == 'running'
    step(run_module, 'stop', force=True)
    clone(clone_of(db), Path(db.disks['vda'].image))
    step(run_module, 'reverted')
    run_module('disk_snapshot', {**NAMED, 'state': 'reverted', 'force': True})
    ready(db)


def test_nobody_counts_on_what_is_being_removed(db: Guest, run_module: Runner) -> None:
    take(run_module, db)
    [volume] = step(run_module, 'removing')['volumes']
    assert volume['volume'] == LUN
    assert (
        'has begun to remove it' in run_module.fails('snapshot_step', {**TASK, 'step': 'prepare', 'group': 'g2'})['msg']
    )
    assert step(run_module, 'removing')['changed'] is True
    step(run_module, 'removed')
    assert step(run_module, 'removing')['volumes'] == []
    run_module('disk_snapshot', {**NAMED, 'state': 'absent'})
    assert journal(db) is None


def test_another_guest_on_the_same_group_of_volumes(db: Guest, guest: Guests, lab: Lab, run_module: Runner) -> None:
    web = guest(GuestSpec('web', state='shutoff'))
    take(run_module, db)
    both = {**TASK, 'step': 'prepare', 'group': 'g2', 'name': 'web', 'quiesce': 'none', 'disks': [DISKS[0]]}
    prepared = run_module('snapshot_step', both)
    say(prepared['command'], 'freeze')
    [volume] = prepared['volumes']
    say(prepared['command'], 'commit', identities={volume['key']: {'path': '/srv/clone'}})
    say(prepared['command'], 'finish')
    with untouched(lab, db, web):
        for options in ({'step': 'removing'}, {'step': 'stop', 'force': True}):
            refused = run_module.fails('snapshot_step', {**NAMED, **options})
            assert 'the domain web has it on the same volume or group' in refused['msg']
    named = {'snapshot_name': 's1', 'domains': [{'name': 'db'}, {'name': 'web'}]}
    assert len(run_module('snapshot_step', {**named, 'step': 'removing'})['volumes']) == 2


@pytest.mark.parametrize('identities', [{}, {'vda': {}}, None])
def test_an_array_that_tells_nothing_of_use(identities: Any, db: Guest, run_module: Runner) -> None:
    prepared = prepare(run_module)
    say(prepared['command'], 'freeze')
    [volume] = prepared['volumes']
    if identities == {'vda': {}}:
        identities = {volume['key']: {'label': 'no path'}}

    refused = say(prepared['command'], 'commit', identities=identities)

    assert refused['failed'] is True
    assert 'must be a dictionary with xml or path' in refused['msg']
    until('a guest that is thawed', lambda: not frozen(db))
    assert len(chain(db, 'vdb')) == 1


def test_who_cannot_ask_an_array(db: Guest, lab: Lab, run_module: Runner) -> None:
    with untouched(lab, db):
        for check in (False, True):
            refused = run_module.fails('disk_snapshot', TASK, check=check)
            assert 'Failed to use the method array' in refused['msg']
            assert 'fleet_snapshot_consistency=fleet' in refused['msg']
        nameless = run_module.fails('disk_snapshot', {**NAMED, 'method': 'array'})
        assert 'value of method must be one of' in nameless['msg']
        without = {**TASK, 'disks': [{'target': 'vda', 'method': 'array'}], 'step': 'prepare', 'group': 'g1'}
        assert 'needs volume' in run_module.fails('snapshot_step', without)['msg']
