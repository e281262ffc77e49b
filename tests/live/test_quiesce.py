# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""storage_quiesce: what freezes and thaws, what it says of it, and what it does not do by halves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.tests.live.harness import (
    Guests,
    Runner,
    chain,
    frozen,
    journal,
    put_back,
    ready,
    until,
    untouched,
    watchdogs,
)
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab, agent

LONG = 120


@pytest.fixture(scope='module')
def pair(shared: Guests) -> tuple[Guest, Guest]:
    """Two guests with agents; the first has two disks, and a third one without a file system."""
    app = shared(GuestSpec('app', disks=[DiskSpec(), DiskSpec(), DiskSpec(fs='none', size_mib=8)]), wait=False)
    db = shared(GuestSpec('db'), wait=False)
    ready(app, db)
    return app, db


@pytest.fixture
def app(pair: tuple[Guest, Guest]) -> Guest:
    """The one with two disks."""
    return pair[0]


@pytest.fixture
def db(pair: tuple[Guest, Guest]) -> Guest:
    """The other."""
    return pair[1]


@pytest.fixture(scope='module')
def deaf(shared: Guests) -> Guest:
    """A guest with a channel and nobody who answers."""
    return shared(GuestSpec('deaf', agent='silent'))


@pytest.fixture(autouse=True)
def clean(pair: tuple[Guest, Guest], run_module: Runner) -> Iterator[None]:
    """Each test starts and ends with guests that write, and no watchdog."""
    yield
    for one in pair:
        one.domain.fsThaw(None, 0)
    run_module('storage_quiesce', {'domains': [{'name': one.name} for one in pair], 'state': 'thawed'})
    until('end of all watchdogs', lambda: not watchdogs())
    for one in pair:
        assert journal(one) is None
        assert not frozen(one)


def stands_still(guest: Guest) -> bool:
    """Whether no write is acknowledged any more, over a time in which a guest that runs acknowledges dozens."""
    time.sleep(0.5)  # what was written before the freeze may still be on its way to us
    before = guest.acked()
    time.sleep(1)
    return guest.acked() == before


def quiesce(run_module: Runner, *guests: Guest, **options: Any) -> dict[str, Any]:
    """Freeze guests for as long as the test may take."""
    names = [{'name': guest.name} for guest in guests]
    return run_module('storage_quiesce', {'domains': names, 'state': 'quiesced', 'max_frozen': LONG, **options})


def thaw(run_module: Runner, *guests: Guest, **options: Any) -> dict[str, Any]:
    """Thaw guests."""
    return run_module(
        'storage_quiesce', {'domains': [{'name': guest.name} for guest in guests], 'state': 'thawed'}, **options
    )


@pytest.mark.core
def test_quiesced_stands_still_after_the_task_until_thawed(app: Guest, run_module: Runner) -> None:
    begun = time.monotonic()
    frozen_result = quiesce(run_module, app)

    assert frozen_result['changed'] is True
    [domain] = frozen_result['domains']
    assert (domain['name'], domain['uuid'], domain['state']) == ('app', app.domain.UUIDString(), 'quiesced')
    assert (domain['filesystems'], domain['presynced']) == (2, True)
    assert (domain['thawed_at'], domain['window_ms'], domain['thawed_by']) == (None, None, None)
    datetime.strptime(domain['frozen_at'], '%Y-%m-%dT%H:%M:%S.%fZ')
    assert frozen(app)
    assert stands_still(app)
    assert len(watchdogs()) == 1

    thawed_result = thaw(run_module, app)

    longest = (time.monotonic() - begun) * 1000
    [domain] = thawed_result['domains']
    assert thawed_result['changed'] is True
    assert (domain['state'], domain['thawed_by'], domain['filesystems']) == ('thawed', 'module', 2)
    assert 1500 <= domain['window_ms'] <= longest
    assert domain['frozen_at'] < domain['thawed_at']
    assert thawed_result['warnings'] == []
    assert not frozen(app)
    app.wait_acked(3)
    until('end of the watchdog', lambda: not watchdogs(), 10)
    assert journal(app) is None


@pytest.mark.core
def test_the_task_ends_though_its_watchdog_lives_on(app: Guest, run_module: Runner) -> None:
    module = run_module.start('storage_quiesce', {'name': 'app', 'state': 'quiesced', 'max_frozen': LONG})

    result = module.wait(timeout=60)  # until its output is closed, which a watchdog that held it would prevent

    assert result['domains'][0]['state'] == 'quiesced'
    assert module.process.poll() == 0
    [watchdog] = watchdogs()
    assert watchdog.pid != module.pid
    assert watchdog.parent != module.pid
    assert watchdog.files <= {'/dev/null', 'socket', 'anon_inode'}  # no pipe: no output of the module's


