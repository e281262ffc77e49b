# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""disk_snapshot, state present, over kinds of disks, states of domains, agents, and groups of domains."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.tests.live.harness import (
    Guests,
    Runner,
    chain,
    copy_out,
    disk_element,
    frozen,
    journal,
    plain,
    pools,
    predicts,
    put_back,
    ready,
    until,
    untouched,
)
from disksnap_lab import DeviceSpec, DiskSpec, Guest, GuestSpec, Lab, check_copy

S1 = {'snapshot_name': 's1'}


def take(run_module: Runner, guest: Guest, **options: Any) -> dict[str, Any]:
    """Predict and take a snapshot, and compare; the one domain of the result."""
    task = {'name': guest.name, **S1, **options}
    result = predicts(run_module, 'disk_snapshot', task)
    [domain] = result['domains']
    for disk in domain['disks']:
        assert plain(disk['modified_disk']) == plain(disk_element(guest, disk['target']))
    return {**domain, 'warnings': result.get('warnings', [])}


def check(guest: Guest, domain: dict[str, Any], acked: dict[str, int], scratch: Path) -> None:
    """Every disk's backup source is readable, whole, and holds what was acknowledged."""
    for disk in domain['disks']:
        target, source = disk['target'], disk['backup_source']
        copied = copy_out(source['path'], source['format'], scratch / f'{guest.name}-{target}')
        report = check_copy(copied, 'qcow2', guest.disks[target].fs)
        assert report.consistent, report.problem
        if domain['consistency'] != 'crash':
            assert report.clean, report.problem
        assert report.holds(acked[target])


# -- one guest with every kind of disk --------------------------------------------------------------------------


@pytest.fixture(scope='module')
def kinds(shared: Guests, lab: Lab) -> Iterator[Guest]:
    """file, block, volume, network; and a pool for the overlays of those that have no directory."""
    lab.pool('overlays', lab.filesystem('overlays', size_mib=256))
    disks = [
        DiskSpec(format='raw'),
        DiskSpec(format='raw', kind='block'),
        DiskSpec(kind='volume'),
        DiskSpec(kind='network'),
    ]
    yield shared(GuestSpec('kinds', disks=disks, devices=[DeviceSpec('cdrom'), DeviceSpec('floppy')]))
    lab.guest('kinds').destroy()
    lab.remove_pool('overlays')
    lab.remove_filesystem('overlays')


@pytest.fixture
def all_kinds(kinds: Guest) -> Iterator[Guest]:
    """The same, put back after each test."""
    yield kinds
    put_back(kinds)
    assert {target: len(chain(kinds, target)) for target in kinds.disks} == dict.fromkeys(kinds.disks, 1)


def test_file_block_volume_and_network_disks_in_one_snapshot(
    all_kinds: Guest, lab: Lab, run_module: Runner, tmp_path: Path
) -> None:
    elsewhere = [{'target': 'vda'}, {'target': 'vdb', 'method': 'qemu', 'pool': 'overlays'}]
    elsewhere += [{'target': 'vdc'}, {'target': 'vdd', 'method': 'qemu', 'pool': 'overlays'}]
    acked = all_kinds.acked()

    domain = take(run_module, all_kinds, quiesce='required', disks=elsewhere)

    vda, vdb, vdc, vdd = domain['disks']
    made = all_kinds.disks
    assert domain['consistency'] == 'filesystem'
    assert domain['freeze']['filesystems'] == 4
    assert (vda['backup_source']['type'], vda['backup_source']['path']) == ('file', made['vda'].image)
    assert (vdb['backup_source']['type'], vdb['backup_source']['path']) == ('block', made['vdb'].source.device)
    assert (vdc['backup_source']['type'], vdc['backup_source']['path']) == ('volume', made['vdc'].image)
    assert vdc['backup_source']['pool'] == made['vdc'].source.pool
    assert vdc['backup_source']['volume'] == made['vdc'].source.volume
    assert (vdd['backup_source']['type'], vdd['backup_source']['path']) == ('network', None)
    assert 'protocol="nbd"' in vdd['backup_source']['xml']
    # the pool of the volume disk covers the directory of the file disk too
    assert [disk['volumes'][0]['pool'] for disk in domain['disks']] == [
        'kinds-images',
        'overlays',
        'kinds-images',
        'overlays',
    ]
    check(all_kinds, {**domain, 'disks': [vda, vdb, vdc]}, acked, tmp_path)
    all_kinds.wait_acked(2)
    exported = copy_out(made['vdd'].image, 'qcow2', tmp_path / 'vdd')
    assert check_copy(exported, 'qcow2', 'ext4').holds(acked['vdd'])


