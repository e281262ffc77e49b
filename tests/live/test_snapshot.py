# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""disk_snapshot, state present, on a running guest with three unlike disks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils._records import timestamp
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
    put_back,
    untouched,
    without_times,
)
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab, check_copy

TARGETS = ['vda', 'vdb', 'vdc']


@pytest.fixture(scope='module')
def web(shared: Guests) -> Guest:
    """ext4 on qcow2, xfs on raw, ext4 on qcow2."""
    return shared(GuestSpec('web', disks=[DiskSpec(), DiskSpec(fs='xfs', format='raw'), DiskSpec()]))


@pytest.fixture(autouse=True)
def clean(web: Guest) -> Iterator[None]:
    """Each test starts and ends with one layer a disk."""
    yield
    put_back(web)
    assert [len(chain(web, target)) for target in TARGETS] == [1, 1, 1]


@pytest.mark.core
def test_takes_a_frozen_point_in_time_of_all_disks(web: Guest, lab: Lab, run_module: Runner, tmp_path: Path) -> None:
    originals = {target: web.source_file(target) for target in TARGETS}
    pools_before = pools(lab)
    acked = web.acked()

    result = run_module(
        'disk_snapshot', {'name': 'web', 'snapshot_name': 's1', 'quiesce': 'required', 'description': 'a <b>'}
    )

    assert result['changed'] is True
    [domain] = result['domains']
    assert (domain['name'], domain['uuid']) == ('web', web.domain.UUIDString())
    assert (domain['snapshot_name'], domain['description']) == ('s1', 'a <b>')
    assert domain['consistency'] == 'filesystem'
    freeze = domain['freeze']
    assert (freeze['filesystems'], freeze['presynced'], freeze['thawed_by']) == (3, True, 'module')
    assert 0 < freeze['window_ms'] < 60_000
    assert domain['created_at'] <= freeze['frozen_at'] <= timestamp()
    assert not frozen(web)
    assert [disk['target'] for disk in domain['disks']] == TARGETS
    for disk in domain['disks']:
        target = disk['target']
        [volume] = disk['volumes']
        assert chain(web, target) == [volume['path'], originals[target]]
        assert chain(web, target, inactive=True)[0] == volume['path']
        assert plain(disk['modified_disk']) == plain(disk_element(web, target))
        assert (volume['format'], volume['pool'], volume['name']) == ('qcow2', None, os.path.basename(volume['path']))
        assert volume['capacity'] == web.domain.blockInfo(target)[0]
        source = disk['backup_source']
        assert (source['type'], source['path'], source['pool']) == ('file', originals[target], None)
        assert source['format'] == web.disks[target].format
        assert disk['method'] == 'qemu'
        assert 'diskSnapshot method="qemu"' in disk['method_xml']
        copied = copy_out(source['path'], source['format'], tmp_path / target)
        report = check_copy(copied, 'qcow2', web.disks[target].fs)
        assert report.clean, report.problem
        assert report.holds(acked[target])
    assert pools(lab) == pools_before
    web.wait_acked(1)


@pytest.mark.core
def test_keeps_what_the_guest_wrote_after_it(web: Guest, run_module: Runner, tmp_path: Path) -> None:
    result = run_module('disk_snapshot', {'name': 'web', 'snapshot_name': 's1', 'quiesce': 'required'})
    after = web.wait_acked(3)

    for disk in result['domains'][0]['disks']:
        source = disk['backup_source']
        copied = copy_out(source['path'], source['format'], tmp_path / disk['target'])
        report = check_copy(copied, 'qcow2', web.disks[disk['target']].fs)
        assert report.last is not None
        assert report.last < after[disk['target']]
    put_back(web)
    assert all(now >= then for now, then in zip(web.acked().values(), after.values()))


@pytest.mark.core
def test_check_mode_predicts_all_but_times_and_leaves_nothing(web: Guest, lab: Lab, run_module: Runner) -> None:
    task = {'name': 'web', 'snapshot_name': 's1', 'quiesce': 'required', 'description': 'text'}

    with untouched(lab, web):
        predicted = run_module('disk_snapshot', task, check=True, diff=True)
    real = run_module('disk_snapshot', task, diff=True)

    assert without_times(predicted) == without_times(real)
    assert predicted['changed'] is True
    assert predicted['domains'][0]['freeze']['window_ms'] is None
    assert predicted['domains'][0]['freeze']['frozen_at'] is None


def test_diff_shows_the_disk_before_and_after(web: Guest, run_module: Runner) -> None:
    before = {target: web.source_file(target) for target in TARGETS}

    result = run_module('disk_snapshot', {'name': 'web', 'snapshot_name': 's1'}, diff=True)

    for disk in result['domains'][0]['disks']:
        overlay = disk['volumes'][0]['path']
        assert f'# disk {disk["target"]} of domain web\n' in result['diff']['before']
        assert before[disk['target']] in result['diff']['before']
        assert overlay in result['diff']['after']
        assert overlay not in result['diff']['before']


