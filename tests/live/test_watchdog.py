# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No guest stays frozen: not past its deadline, not when the module or libvirtd dies; and what dies is cleared up."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.tests.live.harness import (
    Background,
    Guests,
    Runner,
    chain,
    frozen,
    journal,
    put_back,
    ready,
    until,
    watchdogs,
)
from ansible_collections.disksnap.libvirt.tests.sweep.modules import Modules
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab

TASK = {'name': 'web', 'state': 'quiesced'}


@pytest.fixture(scope='module')
def web(shared: Guests) -> Guest:
    """A quick guest with two disks."""
    return shared(GuestSpec('web', disks=[DiskSpec(), DiskSpec()]))


@pytest.fixture(scope='module')
def slow(shared: Guests) -> Guest:
    """A guest whose freeze takes seconds: it has to write 16 MiB at 4 MiB a second while all else waits."""
    disks = [DiskSpec(io_limit=4 << 20)]
    return shared(GuestSpec('slow', disks=disks, dirty_mib=16, writer='nosync'))


@pytest.fixture(autouse=True)
def clean(run_module: Runner, lab: Lab) -> Iterator[None]:
    """Each test ends with guests that write, one layer a disk, no watchdog and no journal."""
    yield
    for guest in lab.guests():
        run_module('storage_quiesce', {'name': guest.name, 'state': 'thawed'})
        put_back(guest)
        assert not frozen(guest)
    until('end of all watchdogs', lambda: not watchdogs(), 60)


def free(guest: Guest) -> bool:
    """Whether its agent answers and says that nothing is frozen."""
    try:
        return not frozen(guest)
    except Exception:  # whatever libvirt or the agent says: it has not said thawed
        return False


def for_good(guest: Guest) -> None:
    """The guest gets thawed, nobody is left to watch it, and no freeze that was still queued takes effect later."""
    until(f'{guest.name} thawed', lambda: free(guest), 60)
    until('end of all watchdogs', lambda: not watchdogs(), 60)
    until(f'{guest.name} still thawed', lambda: free(guest), 60)
    guest.wait_acked(2, timeout=60)


# -- the deadline -----------------------------------------------------------------------------------------------


@pytest.mark.core
def test_thaws_at_the_deadline(web: Guest, run_module: Runner) -> None:
    begun = time.monotonic()
    result = run_module('storage_quiesce', {**TASK, 'max_frozen': 4})
    ended = time.monotonic()
    before = web.acked()

    until('writes again', lambda: all(web.acked()[t] > before[t] + 5 for t in before), 60)

    thawed = time.monotonic()
    assert result['domains'][0]['state'] == 'quiesced'
    assert thawed > begun + 4
    assert thawed < ended + 4 + 2
    until('end of the watchdog', lambda: not watchdogs(), 30)
    again = run_module('storage_quiesce', {'name': 'web', 'state': 'thawed'})
    [domain] = again['domains']
    assert domain['thawed_by'] == 'watchdog'
    assert 3500 <= domain['window_ms'] <= (thawed - begun) * 1000
    assert domain['thawed_at'] is not None
    [warning] = again['warnings']
    assert 'max_frozen (4 s)' in warning
    assert 'not file-system consistent' in warning
    assert journal(web) is None
    assert run_module('storage_quiesce', {'name': 'web', 'state': 'thawed'})['changed'] is False


@pytest.mark.parametrize('max_frozen', [0.001, 0.05])
def test_a_deadline_that_passes_before_the_freeze_is_done(max_frozen: float, web: Guest, run_module: Runner) -> None:
    """The watchdog has thawed what was not frozen yet: it must come again."""
    module = run_module.start('storage_quiesce', {**TASK, 'max_frozen': max_frozen})
    module.wait()

    for_good(web)


@pytest.mark.core
def test_quiesced_after_the_watchdog_s_thaw_freezes_again(web: Guest, run_module: Runner) -> None:
    run_module('storage_quiesce', {**TASK, 'max_frozen': 1})
    until('end of the watchdog', lambda: not watchdogs(), 60)

    result = run_module('storage_quiesce', {**TASK, 'max_frozen': 60})

    assert result['changed'] is True
    assert frozen(web)
    [domain] = run_module('storage_quiesce', {'name': 'web', 'state': 'thawed'})['domains']
    assert domain['thawed_by'] == 'module'


def test_a_freeze_slower_than_the_deadline(slow: Guest, run_module: Runner) -> None:
    task = {'name': 'slow', 'state': 'quiesced', 'max_frozen': 1, 'agent_timeout': 60, 'presync': False}
    run_module.start('storage_quiesce', task).wait()

    for_good(slow)