def test_the_overlay_of_a_network_disk_opens_by_itself(all_kinds: Guest, run_module: Runner, tmp_path: Path) -> None:
    """At the next start nothing but its header says what is below."""
    domain = take(run_module, all_kinds, disks=[{'target': 'vdd', 'method': 'qemu', 'pool': 'overlays'}])

    [overlay] = domain['disks'][0]['volumes']
    copied = copy_out(overlay['path'], 'qcow2', tmp_path / 'whole')
    assert check_copy(copied, 'qcow2', 'ext4').consistent


@pytest.mark.parametrize('target', ['vdb', 'vdd'])
def test_auto_does_not_guess_for_block_and_network(target: str, all_kinds: Guest, lab: Lab, run_module: Runner) -> None:
    with untouched(lab, all_kinds):
        failure = run_module.fails('disk_snapshot', {'name': 'kinds', **S1, 'disks': [{'target': target}]})

    assert f'domain kinds, disk {target}' in failure['msg']
    assert 'Methods that can take it: qemu' in failure['msg']


@pytest.mark.parametrize('target', ['vdb', 'vdd'])
def test_qemu_needs_to_be_told_where_if_there_is_no_directory(
    target: str, all_kinds: Guest, lab: Lab, run_module: Runner
) -> None:
    task = {'name': 'kinds', **S1, 'disks': [{'target': target, 'method': 'qemu'}]}
    with untouched(lab, all_kinds):
        for check in (False, True):
            failure = run_module.fails('disk_snapshot', task, check=check)
            assert f'domain kinds, disk {target}' in failure['msg']
            assert 'Name a pool' in failure['msg']


def test_a_block_disk_with_its_overlay_at_a_path(all_kinds: Guest, run_module: Runner, tmp_path: Path) -> None:
    overlay = all_kinds.images / 'over-block.qcow2'
    acked = all_kinds.acked()

    domain = take(run_module, all_kinds, disks=[{'target': 'vdb', 'method': 'qemu', 'file': str(overlay)}])

    assert chain(all_kinds, 'vdb') == [str(overlay), all_kinds.disks['vdb'].source.device]
    check(all_kinds, domain, acked, tmp_path)


@pytest.mark.parametrize(('target', 'reason'), [('sda', 'CD-ROM'), ('fda', 'floppy')])
def test_removable_drives_are_left_out_and_named_an_error(
    target: str, reason: str, all_kinds: Guest, lab: Lab, run_module: Runner
) -> None:
    with untouched(lab, all_kinds):
        failure = run_module.fails('disk_snapshot', {'name': 'kinds', **S1, 'disks': [{'target': target}]})

    assert reason in failure['msg']
    assert f'domain kinds, disk {target}' in failure['msg']


# -- states of the domain ---------------------------------------------------------------------------------------


def test_shut_off_domain(lab: Lab, guest: Guests, run_module: Runner, tmp_path: Path) -> None:
    off = guest(GuestSpec('off', disks=[DiskSpec(), DiskSpec(format='raw'), DiskSpec(kind='volume')]))
    off.shutdown(timeout=60)
    acked = off.acked()
    before = pools(lab)

    domain = take(run_module, off, quiesce='required')

    assert (domain['consistency'], domain['freeze']) == ('offline', None)
    assert domain['warnings'] == []
    assert all(disk['modified_disk'] for disk in domain['disks'])
    assert pools(lab) == before
    check(off, domain, acked, tmp_path)
    again = run_module('disk_snapshot', {'name': 'off', **S1})
    assert again['changed'] is False
    assert again['domains'][0]['disks'] == domain['disks']
    off.start()
    ready(off)
    assert all(now > then for now, then in zip(off.wait_acked(1).values(), acked.values()))
    running = run_module('disk_snapshot', {'name': 'off', **S1})
    assert running['changed'] is False
    assert running['domains'][0]['disks'] == domain['disks']
    second = take(run_module, off, snapshot_name='s2', quiesce='required')
    assert second['consistency'] == 'filesystem'
    assert [len(chain(off, target)) for target in off.disks] == [3, 3, 3]


def test_shut_off_domain_with_a_network_disk(lab: Lab, guest: Guests, run_module: Runner) -> None:
    off = guest(GuestSpec('offnet', disks=[DiskSpec(), DiskSpec(kind='network')], state='shutoff'), wait=False)

    with untouched(lab, off):
        failure = run_module.fails(
            'disk_snapshot',
            {'name': 'offnet', **S1, 'disks': [{'target': 'vdb', 'method': 'qemu', 'file': f'{off.images}/x.qcow2'}]},
        )

    assert 'shut off' in failure['msg']
    assert 'domain offnet, disk vdb' in failure['msg']