def test_thawed_on_a_guest_that_is_not_frozen_changes_nothing(app: Guest, lab: Lab, run_module: Runner) -> None:
    with untouched(lab, app):
        result = thaw(run_module, app)

    assert result['changed'] is False
    [domain] = result['domains']
    assert domain['state'] == 'thawed'
    assert domain['thawed_by'] is None
    assert domain['window_ms'] is None
    assert result['warnings'] == []


def test_quiesced_twice_is_one_freeze(app: Guest, run_module: Runner) -> None:
    first = quiesce(run_module, app)

    second = quiesce(run_module, app)

    assert second['changed'] is False
    assert second['domains'] == first['domains']
    assert len(watchdogs()) == 1
    assert frozen(app)


@pytest.mark.core
def test_freezes_a_group(app: Guest, db: Guest, run_module: Runner) -> None:
    result = quiesce(run_module, app, db)

    assert [(one['name'], one['state'], one['filesystems']) for one in result['domains']] == [
        ('app', 'quiesced', 2),
        ('db', 'quiesced', 1),
    ]
    assert len(watchdogs()) == 1
    assert frozen(app)
    assert frozen(db)

    thaw(run_module, db)  # one of the group: the other stays, with its watchdog

    assert frozen(app)
    assert not frozen(db)
    assert len(watchdogs()) == 1
    [domain] = thaw(run_module, app)['domains']
    assert domain['thawed_by'] == 'module'
    until('end of the watchdog', lambda: not watchdogs(), 10)


def test_a_guest_of_a_group_thawed_alone_may_be_frozen_again(app: Guest, db: Guest, run_module: Runner) -> None:
    """The first watchdog still watches the other guest, and must not thaw this one at its own deadline."""
    quiesce(run_module, app, db, max_frozen=20)
    deadline = time.monotonic() + 20
    thaw(run_module, db)
    quiesce(run_module, db)

    until('thaw by the first watchdog', lambda: not frozen(app), 60)

    assert time.monotonic() > deadline - 1
    time.sleep(2)
    assert frozen(db)
    [domain] = thaw(run_module, db)['domains']
    assert domain['thawed_by'] == 'module'


@pytest.mark.parametrize('order', ['first', 'last'])
def test_one_that_cannot_be_frozen_thaws_the_group(
    order: str, app: Guest, db: Guest, deaf: Guest, lab: Lab, run_module: Runner
) -> None:
    names = ['deaf', 'app', 'db'] if order == 'first' else ['app', 'db', 'deaf']
    with untouched(lab, app, db, deaf):
        failure = run_module.fails(
            'storage_quiesce',
            {'domains': [{'name': name} for name in names], 'state': 'quiesced', 'agent_timeout': 1},
        )

    assert 'domain deaf' in failure['msg']
    until('end of the watchdog', lambda: not watchdogs(), 10)


@pytest.mark.core
def test_one_that_cannot_freeze_its_mountpoints_thaws_the_group(
    app: Guest, db: Guest, lab: Lab, run_module: Runner
) -> None:
    """Its agent freezes what it has and passes over the rest without a word, after the others were frozen."""
    with untouched(lab, app, db):
        failure = run_module.fails(
            'storage_quiesce',
            {
                'domains': [{'name': 'app'}, {'name': 'db'}],
                'state': 'quiesced',
                'mountpoints': ['/mnt/vda', '/mnt/vdb'],  # db has no vdb
            },
        )

    assert 'domain db' in failure['msg']
    assert '/mnt/vdb' in failure['msg']
    until('end of the watchdog', lambda: not watchdogs(), 10)


def test_an_agent_that_answers_late(db: Guest, run_module: Runner) -> None:
    """libvirt itself waits 5 s for an agent that it has lost step with, whatever the timeout of the command."""
    away = 'agent=$PPID; sleep 1; kill -STOP "$agent"; sleep 15; kill -CONT "$agent"'
    db.agent_command('guest-exec', path='/bin/sh', arg=['-c', away])
    until('an agent that does not answer', lambda: not agent.answers(db.domain))

    [frozen_now] = run_module(
        'storage_quiesce', {'name': 'db', 'state': 'quiesced', 'agent_timeout': 60, 'max_frozen': LONG}
    )['domains']

    assert frozen_now['state'] == 'quiesced'
    run_module('storage_quiesce', {'name': 'db', 'state': 'thawed'})