@pytest.mark.parametrize('quiesce', ['required', 'preferred'])
def test_a_snapshot_whose_freeze_is_slower_than_the_deadline(quiesce: str, slow: Guest, run_module: Runner) -> None:
    task = {'name': 'slow', 'snapshot_name': 's1', 'max_frozen': 1, 'agent_timeout': 60, 'presync': False}

    result = run_module.start('disk_snapshot', {**task, 'quiesce': quiesce}).wait()

    if result.get('failed'):
        assert quiesce == 'required'
        assert 'domain slow' in result['msg']
        assert 'max_frozen' in result['msg']
        assert len(chain(slow, 'vda')) == 1
        assert journal(slow) is None
    else:
        [domain] = result['domains']
        assert (domain['consistency'] == 'filesystem') == (domain['freeze']['thawed_by'] == 'module')
        assert domain['consistency'] == 'filesystem' or result['warnings']
        assert len(chain(slow, 'vda')) == 2
    for_good(slow)


def test_an_agent_slower_than_its_timeout(slow: Guest, run_module: Runner) -> None:
    """The freeze that we stopped waiting for takes effect later."""
    task = {'name': 'slow', 'state': 'quiesced', 'max_frozen': 60, 'agent_timeout': 1, 'presync': False}

    result = run_module.start('storage_quiesce', task).wait()

    if result.get('failed'):
        assert 'domain slow' in result['msg']
        for_good(slow)
        assert journal(slow) is None
    else:  # it was quick enough this time
        assert frozen(slow)


# -- death of the module ----------------------------------------------------------------------------------------


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_module_killed_while_it_freezes(number: int, slow: Guest, run_module: Runner) -> None:
    task = {'name': 'slow', 'state': 'quiesced', 'max_frozen': 300, 'agent_timeout': 60, 'presync': False}
    module = run_module.start('storage_quiesce', task)
    until('freeze to begin', lambda: 'state="freezing"' in (journal(slow) or ''), 60)
    time.sleep(0.3)
    assert watchdogs()

    module.process.send_signal(number)
    module.process.communicate(timeout=60)

    for_good(slow)  # long before max_frozen
    result = run_module('storage_quiesce', {'name': 'slow', 'state': 'thawed'})
    assert result['domains'][0]['state'] == 'thawed'
    assert journal(slow) is None


def test_module_stopped_while_it_freezes(slow: Guest, run_module: Runner) -> None:
    """A module that hangs is not dead: the deadline counts."""
    task = {'name': 'slow', 'state': 'quiesced', 'max_frozen': 2, 'agent_timeout': 60, 'presync': False}
    module = run_module.start('storage_quiesce', task)
    until('freeze to begin', lambda: 'state="freezing"' in (journal(slow) or ''), 60)
    module.process.send_signal(signal.SIGSTOP)
    try:
        # ours may be the last freeze that the guest sees, or none; either way it ends up thawed
        time.sleep(3)
        until('thawed', lambda: free(slow), 60)
        slow.wait_acked(2, timeout=60)
    finally:
        module.process.send_signal(signal.SIGCONT)
        module.wait()
    for_good(slow)


def test_no_zombie_while_the_module_runs(slow: Guest, run_module: Runner) -> None:
    task = {'name': 'slow', 'state': 'quiesced', 'max_frozen': 60, 'agent_timeout': 60, 'presync': False}
    module = run_module.start('storage_quiesce', task)
    until('watchdog', watchdogs, 60)

    children = Path(f'/proc/{module.pid}/task/{module.pid}/children').read_text(encoding='ascii').split()

    module.wait()
    assert children == []
    assert all(one.state != 'Z' for one in watchdogs())


def settled(web: Guest, run_module: Runner) -> dict[str, Any]:
    """Whatever the last run left, the next one ends with the snapshot there, once, and a guest that writes."""
    result = run_module('disk_snapshot', {'name': 'web', 'snapshot_name': 's1', 'quiesce': 'required'})
    for disk in result['domains'][0]['disks']:
        overlay = disk['volumes'][0]['path']
        assert chain(web, disk['target']) == [overlay, web.disks[disk['target']].image]
        assert chain(web, disk['target'], inactive=True)[0] == overlay
    assert result['domains'][0]['consistency'] == 'filesystem'
    overlays = {disk['volumes'][0]['path'] for disk in result['domains'][0]['disks']}
    images = {made.image for made in web.disks.values()}
    assert {str(path) for path in web.images.iterdir()} == overlays | images
    assert (journal(web) or '').count('<snapshot ') == 1
    until('thawed', lambda: free(web), 60)
    return result


