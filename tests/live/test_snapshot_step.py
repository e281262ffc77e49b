# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""snapshot_step: one host's part in a snapshot of several, in step with a play that may fall silent or die."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _journal, _records
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
from disksnap_lab import Guest, GuestSpec, Lab

GROUP = {'snapshot_name': 's1', 'group': 'g1'}


@pytest.fixture(scope='module')
def both(shared: Guests) -> list[Guest]:
    """An application and its database."""
    return [shared(GuestSpec('app')), shared(GuestSpec('db'))]


@pytest.fixture
def pair(both: list[Guest], run_module: Runner) -> Iterator[list[Guest]]:
    """The two as they were made."""
    for guest in both:
        ready(guest)
    yield both
    end_watchdogs()
    put_back(*both)


def part(*guests: Guest, **options: Any) -> dict[str, Any]:
    """The options of a task."""
    return {**GROUP, 'quiesce': 'required', 'domains': [{'name': guest.name} for guest in guests], **options}


def prepare(run_module: Runner, *guests: Guest, **options: Any) -> str:
    """Prepare; the command that brings the process a word."""
    result = run_module('snapshot_step', part(*guests, step='prepare', **options))
    assert result['state'] == 'prepared'
    assert result['changed'] is True
    return str(result['command'])


def process_of(guest: Guest) -> int:
    """The process that takes the part: the one that holds the domain's lock."""
    return int((Path('/run/disksnap') / f'{guest.domain.UUIDString()}.lock').read_text(encoding='ascii'))


def last_process_of(guest: Guest) -> int:
    """The same, where there may never have been one."""
    try:
        return process_of(guest)
    except (FileNotFoundError, ValueError):
        return 0


def nothing_left(*guests: Guest) -> bool:
    """Whether all is as if nobody had begun."""
    return not any(frozen(guest) or journal(guest) or len(chain(guest, 'vda')) > 1 for guest in guests)


def overlays(*guests: Guest) -> list[Path]:
    return [path for guest in guests for path in guest.images.glob('*.s1.*')]


def test_step_by_step(pair: list[Guest], run_module: Runner) -> None:
    with untouched_definitions(pair):
        command = prepare(run_module, *pair)
    assert len(overlays(*pair)) == 2
    assert not any(frozen(guest) for guest in pair)

    assert say(command, 'commit') == {'failed': True, 'msg': 'Failed to commit: the next step is freeze.'}
    assert say(command, 'freeze') == {'failed': False, 'next': 'commit'}
    assert all(frozen(guest) for guest in pair)

    taken = say(command, 'commit')
    assert (taken['failed'], taken['state'], taken['group']) == (False, 'committed', 'g1')
    assert not any(frozen(guest) for guest in pair)
    assert [domain['consistency'] for domain in taken['domains']] == ['filesystem', 'filesystem']
    assert [len(chain(guest, 'vda')) for guest in pair] == [2, 2]
    assert taken['next'] == 'finish'

    again = run_module('snapshot_step', part(*pair, step='prepare'))
    assert (again['changed'], again['state'], again['group']) == (False, 'committed', 'g1')
    foretold = run_module('snapshot_step', part(*pair, step='finish'), check=True)
    finished = say(command, 'finish')
    assert finished['changed'] is foretold['changed'] is True
    assert finished['domains'] == foretold['domains'] == taken['domains']
    assert finished['state'] == 'present'
    deaf = say(command, 'abandon')
    assert deaf['failed'] is True
    assert 'Failed to reach the process' in deaf['msg']
    assert run_module('snapshot_step', part(*pair, step='finish'))['changed'] is False
    found = run_module('snapshot_step', part(*pair, step='prepare', group='g2'))
    assert (found['changed'], found['state'], found['group']) == (False, 'present', 'g1')
    as_ever = run_module('disk_snapshot', {k: v for k, v in part(*pair).items() if k != 'group'} | names(pair))
    assert as_ever['changed'] is False
    assert as_ever['domains'] == finished['domains']


def names(guests: list[Guest]) -> dict[str, Any]:
    return {'domains': [{'name': guest.name} for guest in guests]}


@contextlib.contextmanager
def untouched_definitions(guests: list[Guest]) -> Iterator[None]:
    """Nothing of the chains may change meanwhile."""
    before = [chain(guest, 'vda') for guest in guests]
    yield
    assert [chain(guest, 'vda') for guest in guests] == before


def test_check_mode_predicts_and_leaves_no_process(pair: list[Guest], lab: Lab, run_module: Runner) -> None:
    with untouched(lab, *pair):
        foretold = run_module('snapshot_step', part(*pair, step='prepare'), check=True)
    assert (foretold['changed'], foretold['state']) == (True, 'prepared')
    assert 'command' not in foretold
    command = prepare(run_module, *pair)
    say(command, 'freeze')
    taken = say(command, 'commit')
    assert [domain['disks'][0]['backup_source'] for domain in taken['domains']] == [
        domain['disks'][0]['backup_source'] for domain in foretold['domains']
    ]


