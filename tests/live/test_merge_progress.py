# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What snapshot_merge says in a playbook while it merges, and that nothing else about it differs from the module."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.disksnap.libvirt.tests.live.harness import (
    Guests,
    Runner,
    chain,
    journal,
    put_back,
    ready,
    until,
    untouched,
)
from ansible_collections.disksnap.libvirt.tests.live.merging import fill, job, speed_up, wait_idle
from ansible_collections.disksnap.libvirt.tests.live.playing import playbook
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab

# so that 8 MiB take some eight seconds
SLOW = '1M'
# and two minutes
CRAWL = '64K'
# and three minutes; QEMU 10 has been seen to copy all of 8 MiB at once, whatever the limit, and then there is no rate
HELD_MIB, HELD = 40, '256K'
LINE = r'{} {} merging \d+% [\d.]+/[\d.]+ [KM]iB( [\d.]+ [KM]iB/s( \d+:\d\d left)?)?'
Play = Callable[..., 'subprocess.CompletedProcess[str]']


@pytest.fixture(scope='module')
def running(shared: Guests) -> Guest:
    # one that writes more than the limit lets through would never be done
    return shared(GuestSpec('progress', disks=[DiskSpec(), DiskSpec()], writer='none'))


@pytest.fixture
def web(running: Guest, run_module: Runner) -> Iterator[Guest]:
    """A guest that runs, with a snapshot and data on top of it."""
    run_module('disk_snapshot', {'name': running.name, 'snapshot_name': 's1'})
    for target in running.disks:
        fill(running, target, 8)
    yield running
    for target in running.disks:
        if job(running, target):
            running.domain.blockJobAbort(target, 0)
            wait_idle(running, target)
    put_back(running)
    ready(running)