def leftovers(lab: Lab) -> list[str]:
    """Transient pools of the collection."""
    return [pool.name() for pool in lab.connection.listAllStoragePools(0) if pool.name().startswith('disksnap-')]


_SEED = 20110117


@pytest.mark.parametrize('part', [random.Random(_SEED + number).random() for number in range(6)])
def test_snapshot_killed_at_any_moment(part: float, web: Guest, lab: Lab, run_module: Runner) -> None:
    task = {'name': 'web', 'snapshot_name': 's1', 'quiesce': 'required'}
    whole = run_module('disk_snapshot', task)['_seconds']
    put_back(web)

    module = run_module.start('disk_snapshot', task)
    time.sleep(part * whole)
    module.kill()

    for_good(web)
    settled(web, run_module)
    assert leftovers(lab) == []


def in_step(state: str, web: Guest, run_module: Runner, task: dict[str, Any]) -> Background:
    """A module that has just begun a step, which may be over before one looks: then it is done again."""
    for _attempt in range(30):
        module = run_module.start('disk_snapshot', task)
        while module.process.poll() is None:
            if f'state="{state}"' in (journal(web) or ''):
                return module
        module.wait()
        run_module('disk_snapshot', {'name': task['name'], 'snapshot_name': task['snapshot_name'], 'state': 'absent'})
    return pytest.fail(f'the step {state} was never seen')


@pytest.mark.parametrize('state', ['preparing', 'committing'])
def test_snapshot_killed_in_a_step(state: str, web: Guest, lab: Lab, run_module: Runner) -> None:
    task = {'name': 'web', 'snapshot_name': 's1', 'quiesce': 'required'}
    module = in_step(state, web, run_module, task)
    module.kill()

    for_good(web)
    entry = journal(web) or ''
    predicted = run_module('disk_snapshot', task, check=True)
    assert journal(web) == (entry or None)
    result = settled(web, run_module)
    if 'state="present"' not in entry:
        assert any('half taken' in warning for warning in result['warnings'])
        assert any('half taken' in warning for warning in predicted['warnings'])
        assert predicted['changed'] is True
    assert [d['volumes'] for d in predicted['domains'][0]['disks']] == [
        d['volumes'] for d in result['domains'][0]['disks']
    ]
    assert leftovers(lab) == []


def test_shut_off_while_half_taken(guest: Guests, run_module: Runner) -> None:
    """The next run finds the guest off, and takes back what was written to the overlays."""
    crashed = guest(GuestSpec('crashed'))
    overlay = crashed.images / 'crashed-vda.s1.qcow2'
    module = run_module.start('disk_snapshot', {'name': 'crashed', 'snapshot_name': 's1'})
    until('the overlay in use', lambda: chain(crashed, 'vda')[0] == str(overlay), 60)
    module.kill()
    state = journal(crashed) or ''
    acked = crashed.wait_acked(3, timeout=60)
    crashed.destroy()

    run_module('disk_snapshot', {'name': 'crashed', 'snapshot_name': 's2'})

    if 'state="present"' not in state:
        assert chain(crashed, 'vda')[0] == str(crashed.images / 'crashed-vda.s2.qcow2')
        assert not overlay.exists()
    crashed.start()
    ready(crashed)
    assert crashed.wait_acked(1)['vda'] > acked['vda']


# -- death of libvirtd ------------------------------------------------------------------------------------------


@pytest.mark.core
def test_libvirtd_killed_while_frozen(web: Guest, lab: Lab, run_module: Runner) -> None:
    run_module('storage_quiesce', {**TASK, 'max_frozen': 3})
    lab.kill_libvirtd(hold=True)
    before = web.acked()
    time.sleep(4)  # the deadline passes with nobody to thaw through
    assert len(watchdogs()) == 1
    assert all(web.acked()[target] <= before[target] + 3 for target in before)

    lab.release_libvirtd()

    for_good(web)
    result = run_module('storage_quiesce', {'name': 'web', 'state': 'thawed'})
    assert result['domains'][0]['thawed_by'] == 'watchdog'


@pytest.mark.core
def test_libvirtd_killed_in_the_middle_of_a_snapshot(web: Guest, lab: Lab, run_module: Runner) -> None:
    module = run_module.start('disk_snapshot', {'name': 'web', 'snapshot_name': 's1', 'quiesce': 'required'})
    until('the commit', lambda: 'state="committing"' in (journal(web) or ''), 60)
    lab.kill_libvirtd(hold=True)
    try:
        time.sleep(1)
    finally:
        lab.release_libvirtd()
    result = module.wait()

    assert 'Traceback' not in result.get('msg', '')
    for_good(web)
    settled(web, run_module)
    assert leftovers(lab) == []