def test_ranks(pair: list[Guest], run_module: Runner) -> None:
    app, db = pair
    command = prepare(run_module, app, db, order=['app', 'db'])
    assert say(command, 'freeze')['next'] == 'freeze'
    assert [frozen(guest) for guest in pair] == [True, False]
    assert say(command, 'freeze')['next'] == 'commit'
    assert [frozen(guest) for guest in pair] == [True, True]
    assert say(command, 'commit')['next'] == 'thaw'
    assert [frozen(guest) for guest in pair] == [True, True]
    assert say(command, 'thaw')['next'] == 'thaw'
    assert [frozen(guest) for guest in pair] == [True, False]
    taken = say(command, 'thaw')
    assert [frozen(guest) for guest in pair] == [False, False]
    assert [domain['consistency'] for domain in taken['domains']] == ['filesystem', 'filesystem']


@pytest.mark.parametrize('words', [[], ['freeze'], ['freeze', 'commit']])
def test_abandoned(words: list[str], pair: list[Guest], lab: Lab, run_module: Runner) -> None:
    with untouched(lab, *pair):
        command = prepare(run_module, *pair)
        for word in words:
            assert say(command, word)['failed'] is False
        answer = say(command, 'abandon')
        assert (answer['failed'], answer['state']) == (False, 'absent')
    assert run_module('snapshot_step', part(*pair, step='abandon'))['changed'] is False


@pytest.mark.parametrize('words', [[], ['freeze']])
def test_a_play_that_falls_silent(words: list[str], pair: list[Guest], lab: Lab, run_module: Runner) -> None:
    with untouched(lab, *pair):
        command = prepare(run_module, *pair, patience=2, max_frozen=3)
        for word in words:
            say(command, word)
        until('all undone', lambda: nothing_left(*pair) and not overlays(*pair), 60)


@pytest.mark.parametrize('words', [[], ['freeze']])
def test_a_play_that_died_and_is_run_again(words: list[str], pair: list[Guest], run_module: Runner) -> None:
    app, db = pair
    beside = prepare(run_module, db)
    first = prepare(run_module, app, max_frozen=120)
    for word in words:
        say(first, word)
    second = prepare(run_module, app, group='g2')
    assert not frozen(app)
    assert 'Failed to reach the process' in say(first, 'commit')['msg']
    say(second, 'freeze')
    assert say(second, 'commit')['group'] == 'g2'
    assert say(second, 'finish')['state'] == 'present'
    # one of the same name with other guests, as of a host that stands twice in the inventory, goes on
    assert say(beside, 'freeze')['failed'] is False
    assert say(beside, 'abandon')['failed'] is False
    assert len(overlays(*pair)) == 1


def test_a_play_that_dies_while_a_step_runs(pair: list[Guest], lab: Lab, run_module: Runner) -> None:
    with untouched(lab, *pair):
        command = prepare(run_module, *pair, max_frozen=120)
        with socket.socket(socket.AF_UNIX) as hanging_up:
            hanging_up.connect(command.split()[-1])
            hanging_up.sendall(b'freeze\n')
        until('all undone', lambda: nothing_left(*pair) and not overlays(*pair), 60)


@pytest.mark.parametrize('words', [[], ['freeze'], ['freeze', 'freeze'], ['freeze', 'freeze', 'commit']])
def test_what_the_process_leaves_that_is_killed(words: list[str], pair: list[Guest], run_module: Runner) -> None:
    """Its watchdog thaws; the next run undoes the rest."""
    command = prepare(run_module, *pair, order=['app', 'db'], max_frozen=60)
    pid = process_of(pair[0])
    for word in words:
        assert say(command, word)['failed'] is False
    os.kill(pid, signal.SIGKILL)
    until('thawed', lambda: not any(frozen(guest) for guest in pair), 30)
    result = run_module('disk_snapshot', {'snapshot_name': 's2', 'state': 'absent', **names(pair)})
    assert sum('half taken' in warning for warning in result['warnings']) == 2
    assert nothing_left(*pair)
    assert not overlays(*pair)


@pytest.mark.parametrize('step', ['finish', 'abandon'])
def test_what_a_process_has_taken_that_is_gone(step: str, pair: list[Guest], run_module: Runner) -> None:
    command = prepare(run_module, *pair)
    pid = process_of(pair[0])
    say(command, 'freeze')
    taken = say(command, 'commit')
    os.kill(pid, signal.SIGKILL)
    assert say(command, step)['failed'] is True
    settled = run_module('snapshot_step', part(*pair, step=step))
    assert settled['changed'] is True
    if step == 'finish':
        assert (settled['state'], settled['domains']) == ('present', taken['domains'])
    else:
        assert settled['state'] == 'absent'
        assert nothing_left(*pair)
        assert not overlays(*pair)


def test_a_play_that_dies_as_the_disks_are_taken(pair: list[Guest], lab: Lab, run_module: Runner) -> None:
    """Who does not hear that they are taken cannot have told any host to finish."""
    with untouched(lab, *pair):
        command = prepare(run_module, *pair, max_frozen=120)
        say(command, 'freeze')
        with socket.socket(socket.AF_UNIX) as hanging_up:
            hanging_up.connect(command.split()[-1])
            hanging_up.sendall(b'commit\n')
        until('all undone', lambda: nothing_left(*pair) and not overlays(*pair), 60)