@pytest.mark.core
def test_again_changes_nothing_and_returns_the_same_facts(web: Guest, lab: Lab, run_module: Runner) -> None:
    task = {'name': 'web', 'snapshot_name': 's1', 'quiesce': 'required', 'description': 'text'}
    first = run_module('disk_snapshot', task)

    with untouched(lab, web):
        second = run_module('disk_snapshot', task, diff=True)
        predicted = run_module('disk_snapshot', task, check=True)
        by_uuid = run_module('disk_snapshot', {**task, 'name': web.domain.UUIDString()})

    for again in (second, predicted, by_uuid):
        assert again['changed'] is False
        assert again['domains'] == first['domains']
    assert second['diff'] == {'before': '', 'after': ''}


def test_the_same_name_over_other_disks_is_an_error(web: Guest, lab: Lab, run_module: Runner) -> None:
    run_module('disk_snapshot', {'name': 'web', 'snapshot_name': 's1', 'disks': [{'target': 'vda'}]})

    with untouched(lab, web):
        for check in (True, False):
            failure = run_module.fails('disk_snapshot', {'name': 'web', 'snapshot_name': 's1'}, check=check)
            assert 's1' in failure['msg']
            assert 'domain web' in failure['msg']
            assert 'over other disks (vda, not vda, vdb, vdc)' in failure['msg']


@pytest.mark.core
def test_a_snapshot_on_a_snapshot(web: Guest, run_module: Runner, tmp_path: Path) -> None:
    one = run_module('disk_snapshot', {'name': 'web', 'snapshot_name': 's1', 'quiesce': 'required'})
    acked = web.wait_acked(2)
    two = run_module('disk_snapshot', {'name': 'web', 'snapshot_name': 's2', 'quiesce': 'required'})

    for first, second in zip(one['domains'][0]['disks'], two['domains'][0]['disks']):
        target = first['target']
        lower, upper = first['volumes'][0]['path'], second['volumes'][0]['path']
        assert chain(web, target) == [upper, lower, web.disks[target].image]
        assert (second['backup_source']['path'], second['backup_source']['format']) == (lower, 'qcow2')
        assert plain(second['modified_disk']) == plain(disk_element(web, target))
    second = two['domains'][0]['disks'][0]
    report = check_copy(copy_out(second['backup_source']['path'], 'qcow2', tmp_path / 'copy'), 'qcow2', 'ext4')
    assert report.clean, report.problem
    assert report.holds(acked['vda'])
    again = run_module('disk_snapshot', {'name': 'web', 'snapshot_name': 's1', 'quiesce': 'required'})
    assert again['changed'] is False
    assert again['domains'] == one['domains']


@pytest.mark.parametrize('way', ['target', 'path', 'alias'])
def test_takes_only_the_disks_named(way: str, web: Guest, run_module: Runner) -> None:
    alias = disk_element(web, 'vdb').find('alias').get('name')
    named = {'target': 'vdb', 'path': web.source_file('vdb'), 'alias': alias}[way]

    result = run_module(
        'disk_snapshot', {'name': 'web', 'snapshot_name': 's1', 'disks': [{'target': named, 'method': 'qemu'}]}
    )

    assert [disk['target'] for disk in result['domains'][0]['disks']] == ['vdb']
    assert [len(chain(web, target)) for target in TARGETS] == [1, 2, 1]


@pytest.mark.core
def test_quiesce_none_does_not_freeze(web: Guest, run_module: Runner, tmp_path: Path) -> None:
    acked = web.acked()

    [domain] = run_module('disk_snapshot', {'name': 'web', 'snapshot_name': 's1', 'quiesce': 'none'})['domains']

    assert (domain['consistency'], domain['freeze']) == ('crash', None)
    for disk in domain['disks']:
        source = disk['backup_source']
        copied = copy_out(source['path'], source['format'], tmp_path / disk['target'])
        report = check_copy(copied, 'qcow2', web.disks[disk['target']].fs)
        assert report.consistent, report.problem
        assert report.holds(acked[disk['target']])


@pytest.mark.core
def test_freezes_only_the_mountpoints_named(web: Guest, run_module: Runner) -> None:
    task = {'name': 'web', 'snapshot_name': 's1', 'quiesce': 'required', 'mountpoints': ['/mnt/vda', '/mnt/vdb']}
    predicted = run_module('disk_snapshot', task, check=True)

    result = run_module('disk_snapshot', task)

    assert result['domains'][0]['freeze']['filesystems'] == 2
    assert without_times(predicted) == without_times(result)
    assert not frozen(web)