def test_preferred_freezes_those_that_can_be_and_warns(app: Guest, deaf: Guest, run_module: Runner) -> None:
    result = run_module(
        'storage_quiesce',
        {
            'domains': [{'name': 'app'}, {'name': 'deaf'}],
            'state': 'quiesced',
            'quiesce': 'preferred',
            'max_frozen': LONG,
            'agent_timeout': 1,
        },
    )

    assert result['changed'] is True
    assert [(one['name'], one['state']) for one in result['domains']] == [('app', 'quiesced'), ('deaf', 'thawed')]
    [warning] = result['warnings']
    assert 'deaf' in warning
    assert frozen(app)
    assert journal(deaf) is None
    thaw(run_module, app)


def test_preferred_with_nobody_frozen_is_not_a_change(deaf: Guest, run_module: Runner) -> None:
    result = run_module(
        'storage_quiesce', {'name': 'deaf', 'state': 'quiesced', 'quiesce': 'preferred', 'agent_timeout': 1}
    )

    assert result['changed'] is False
    assert result['domains'][0]['state'] == 'thawed'
    until('end of the watchdog', lambda: not watchdogs(), 10)


@pytest.mark.core
def test_freezes_only_the_mountpoints_named(app: Guest, run_module: Runner) -> None:
    [domain] = quiesce(run_module, app, mountpoints=['/mnt/vdb'])['domains']

    assert domain['filesystems'] == 1
    before = app.acked()
    until('writes to vda', lambda: app.acked()['vda'] > before['vda'] + 3)
    assert app.acked()['vdb'] <= before['vdb'] + 3
    [domain] = thaw(run_module, app)['domains']
    assert domain['thawed_by'] == 'module'


def test_freezes_only_the_file_systems_on_the_disks_named(app: Guest, run_module: Runner) -> None:
    [domain] = run_module(
        'storage_quiesce',
        {'name': 'app', 'disks': [{'target': 'vda'}], 'state': 'quiesced', 'max_frozen': LONG},
    )['domains']

    assert domain['filesystems'] == 1
    before = app.acked()
    until('writes to vdb', lambda: app.acked()['vdb'] > before['vdb'] + 3)
    assert app.acked()['vda'] <= before['vda'] + 3


def test_a_mountpoint_that_is_not_there_is_an_error(app: Guest, lab: Lab, run_module: Runner) -> None:
    with untouched(lab, app):
        failure = run_module.fails(
            'storage_quiesce', {'name': 'app', 'state': 'quiesced', 'mountpoints': ['/srv/none']}
        )

    assert '/srv/none' in failure['msg']
    assert 'domain app' in failure['msg']


def test_a_disk_without_a_file_system_is_an_error(app: Guest, lab: Lab, run_module: Runner) -> None:
    with untouched(lab, app):
        failure = run_module.fails(
            'storage_quiesce', {'name': 'app', 'disks': [{'target': 'vdc'}], 'state': 'quiesced'}
        )

    assert 'vdc' in failure['msg']
    assert 'domain app' in failure['msg']


@pytest.mark.core
def test_a_guest_frozen_by_something_else_is_adopted_and_bounded(app: Guest, run_module: Runner) -> None:
    app.domain.fsFreeze(None, 0)

    result = run_module('storage_quiesce', {'name': 'app', 'state': 'quiesced', 'max_frozen': 3})

    [domain] = result['domains']
    assert domain['state'] == 'quiesced'
    assert domain['filesystems'] == 0
    assert any('frozen already' in warning for warning in result['warnings'])
    until('thaw by the watchdog', lambda: not frozen(app), 30)


@pytest.mark.core
def test_a_thaw_from_outside_is_found_out(app: Guest, run_module: Runner) -> None:
    quiesce(run_module, app)
    app.domain.fsThaw(None, 0)
    app.wait_acked(1)

    result = thaw(run_module, app)

    [domain] = result['domains']
    assert domain['thawed_by'] == 'guest'
    [warning] = result['warnings']
    assert 'not file-system consistent' in warning
    assert 'app' in warning


def test_a_freeze_of_another_is_thawed_by_the_module(app: Guest, run_module: Runner) -> None:
    app.domain.fsFreeze(None, 0)

    result = thaw(run_module, app)

    assert result['changed'] is True
    assert result['domains'][0]['thawed_by'] == 'module'
    assert not frozen(app)


def test_check_mode_predicts_and_freezes_nothing(app: Guest, lab: Lab, run_module: Runner) -> None:
    with untouched(lab, app):
        predicted = quiesce_check(run_module)
    real = quiesce(run_module, app)
    for result in (predicted, real):
        for key in ('frozen_at', 'thawed_at', 'window_ms'):
            result['domains'][0].pop(key)
    assert predicted['domains'] == real['domains']
    assert predicted['changed'] is True

    would_thaw = run_module('storage_quiesce', {'name': 'app', 'state': 'thawed'}, check=True)

    assert frozen(app)
    assert would_thaw['changed'] is True
    assert (would_thaw['domains'][0]['state'], would_thaw['domains'][0]['thawed_by']) == ('thawed', 'module')