def test_the_next_run_waits_for_the_watchdog_of_the_last(web: Guest, lab: Lab, tmp_path: Path) -> None:
    """That one has to thaw a guest which may be frozen, and cannot tell this freeze from the next."""
    task = {'name': 'web', 'snapshot_name': 's1', 'quiesce': 'required'}
    with Modules(lab, tmp_path) as modules:
        for _again in range(3):
            assert 'failed' in modules.harmed('disk_snapshot', task, 'virDomainFSFreeze:1', 'libvirtd')
            lab.wait_libvirtd()

            [domain] = modules('disk_snapshot', task)['domains']

            assert (domain['consistency'], domain['freeze']['thawed_by']) == ('filesystem', 'module')
            modules('disk_snapshot', {**task, 'state': 'absent'})
    for_good(web)


def test_libvirtd_killed_while_the_guest_is_held_does_not_disturb_a_thaw_in_time(
    web: Guest, lab: Lab, run_module: Runner
) -> None:
    run_module('storage_quiesce', {**TASK, 'max_frozen': 120})
    lab.kill_libvirtd()
    lab.wait_libvirtd()
    until('agent', lambda: agent_answers(web), 60)

    [domain] = run_module('storage_quiesce', {'name': 'web', 'state': 'thawed'})['domains']

    assert domain['thawed_by'] == 'module'
    for_good(web)


@pytest.mark.core
def test_agents_that_a_new_libvirtd_has_yet_to_find_are_waited_for(web: Guest, lab: Lab, run_module: Runner) -> None:
    for state in ('quiesced', 'thawed'):
        with reconnecting(lab, web):
            module = run_module.start(
                'storage_quiesce', {**TASK, 'state': state, 'max_frozen': 120, 'agent_timeout': 60}
            )
            time.sleep(2)
            assert module.process.poll() is None
        result = module.wait()

        assert not result.get('failed'), result
        assert result['domains'][0]['state'] == state
    assert result['domains'][0]['thawed_by'] == 'module'
    for_good(web)


@contextlib.contextmanager
def reconnecting(lab: Lab, guest: Guest) -> Iterator[None]:
    """A libvirtd that has just been started, and cannot find this guest yet since its QEMU is stopped meanwhile."""
    mark = f'guest={guest.name},'.encode()
    [qemu] = [pid for pid in lab.daemon.processes() if mark in Path(f'/proc/{pid}/cmdline').read_bytes()]
    lab.kill_libvirtd(hold=True)
    os.kill(qemu, signal.SIGSTOP)
    try:
        lab.release_libvirtd()
        yield
    finally:
        os.kill(qemu, signal.SIGCONT)


def agent_answers(guest: Guest) -> bool:
    """Whether libvirtd has found the agent again."""
    try:
        frozen(guest)
    except Exception:  # not yet connected
        return False
    return True


# -- what others do ---------------------------------------------------------------------------------------------


@pytest.mark.core
def test_a_guest_destroyed_while_frozen_is_let_go(guest: Guests, run_module: Runner) -> None:
    doomed = guest(GuestSpec('doomed'))
    run_module('storage_quiesce', {'name': 'doomed', 'state': 'quiesced', 'max_frozen': 2})
    doomed.destroy()

    until('end of the watchdog', lambda: not watchdogs(), 30)
    result = run_module('storage_quiesce', {'name': 'doomed', 'state': 'thawed'})
    assert result['domains'][0]['state'] == 'thawed'
    assert journal(doomed) is None


@pytest.mark.core
def test_an_agent_killed_while_frozen(web: Guest, run_module: Runner) -> None:
    """Its successor knows that the guest is frozen and thaws it."""
    before = web.exec('pidof', 'qemu-ga').out
    web.agent_command('guest-exec', path='sh', arg=['-c', 'sleep 8; killall -9 qemu-ga'])
    run_module('storage_quiesce', {**TASK, 'max_frozen': 12})

    for_good(web)

    assert web.exec('pidof', 'qemu-ga').out != before
    [domain] = run_module('storage_quiesce', {'name': 'web', 'state': 'thawed'})['domains']
    assert domain['thawed_by'] == 'watchdog'


def test_two_runs_at_once_do_not_meet(web: Guest, run_module: Runner) -> None:
    runs = [
        run_module.start('disk_snapshot', {'name': 'web', 'snapshot_name': name, 'quiesce': 'required'})
        for name in ('s1', 's2')
    ]

    results = [run.wait() for run in runs]

    for result in results:
        assert not result.get('failed'), result
        assert result['domains'][0]['consistency'] == 'filesystem'
    assert {len(chain(web, target)) for target in web.disks} == {3}
    assert not frozen(web)