def test_paused_domain(lab: Lab, guest: Guests, run_module: Runner, tmp_path: Path) -> None:
    paused = guest(GuestSpec('paused', state='paused'), wait=False)
    acked = paused.acked()
    with untouched(lab, paused):
        for check_mode in (True, False):
            failure = run_module.fails(
                'disk_snapshot', {'name': 'paused', **S1, 'quiesce': 'required'}, check=check_mode
            )
            assert 'domain paused' in failure['msg']
            assert 'not running' in failure['msg']

    domain = take(run_module, paused)

    assert (domain['consistency'], domain['freeze']) == ('crash', None)
    [warning] = domain['warnings']
    assert 'not running' in warning
    assert paused.state == 'paused'
    check(paused, domain, acked, tmp_path)
    paused.domain.resume()
    paused.wait_acked(1, timeout=60)


def test_transient_domain(lab: Lab, guest: Guests, run_module: Runner, tmp_path: Path) -> None:
    passing = guest(GuestSpec('passing', persistent=False))
    acked = passing.acked()

    domain = take(run_module, passing, quiesce='required')

    assert domain['consistency'] == 'filesystem'
    assert run_module('disk_snapshot', {'name': 'passing', **S1})['changed'] is False
    check(passing, domain, acked, tmp_path)


# -- agents -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def mute(shared: Guests) -> tuple[Guest, Guest, Guest]:
    """Guests without an agent, with one that does not answer, and with one that refuses guest-exec."""
    guests = [shared(GuestSpec(f'agent-{agent}', agent=agent), wait=False) for agent in ('none', 'silent', 'noexec')]
    ready(*guests)
    return guests[0], guests[1], guests[2]


@pytest.mark.parametrize('which', [0, 1], ids=['none', 'silent'])
def test_without_an_agent_that_answers(
    which: int, mute: tuple[Guest, Guest, Guest], lab: Lab, run_module: Runner, tmp_path: Path
) -> None:
    one = mute[which]
    acked = one.acked()
    with untouched(lab, one):
        for check_mode in (True, False):
            task = {'name': one.name, **S1, 'quiesce': 'required', 'agent_timeout': 1}
            failure = run_module.fails('disk_snapshot', task, check=check_mode)
            assert f'domain {one.name}' in failure['msg']
            assert 'agent' in failure['msg']

    domain = take(run_module, one, agent_timeout=1)

    assert (domain['consistency'], domain['freeze']) == ('crash', None)
    [warning] = domain['warnings']
    assert one.name in warning
    assert 'agent' in warning
    check(one, domain, acked, tmp_path)
    put_back(one)


def test_with_an_agent_that_refuses_guest_exec(
    mute: tuple[Guest, Guest, Guest], run_module: Runner, tmp_path: Path
) -> None:
    one = mute[2]
    acked = one.acked()

    domain = take(run_module, one, quiesce='required')

    assert domain['consistency'] == 'filesystem'
    assert domain['freeze']['presynced'] is False
    check(one, domain, acked, tmp_path)
    put_back(one)


# -- groups -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def two(shared: Guests) -> tuple[Guest, Guest]:
    """Two guests that run."""
    guests = [shared(GuestSpec(name), wait=False) for name in ('one', 'two')]
    ready(*guests)
    return guests[0], guests[1]


@pytest.fixture
def group(two: tuple[Guest, Guest]) -> Iterator[list[Guest]]:
    """The same, put back after each test."""
    yield list(two)
    put_back(*two)
    for guest in two:
        assert len(chain(guest, 'vda')) == 1


def names(guests: list[Guest]) -> list[dict[str, Any]]:
    """The option domains for all their disks."""
    return [{'name': guest.name} for guest in guests]


def test_a_group_is_of_one_instant(group: list[Guest], run_module: Runner, tmp_path: Path) -> None:
    acked = [guest.acked() for guest in group]

    result = predicts(run_module, 'disk_snapshot', {'domains': names(group), **S1, 'quiesce': 'required'})

    assert [domain['name'] for domain in result['domains']] == ['one', 'two']
    assert len({domain['created_at'] for domain in result['domains']}) == 1
    for guest, domain, then in zip(group, result['domains'], acked):
        assert domain['consistency'] == 'filesystem'
        assert domain['freeze']['thawed_by'] == 'module'
        check(guest, domain, then, tmp_path)
    again = run_module('disk_snapshot', {'domains': names(group), **S1, 'quiesce': 'required'})
    assert again['changed'] is False
    assert again['domains'] == result['domains']