def quiesce_check(run_module: Runner) -> dict[str, Any]:
    """What freezing app would come to."""
    return run_module('storage_quiesce', {'name': 'app', 'state': 'quiesced', 'max_frozen': LONG}, check=True)


def test_check_mode_fails_where_the_freeze_would(deaf: Guest, lab: Lab, run_module: Runner) -> None:
    with untouched(lab, deaf):
        failure = run_module.fails(
            'storage_quiesce', {'name': 'deaf', 'state': 'quiesced', 'agent_timeout': 1}, check=True
        )

    assert 'domain deaf' in failure['msg']


def test_thawed_on_a_guest_without_an_answer_that_nobody_froze(deaf: Guest, lab: Lab, run_module: Runner) -> None:
    with untouched(lab, deaf):
        result = run_module('storage_quiesce', {'name': 'deaf', 'state': 'thawed', 'agent_timeout': 1})

    assert result['changed'] is False
    assert result['domains'][0]['state'] == 'thawed'
    assert any('deaf' in warning for warning in result['warnings'])


def test_a_snapshot_of_a_quiesced_guest_is_of_its_file_systems_and_leaves_it_frozen(
    app: Guest, run_module: Runner
) -> None:
    quiesce(run_module, app)
    try:
        task = {'name': 'app', 'snapshot_name': 's1', 'quiesce': 'required'}
        predicted = run_module('disk_snapshot', task, check=True)
        result = run_module('disk_snapshot', task)

        [domain] = result['domains']
        assert domain['consistency'] == 'filesystem'
        assert domain['freeze']['thawed_by'] is None
        assert predicted['domains'][0]['freeze'] == domain['freeze']
        assert frozen(app)
        assert len(watchdogs()) == 1
        [thawed] = thaw(run_module, app)['domains']
        assert thawed['thawed_by'] == 'module'
        assert [len(chain(app, target)) for target in app.disks] == [2, 2, 2]
    finally:
        put_back(app)


def test_a_paused_guest_cannot_be_frozen(db: Guest, lab: Lab, run_module: Runner) -> None:
    db.domain.suspend()
    try:
        with untouched(lab, db):
            failure = run_module.fails('storage_quiesce', {'name': 'db', 'state': 'quiesced'})
    finally:
        db.domain.resume()

    assert 'domain db' in failure['msg']
    assert 'not running' in failure['msg']


def test_a_guest_paused_while_frozen_is_thawed_once_it_runs(db: Guest, run_module: Runner) -> None:
    quiesce(run_module, db, max_frozen=3)
    db.domain.suspend()
    try:
        failure = run_module.fails('storage_quiesce', {'name': 'db', 'state': 'thawed'})
        assert 'domain db' in failure['msg']
        time.sleep(4)
        assert len(watchdogs()) == 1  # it goes on trying
    finally:
        db.domain.resume()
    until('thaw by the watchdog', lambda: not frozen(db), 60)
    db.wait_acked(1)


def test_a_guest_that_is_shut_off_cannot_be_frozen(lab: Lab, guest: Guests, run_module: Runner) -> None:
    off = guest(GuestSpec('off', state='shutoff'), wait=False)

    with untouched(lab, off):
        failure = run_module.fails('storage_quiesce', {'name': 'off', 'state': 'quiesced'})
        thawed = run_module('storage_quiesce', {'name': 'off', 'state': 'thawed'})

    assert 'domain off' in failure['msg']
    assert 'not running' in failure['msg']
    assert thawed['changed'] is False


@pytest.mark.parametrize(
    ('options', 'named'),
    [
        ({'max_frozen': 0}, 'max_frozen'),
        ({'max_frozen': -1}, 'max_frozen'),
        ({'agent_timeout': 0}, 'agent_timeout'),
        ({'mountpoints': ['srv']}, 'srv'),
        ({'quiesce': 'none'}, 'quiesce'),
        ({'disks': [{'target': 'vdz'}]}, 'vdz'),
    ],
)
def test_bad_input(options: dict[str, Any], named: str, app: Guest, lab: Lab, run_module: Runner) -> None:
    with untouched(lab, app):
        failure = run_module.fails('storage_quiesce', {'name': 'app', 'state': 'quiesced', **options})

    assert named in failure['msg']