def test_a_freeze_of_fewer_file_systems_than_named_is_thawed_and_told(web: Guest, run_module: Runner) -> None:
    """The agent freezes the one and passes over the other without a word."""
    task = {'name': 'web', 'snapshot_name': 's1', 'mountpoints': ['/mnt/vda', '/srv/none']}

    result = run_module('disk_snapshot', task)

    assert result['domains'][0]['consistency'] == 'crash'
    [warning] = result['warnings']
    assert '/srv/none' in warning
    assert 'crash-consistent' in warning
    assert not frozen(web)
    web.wait_acked(1)


def test_presync_can_be_switched_off(web: Guest, run_module: Runner) -> None:
    result = run_module('disk_snapshot', {'name': 'web', 'snapshot_name': 's1', 'presync': False})

    assert result['domains'][0]['freeze']['presynced'] is False
    assert result['domains'][0]['consistency'] == 'filesystem'


def test_a_file_can_be_named(web: Guest, run_module: Runner) -> None:
    beside = web.images / 'beside.qcow2'

    result = run_module(
        'disk_snapshot',
        {
            'name': 'web',
            'snapshot_name': 's1',
            'disks': [
                {'target': 'vda', 'file': 'plain.qcow2'},
                {
                    'target': 'vdc',
                    'method_xml': f'<diskSnapshot method="qemu"><target file="{beside}"/></diskSnapshot>',
                },
            ],
        },
    )

    paths = [disk['volumes'][0]['path'] for disk in result['domains'][0]['disks']]
    assert paths == [str(web.images / 'plain.qcow2'), str(beside)]


@pytest.mark.core
def test_a_pool_over_the_directory_is_used_and_told(web: Guest, lab: Lab, run_module: Runner) -> None:
    lab.pool('web-pool', web.images)
    try:
        task = {'name': 'web', 'snapshot_name': 's1', 'disks': [{'target': 'vda'}]}
        predicted = run_module('disk_snapshot', task, check=True)
        result = run_module('disk_snapshot', task)
        [disk] = result['domains'][0]['disks']
        [volume] = disk['volumes']
        assert volume['pool'] == 'web-pool'
        assert (
            lab.connection.storagePoolLookupByName('web-pool').storageVolLookupByName(volume['name']).path()
            == volume['path']
        )
        source = disk['backup_source']
        assert (source['pool'], source['volume']) == ('web-pool', os.path.basename(web.disks['vda'].image))
        assert 'pool="web-pool"' in disk['method_xml']
        assert without_times(predicted) == without_times(result)
        again = run_module('disk_snapshot', {**task, 'disks': [{'target': 'vda', 'method_xml': disk['method_xml']}]})
        assert again['changed'] is False
    finally:
        lab.remove_pool('web-pool')


def test_a_pool_elsewhere_can_be_named(web: Guest, lab: Lab, run_module: Runner, tmp_path: Path) -> None:
    elsewhere = lab.filesystem('elsewhere', size_mib=64)
    lab.pool('elsewhere', elsewhere)
    try:
        result = run_module(
            'disk_snapshot', {'name': 'web', 'snapshot_name': 's1', 'disks': [{'target': 'vda', 'pool': 'elsewhere'}]}
        )
        [volume] = result['domains'][0]['disks'][0]['volumes']
        assert (volume['pool'], os.path.dirname(volume['path'])) == ('elsewhere', str(elsewhere))
        put_back(web)
    finally:
        lab.remove_pool('elsewhere')
        lab.remove_filesystem('elsewhere')


@pytest.mark.core
def test_the_journal_is_in_the_live_and_the_persistent_definition(web: Guest, run_module: Runner) -> None:
    result = run_module('disk_snapshot', {'name': 'web', 'snapshot_name': 's1', 'description': 'läuft & "steht"'})

    text = journal(web)
    assert text is not None
    assert 's1' in text
    assert 'läuft' in text
    assert result['domains'][0]['description'] == 'läuft & "steht"'
    assert text in web.domain.XMLDesc(0) or 'disksnap:journal' in web.domain.XMLDesc(0)
    assert 'urn:disksnap:libvirt:journal:1' in web.domain.XMLDesc(2)
    json.dumps(result)  # what a job template gets


@pytest.mark.core
def test_a_job_on_a_disk_is_an_error_that_says_so(web: Guest, lab: Lab, run_module: Runner) -> None:
    run_module('disk_snapshot', {'name': 'web', 'snapshot_name': 's1', 'disks': [{'target': 'vda'}]})
    web.domain.blockCommit('vda', None, None, 0, 4)  # VIR_DOMAIN_BLOCK_COMMIT_ACTIVE: stays until someone pivots
    try:
        failure = run_module.fails('disk_snapshot', {'name': 'web', 'snapshot_name': 's2'})
        assert 'block job' in failure['msg']
        assert 'domain web, disk vda' in failure['msg']
        assert not frozen(web)
        assert [len(chain(web, target)) for target in TARGETS] == [2, 1, 1]
    finally:
        web.domain.blockJobAbort('vda', 0)