def test_a_play_that_died_while_it_prepared(pair: list[Guest], run_module: Runner) -> None:
    """Its process goes on to where it would wait; the play that is run again is behind it there."""
    app, _db = pair
    before = last_process_of(app)
    first = run_module.start('snapshot_step', part(app, step='prepare'))
    until('the process of the first run', lambda: last_process_of(app) not in (0, before), 60)
    second = run_module.start('snapshot_step', part(app, step='prepare', group='g2'))
    answers = [first.wait(120), second.wait(120)]
    assert answers[1]['state'] == 'prepared'
    assert say(answers[1]['command'], 'abandon')['failed'] is False
    assert nothing_left(app)


def test_all_that_run(pair: list[Guest], run_module: Runner) -> None:
    app, db = pair
    app.domain.suspend()
    try:
        wanted = {key: value for key, value in part(db).items() if key != 'domains'}
        foretold = run_module('snapshot_step', {**wanted, 'running': {}, 'step': 'prepare'}, check=True)
        assert foretold['names'] == [db.name]
        answer = run_module('snapshot_step', {**wanted, 'running': {'exclude': ['d?']}, 'step': 'prepare'})
        assert (answer['state'], answer['changed'], answer['names']) == ('nothing', False, [])
        assert 'command' not in answer
    finally:
        app.domain.resume()


def test_what_is_undecided_waits_for_the_word_and_is_undone_when_none_comes(
    pair: list[Guest], run_module: Runner
) -> None:
    command = prepare(run_module, *pair, patience=8)
    say(command, 'freeze')
    say(command, 'commit')
    result = run_module('disk_snapshot', {'snapshot_name': 's2', 'state': 'absent', **names(pair)})
    assert result['_seconds'] > 3
    assert sum('half taken' in warning for warning in result['warnings']) == 2
    assert nothing_left(*pair)


def test_a_process_that_is_late_to_find_its_time_over_is_waited_for(pair: list[Guest], run_module: Runner) -> None:
    command = prepare(run_module, *pair, patience=2)
    pid = process_of(pair[0])
    say(command, 'freeze')
    say(command, 'commit')
    os.kill(pid, signal.SIGSTOP)
    time.sleep(3)
    after = run_module.start('disk_snapshot', {'snapshot_name': 's2', 'state': 'absent', **names(pair)})
    time.sleep(2)
    assert after.process.poll() is None
    os.kill(pid, signal.SIGCONT)
    result = after.wait()
    assert 'failed' not in result, result
    assert sum('half taken' in warning for warning in result['warnings']) == 2
    assert nothing_left(*pair)


def test_one_domain_that_was_told_is_enough(pair: list[Guest], run_module: Runner) -> None:
    """The process died while it noted that all hosts have it: that is known then, and nothing is undone."""
    app, _db = pair
    command = prepare(run_module, *pair)
    pid = process_of(app)
    say(command, 'freeze')
    taken = say(command, 'commit')
    os.kill(pid, signal.SIGKILL)
    told = _journal.load(app.domain)
    told.snapshots['s1'].state, told.snapshots['s1'].decide_by = _records.PRESENT, None
    _journal.store(app.domain, told)

    result = run_module('disk_snapshot', {'snapshot_name': 's2', 'state': 'absent', **names(pair)})
    assert [warning for warning in result['warnings'] if 'db was taken on all hosts; it was noted' in warning]
    found = run_module('snapshot_step', part(*pair, step='prepare'))
    assert (found['changed'], found['state'], found['domains']) == (False, 'present', taken['domains'])


def test_a_guest_that_cannot_be_frozen(pair: list[Guest], guest: Guests, lab: Lab, run_module: Runner) -> None:
    mute = guest(GuestSpec('mute', agent='none'))
    failure = run_module.fails('snapshot_step', part(pair[0], mute, step='prepare'))
    assert 'domain mute' in failure['msg']
    assert nothing_left(pair[0])

    with untouched(lab, pair[0]):
        command = prepare(run_module, pair[0], mute, quiesce='preferred')
        say(command, 'freeze')
        assert mute.state == 'paused'
        say(command, 'abandon')
        assert mute.state == 'running'
    command = prepare(run_module, pair[0], mute, quiesce='preferred')
    say(command, 'freeze')
    taken = say(command, 'commit')
    assert mute.state == 'running'
    assert [domain['consistency'] for domain in taken['domains']] == ['filesystem', 'crash']
    put_back(mute)


def test_bad_input(pair: list[Guest], lab: Lab, run_module: Runner) -> None:
    with untouched(lab, *pair):
        cases: list[tuple[dict[str, Any], str]] = [
            ({'patience': 0}, 'patience is 0'),
            ({'snapshot_name': '../s1'}, 'snapshot_name'),
            ({'domains': [{'name': 'nobody'}]}, 'nobody'),
        ]
        for options, words in cases:
            failure = run_module.fails('snapshot_step', {**part(*pair), 'step': 'prepare', **options})
            assert words in failure['msg']