@pytest.fixture
def play(lab: Lab, tmp_path: Path) -> Play:
    """Plays one task: play({'name': 'db1', ...}, loop=[...])."""

    def run(
        options: dict[str, Any], *words: str, every: float | str = 1, callback: str | None = None, **task: Any
    ) -> subprocess.CompletedProcess[str]:
        merge = {'name': 'Merge', 'disksnap.libvirt.snapshot_merge': {'uri': lab.uri, **options}, 'register': 'merged'}
        show = {
            'name': 'Show',
            'ansible.builtin.debug': {'msg': 'RESULT {{ merged | to_json }} END'},
            'when': 'merged is not skipped',
        }
        path = tmp_path / 'play.yml'
        path.write_text(
            yaml.safe_dump([{'hosts': 'all', 'gather_facts': False, 'tasks': [{**merge, **task}, show]}]), 'utf-8'
        )
        environment = {'ANSIBLE_LOG_PATH': str(tmp_path / 'log')}
        if callback:
            environment['ANSIBLE_STDOUT_CALLBACK'] = callback
        return playbook(lab, str(path), tmp_path, {'disksnap_libvirt_progress': every}, *words, more=environment)

    return run


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What the task registered."""
    assert done.returncode == 0, done.stdout + done.stderr
    [text] = re.findall(r'"msg": "RESULT (.*) END"', done.stdout)
    found: dict[str, Any] = json.loads(json.loads(f'"{text}"'))
    return found


def progress_files() -> list[Path]:
    """Files of runs on this guest; other workers have guests of other names."""
    found = []
    for path in Path('/run/disksnap').glob('progress-*'):
        with contextlib.suppress(FileNotFoundError):
            if '"domain": "progress"' in path.read_text('utf-8'):
                found.append(path)
    return found


def lines(done: subprocess.CompletedProcess[str], guest: str, target: str) -> list[str]:
    return [line for line in done.stdout.splitlines() if re.fullmatch(LINE.format(guest, target), line)]


@contextlib.contextmanager
def until_said(web: Guest, log: Path) -> Iterator[None]:
    """A merge with the limit HELD, which is lifted once the play has said two lines of each disk, and its rate."""
    for target in web.disks:
        fill(web, target, HELD_MIB)

    def said() -> bool:
        text = log.read_text('utf-8') if log.exists() else ''
        found = [re.findall(f' {web.name} {target} merging.*', text) for target in web.disks]
        return all(len(of_disk) >= 2 and any('iB/s' in line for line in of_disk) for of_disk in found)

    def wait() -> None:
        until('two lines of each disk and its rate', said, 240)
        for target in web.disks:
            speed_up(web, target)

    waiting = threading.Thread(target=wait)
    waiting.start()
    yield
    waiting.join(250)


def test_a_guest_that_runs(web: Guest, play: Play, tmp_path: Path) -> None:
    before = progress_files()
    with until_said(web, tmp_path / 'log'):
        done = play({'name': web.name, 'snapshot_name': 's1', 'bandwidth': HELD})
    merged = result(done)
    for target in web.disks:
        assert len(lines(done, web.name, target)) >= 2, done.stdout
        assert len(chain(web, target)) == 1
    assert re.search('[KM]iB/s', done.stdout), done.stdout
    assert merged['changed'] is True
    assert [disk['state'] for disk in merged['domains'][0]['disks']] == ['merged', 'merged']
    assert not {'ansible_job_id', 'results_file', 'finished', 'started'} & set(merged)
    assert journal(web) is None
    assert progress_files() == before
    again = play({'name': web.name, 'snapshot_name': 's1'})
    assert result(again)['changed'] is False
    assert lines(again, web.name, 'vda') == []


def test_a_guest_that_is_shut_off(guest: Guests, run_module: Runner, play: Play) -> None:
    off = guest(GuestSpec('progress-off', state='shutoff'))
    run_module('disk_snapshot', {'name': off.name, 'snapshot_name': 's1'})
    overlay = chain(off, 'vda')[0]
    subprocess.run(['qemu-io', '-c', 'write 8M 16M', overlay], check=True, timeout=60, capture_output=True)
    done = play({'name': off.name, 'snapshot_name': 's1', 'bandwidth': '4M'})
    assert result(done)['domains'][0]['disks'][0]['state'] == 'merged'
    said = lines(done, off.name, 'vda')
    percents = [int(re.search(r'(\d+)%', line).group(1)) for line in said]  # type: ignore[union-attr]
    assert percents == sorted(percents)
    assert percents[-1] > 0, done.stdout


def test_a_shell_that_greets(web: Guest, play: Play, tmp_path: Path) -> None:
    """And a variable that is a template."""
    shell = tmp_path / 'sh'
    shell.write_text('#!/bin/sh\necho "Welcome to hv1, authorised use only"\nexec /bin/sh "$@"\n', 'utf-8')
    shell.chmod(0o755)
    options = {'name': web.name, 'snapshot_name': 's1', 'bandwidth': HELD}
    with until_said(web, tmp_path / 'log'):
        done = play(options, every='{{ 2 - 1 }}', vars={'ansible_shell_executable': str(shell)})
    assert [disk['state'] for disk in result(done)['domains'][0]['disks']] == ['merged', 'merged']
    assert len(lines(done, web.name, 'vda')) >= 2, done.stdout


def test_json_stays_json(web: Guest, play: Play) -> None:
    done = play({'name': web.name, 'snapshot_name': 's1', 'bandwidth': SLOW}, callback='json')
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(done.stdout)
    assert results['Merge']['domains'][0]['disks'][0]['state'] == 'merged'


@pytest.mark.parametrize('how', [{'every': 0}, {'no_log': True}])
def test_quiet(web: Guest, play: Play, how: dict[str, Any]) -> None:
    done = play({'name': web.name, 'snapshot_name': 's1', 'bandwidth': '4M'}, **how)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'merging' not in done.stdout
    assert journal(web) is None


def test_check_mode(web: Guest, play: Play, lab: Lab) -> None:
    with untouched(lab, web):
        done = play({'name': web.name, 'snapshot_name': 's1', 'bandwidth': SLOW}, '--check', '--diff')
        found = result(done)
    assert found['changed'] is True
    assert found['domains'][0]['disks'][0]['state'] == 'merged'
    assert 'merging' not in done.stdout


def test_without_waiting(web: Guest, play: Play) -> None:
    done = play({'name': web.name, 'snapshot_name': 's1', 'bandwidth': '4K', 'wait': False})
    assert {disk['state'] for disk in result(done)['domains'][0]['disks']} == {'running'}
    ended = play({'name': web.name, 'disks': [{'target': 'vda'}, {'target': 'vdb'}], 'state': 'aborted'})
    assert {disk['state'] for disk in result(ended)['domains'][0]['disks']} == {'aborted'}


@pytest.mark.parametrize('poll', [0, 1])
def test_async(web: Guest, play: Play, poll: int) -> None:
    options = {'name': web.name, 'snapshot_name': 's1', 'bandwidth': '4M'}
    found = result(play(options, **{'async': 300, 'poll': poll}))
    if poll:
        assert found['domains'][0]['disks'][0]['state'] == 'merged'
    else:
        assert found['ansible_job_id']
        assert found['finished'] in (0, False)
    until('the merge has ended', lambda: journal(web) is None, 60)


def test_a_loop(web: Guest, play: Play) -> None:
    tops = [chain(web, target)[0] for target in web.disks]
    done = play({'name': web.name, 'top': '{{ item }}', 'bandwidth': SLOW}, loop=tops)
    merged = result(done)
    assert [one['domains'][0]['disks'][0]['state'] for one in merged['results']] == ['merged', 'merged']
    assert all(lines(done, web.name, target) for target in web.disks), done.stdout


def followed(log: Path) -> list[int]:
    """Modules that run in the background for the play with this log, without what Ansible has started them by."""
    found = []
    for entry in Path('/proc').iterdir():
        with contextlib.suppress(OSError):
            words = (entry / 'cmdline').read_bytes() if entry.name.isdigit() else b''
            ours = b'AnsiballZ_snapshot_merge' in words and b'async_wrapper' not in words
            # other tests on this machine may be merging as well
            if ours and {b'DISKSNAP_PROGRESS', f'ANSIBLE_LOG_PATH={log}'.encode()} <= {
                part if part.startswith(b'ANSIBLE_LOG_PATH=') else part.partition(b'=')[0]
                for part in (entry / 'environ').read_bytes().split(b'\0')
            }:
                found.append(int(entry.name))
    return found


def test_a_module_that_is_killed(web: Guest, play: Play, tmp_path: Path) -> None:
    killed, before = threading.Event(), progress_files()

    def kill() -> None:
        until('the job runs', lambda: job(web, 'vda'), 240)
        for pid in followed(tmp_path / 'log'):
            os.kill(pid, signal.SIGKILL)
            killed.set()

    killer = threading.Thread(target=kill)
    killer.start()
    done = play({'name': web.name, 'snapshot_name': 's1', 'bandwidth': CRAWL})
    killer.join(250)
    assert killed.is_set()
    assert done.returncode == 2
    assert 'Run the task again: it finishes what was begun.' in done.stdout
    assert progress_files() == before
    for target in web.disks:
        speed_up(web, target)
    assert result(play({'name': web.name, 'snapshot_name': 's1'}))['changed'] is True
    assert journal(web) is None


def test_a_mistake_is_the_modules_own_sentence(web: Guest, play: Play) -> None:
    for options in ({'name': 'nobody'}, {'name': web.name, 'bandwidth': 'much'}, {'name': web.name, 'timeout': 'long'}):
        done = play({'snapshot_name': 's1', **options})
        assert done.returncode == 2
        assert 'Run the task again' not in done.stdout
        assert 'Traceback' not in done.stdout