def test_a_group_with_a_disk_of_one(group: list[Guest], run_module: Runner) -> None:
    domains = [{'name': 'one', 'disks': [{'target': 'vda', 'file': 'mine.qcow2'}]}, {'name': 'two'}]

    result = predicts(run_module, 'disk_snapshot', {'domains': domains, **S1})

    assert os.path.basename(result['domains'][0]['disks'][0]['volumes'][0]['path']) == 'mine.qcow2'


def test_a_second_run_over_more_domains_says_that_the_instant_differs(group: list[Guest], run_module: Runner) -> None:
    first = run_module('disk_snapshot', {'domains': names(group[:1]), **S1})

    both = predicts(run_module, 'disk_snapshot', {'domains': names(group), **S1})

    assert both['changed'] is True
    assert both['domains'][0] == first['domains'][0]
    assert any('not of one instant' in warning for warning in both['warnings'])


def test_one_that_cannot_be_planned_leaves_neither(group: list[Guest], lab: Lab, run_module: Runner) -> None:
    (group[1].images / 'two-vda.s1.qcow2').touch()
    try:
        with untouched(lab, *group):
            failure = run_module.fails('disk_snapshot', {'domains': names(group), **S1})
        assert 'domain two, disk vda' in failure['msg']
        assert 'already exists' in failure['msg']
    finally:
        (group[1].images / 'two-vda.s1.qcow2').unlink()


def test_one_that_fails_in_the_commit_leaves_neither(group: list[Guest], lab: Lab, run_module: Runner) -> None:
    """The second one's overlay goes away as soon as it is there, so that libvirt refuses it."""
    overlay = group[1].images / 'two-vda.s1.qcow2'
    over = threading.Event()
    seen = threading.Event()

    def spoil() -> None:
        while not over.is_set():
            try:
                os.truncate(overlay, 0)
                seen.set()
            except OSError:
                time.sleep(0.001)

    thread = threading.Thread(target=spoil)
    with untouched(lab, *group):
        thread.start()
        try:
            failure = run_module.fails('disk_snapshot', {'domains': names(group), **S1, 'quiesce': 'required'})
        finally:
            over.set()
            thread.join(30)
        assert seen.is_set()
    assert 'domain two' in failure['msg']
    for guest in group:
        assert not frozen(guest)
        assert journal(guest) is None


def test_one_that_dies_in_the_middle_leaves_the_other_as_it_was(
    group: list[Guest], lab: Lab, guest: Guests, run_module: Runner
) -> None:
    victim = guest(GuestSpec('victim'))
    module = run_module.start(
        'disk_snapshot', {'domains': [{'name': 'one'}, {'name': 'victim'}], **S1, 'quiesce': 'required'}
    )
    overlay = victim.images / 'victim-vda.s1.qcow2'
    until('overlay of the victim', overlay.exists, 60)
    victim.destroy()
    result = module.wait()

    if result.get('failed'):
        assert 'Traceback' not in result['msg']
        assert len(chain(group[0], 'vda')) == 1
        assert journal(group[0]) is None
        assert not list(group[0].images.glob('*.s1.*'))
        # what could not be undone on a domain that had just died, the next run does
        final = run_module('disk_snapshot', {'name': 'victim', **S1})
        assert chain(victim, 'vda')[0] == final['domains'][0]['disks'][0]['volumes'][0]['path']
    else:
        assert len(chain(group[0], 'vda')) == 2
    assert not frozen(group[0])
    group[0].wait_acked(1)


def test_instant_domain_takes_each_for_itself(group: list[Guest], run_module: Runner) -> None:
    task = {'domains': names(group), **S1, 'quiesce': 'required', 'instant': 'domain'}

    result = predicts(run_module, 'disk_snapshot', task)

    assert [domain['consistency'] for domain in result['domains']] == ['filesystem', 'filesystem']
    assert run_module('disk_snapshot', task)['changed'] is False


def test_instant_domain_keeps_those_that_went_well(group: list[Guest], run_module: Runner) -> None:
    (group[0].images / 'one-vda.s1.qcow2').touch()
    try:
        failure = run_module.fails('disk_snapshot', {'domains': names(group), **S1, 'instant': 'domain'})
    finally:
        (group[0].images / 'one-vda.s1.qcow2').unlink()

    assert 'domain one, disk vda' in failure['msg']
    assert failure['changed'] is True
    assert [domain['name'] for domain in failure['domains']] == ['two']
    assert len(chain(group[0], 'vda')) == 1
    assert len(chain(group[1], 'vda')) == 2
