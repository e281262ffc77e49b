# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""snapshot_merge on a running guest that writes all the while."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.disksnap.libvirt.tests.live.harness import (
    Guests,
    Runner,
    chain,
    disk_element,
    journal,
    plain,
    put_back,
    untouched,
)
from ansible_collections.disksnap.libvirt.tests.live.merging import fill, idle, overlay, prove, wait_idle
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab

TARGETS = ['vda', 'vdb', 'vdc']


@pytest.fixture(scope='module')
def web(shared: Guests) -> Guest:
    """ext4 on qcow2, xfs on raw, ext4 on a volume."""
    disks = [DiskSpec(), DiskSpec(fs='xfs', format='raw'), DiskSpec(kind='volume')]
    return shared(GuestSpec('mweb', disks=disks))


@pytest.fixture(autouse=True)
def clean(web: Guest) -> Iterator[None]:
    """Each test starts and ends with one layer a disk, no job and no journal."""
    yield
    for target in TARGETS:
        if not idle(web, target):
            web.domain.blockJobAbort(target, 0)
            wait_idle(web, target)
    put_back(web)
    assert [len(chain(web, target)) for target in TARGETS] == [1, 1, 1]


def disks_of(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Target -> facts, of a task on one domain."""
    [domain] = result['domains']
    return {disk['target']: disk for disk in domain['disks']}


def predictable(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The facts that check mode must foresee."""
    return [
        {**disk, 'bytes': None, 'seconds': None, 'modified_disk': plain(disk['modified_disk'])}
        for domain in result['domains']
        for disk in domain['disks']
    ]


@pytest.mark.core
def test_three_disks_of_a_snapshot_side_by_side(web: Guest, lab: Lab, run_module: Runner, tmp_path: Path) -> None:
    originals = {target: chain(web, target) for target in TARGETS}
    run_module('disk_snapshot', {'name': 'mweb', 'snapshot_name': 's1'})
    web.wait_acked(20)
    overlays = {target: chain(web, target)[0] for target in TARGETS}
    task = {'name': 'mweb', 'snapshot_name': 's1'}
    with untouched(lab, web):
        expected = run_module('snapshot_merge', task, check=True, diff=True)
    acked = web.acked()

    result = run_module('snapshot_merge', task, diff=True)

    assert result['changed'] is True
    assert predictable(expected) == predictable(result)
    assert expected['diff'] == result['diff']
    for target, disk in disks_of(result).items():
        assert (disk['state'], disk['direction']) == ('merged', 'commit')
        assert disk['removed'] == [overlays[target]]
        assert not os.path.exists(overlays[target])
        assert chain(web, target) == originals[target]
        assert plain(disk['modified_disk']) == plain(disk_element(web, target))
        assert chain(web, target, inactive=True)[0] == originals[target][0]
        assert disk['bytes'] > 0
    assert sorted(disks_of(result)) == TARGETS
    assert journal(web) is None
    web.wait_acked(5)
    later = web.acked()
    for target in ('vda', 'vdb'):
        assert later[target] > acked[target]
        prove(web, target, later[target], tmp_path)

    again = run_module('snapshot_merge', task)
    assert again['changed'] is False
    assert disks_of(again) == {}


@pytest.mark.core
def test_oldest_snapshot_of_two_goes_and_the_other_stays_true(
    web: Guest, lab: Lab, run_module: Runner, tmp_path: Path
) -> None:
    for name in ('old', 'new'):
        run_module('disk_snapshot', {'name': 'mweb', 'snapshot_name': name})
        web.wait_acked(10)
    base = {target: chain(web, target)[-1] for target in TARGETS}

    result = run_module('snapshot_merge', {'name': 'mweb', 'snapshot_name': 'old'})

    assert {disk['state'] for disk in disks_of(result).values()} == {'merged'}
    left = run_module('disk_snapshot', {'name': 'mweb', 'snapshot_name': 'new'})
    assert left['changed'] is False
    for disk in left['domains'][0]['disks']:
        target = disk['target']
        assert len(chain(web, target)) == 2
        assert chain(web, target)[-1] == base[target]
        source = disk['backup_source']
        assert (source['volume'] or source['path']).endswith(os.path.basename(base[target]))
        assert 'old' not in disk['modified_disk']
    prove(web, 'vda', web.acked()['vda'], tmp_path)

    result = run_module('snapshot_merge', {'name': 'mweb', 'snapshot_name': 'new'})
    assert result['changed'] is True
    assert journal(web) is None


def test_one_disk_of_a_snapshot(web: Guest, run_module: Runner) -> None:
    run_module('disk_snapshot', {'name': 'mweb', 'snapshot_name': 's1'})
    task = {'name': 'mweb', 'snapshot_name': 's1', 'disks': [{'target': 'vdb'}]}

    assert list(disks_of(run_module('snapshot_merge', task))) == ['vdb']
    assert [len(chain(web, target)) for target in TARGETS] == [2, 1, 2]
    assert run_module('snapshot_merge', task)['changed'] is False

    rest = run_module('snapshot_merge', {'name': 'mweb', 'snapshot_name': 's1'})
    assert sorted(disks_of(rest)) == ['vda', 'vdc']
    assert journal(web) is None


@pytest.mark.core
def test_pull_of_three_disks(web: Guest, run_module: Runner, tmp_path: Path) -> None:
    """Two pulls that end at about the same time kill QEMU 7.2, so they must come one after the other."""
    run_module('disk_snapshot', {'name': 'mweb', 'snapshot_name': 'first'})
    run_module('disk_snapshot', {'name': 'mweb', 'snapshot_name': 'second'})
    web.wait_acked(10)
    before = {target: chain(web, target) for target in TARGETS}
    task = {'name': 'mweb', 'snapshot_name': 'second', 'direction': 'pull'}
    expected = run_module('snapshot_merge', task, check=True)

    result = run_module('snapshot_merge', task)

    assert web.state == 'running'
    assert predictable(expected) == predictable(result)
    for target, disk in disks_of(result).items():
        assert disk['state'] == 'merged'
        assert disk['removed'] == [before[target][1]]
        assert chain(web, target) == [before[target][0], before[target][2]]
    left = run_module('disk_snapshot', {'name': 'mweb', 'snapshot_name': 'first'})
    assert left['changed'] is False
    for disk in left['domains'][0]['disks']:
        assert [volume['path'] for volume in disk['volumes']] == [before[disk['target']][0]]
    prove(web, 'vda', web.acked()['vda'], tmp_path)

    result = run_module('snapshot_merge', {'name': 'mweb', 'snapshot_name': 'first'})
    assert [len(chain(web, target)) for target in TARGETS] == [1, 1, 1]
    assert journal(web) is None


@pytest.mark.core
@pytest.mark.parametrize('by', ['path', 'index', 'top'])
def test_intermediate_layers_of_a_foreign_chain(web: Guest, run_module: Runner, tmp_path: Path, by: str) -> None:
    paths = []
    for name in ('a', 'b', 'c'):
        paths += overlay(web, f'{by}-{name}', ['vda'])
        web.wait_acked(5)
    base = chain(web, 'vda')[-1]
    task: dict[str, Any] = {'name': 'mweb', 'base': base, 'top': paths[1]}
    gone = paths[:2]
    if by == 'index':
        indexes = {
            source.get('file'): f'vda[{source.getparent().get("index") or source.get("index")}]'
            for source in disk_element(web, 'vda').iter('source')
        }
        task = {**task, 'base': indexes[base], 'top': indexes[paths[1]]}
    elif by == 'top':
        task, gone = {'name': 'mweb', 'top': paths[1], 'disks': [{'target': 'vda'}]}, paths[1:2]

    result = run_module('snapshot_merge', task)

    disk = disks_of(result)['vda']
    assert disk['state'] == 'merged'
    assert sorted(disk['removed']) == sorted(gone)
    assert chain(web, 'vda') == [layer for layer in [*reversed(paths), base] if layer not in gone]
    prove(web, 'vda', web.acked()['vda'], tmp_path)
    again = run_module('snapshot_merge', task)
    assert again['changed'] is False


def test_active_layer_by_base_alone_is_idempotent(web: Guest, run_module: Runner) -> None:
    overlay(web, 'x', ['vdb'])
    overlay(web, 'y', ['vdb'])
    base = chain(web, 'vdb')[-1]

    result = run_module('snapshot_merge', {'name': 'mweb', 'base': base})

    assert disks_of(result)['vdb']['chain_after'] == [base]
    assert len(disks_of(result)['vdb']['removed']) == 2
    assert run_module('snapshot_merge', {'name': 'mweb', 'base': base})['changed'] is False


def test_pull_keeps_the_base_that_is_named_and_what_others_use(
    web: Guest, lab: Lab, run_module: Runner, tmp_path: Path
) -> None:
    paths = [overlay(web, name, ['vda'])[0] for name in ('p1', 'p2', 'p3')]
    base = chain(web, 'vda')[-1]
    used = f'{web.images}/other.qcow2'
    lab.daemon.run_inside('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', paths[0], '-F', 'qcow2', used)
    try:
        task = {'name': 'mweb', 'top': paths[2], 'base': base, 'direction': 'pull'}
        expected = run_module('snapshot_merge', task, check=True)
        result = run_module('snapshot_merge', task)
        disk = disks_of(result)['vda']
        assert disk['chain_after'] == chain(web, 'vda') == [paths[2], base]
        assert disk['removed'] == disks_of(expected)['vda']['removed'] == [paths[1]]
        assert os.path.exists(paths[0])
        print(result['warnings'])
        assert any(paths[0] in warning and used in warning for warning in result['warnings'])
        assert run_module('snapshot_merge', task)['changed'] is False
    finally:
        os.unlink(used)
        os.unlink(paths[0])


@pytest.mark.parametrize('spelling', ['path', 'link'])
def test_layer_that_another_image_stands_on_is_refused(
    web: Guest, lab: Lab, run_module: Runner, tmp_path: Path, spelling: str
) -> None:
    overlay(web, 's')
    base = chain(web, 'vda')[-1]
    if spelling == 'link':
        os.symlink(web.images, tmp_path / 'images')
        base = str(tmp_path / 'images' / os.path.basename(base))
    used = f'{web.images}/other.qcow2'
    lab.daemon.run_inside('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', used)
    try:
        with untouched(lab, web):
            result = run_module.fails('snapshot_merge', {'name': 'mweb', 'base': base})
        assert used in result['msg']
        assert 'vda' in result['msg']
    finally:
        os.unlink(used)


def test_layer_that_a_shut_off_domain_stands_on_is_refused_before_any_disk(
    web: Guest, lab: Lab, run_module: Runner, guest: Guests
) -> None:
    run_module('disk_snapshot', {'name': 'mweb', 'snapshot_name': 's1'})
    base = chain(web, 'vdb')[-1]
    guest(
        GuestSpec('mtwin', state='shutoff', disks=[DiskSpec(backing=Path(base), directory=web.images.parent / 'twin')])
    )
    with untouched(lab, web):
        result = run_module.fails('snapshot_merge', {'name': 'mweb', 'snapshot_name': 's1'})
    assert 'mtwin' in result['msg']
    assert 'vdb' in result['msg']


def test_what_cannot_be_meant_is_an_error(web: Guest, lab: Lab, run_module: Runner) -> None:
    top = overlay(web, 'e', ['vda'])[0]
    base = chain(web, 'vda')[-1]
    wrong: list[tuple[dict[str, Any], str]] = [
        ({'top': base}, 'no backing file'),
        ({'top': top, 'base': top}, 'not below'),
        ({'top': top, 'base': '/nowhere'}, '/nowhere'),
        ({'base': '/nowhere'}, '/nowhere'),
        ({'top': top, 'bandwidth': 'fast'}, 'bandwidth'),
        ({'top': top, 'timeout': 0}, 'timeout'),
        ({'top': top, 'disks': [{'target': 'vda'}, {'target': 'vdb'}]}, 'one disk'),
        ({'top': top, 'disks': [{'target': 'vdz'}]}, 'vdz'),
        ({'snapshot_name': 's', 'top': top}, 'mutually exclusive'),
        ({}, 'snapshot_name, base, top'),
    ]
    with untouched(lab, web):
        for options, words in wrong:
            assert words in run_module.fails('snapshot_merge', {'name': 'mweb', **options})['msg']
        typo = run_module('snapshot_merge', {'name': 'mweb', 'top': '/nowhere'})
        assert typo['changed'] is False
        assert '/nowhere' in typo['warnings'][0]


@pytest.mark.core
def test_copy_job_of_someone_else_is_left_alone(web: Guest, run_module: Runner, tmp_path: Path) -> None:
    top = overlay(web, 'j', ['vda'])[0]
    fill(web, 'vda')
    copy = f"<disk type='file'><driver type='qcow2'/><source file='{web.images}/copy.qcow2'/></disk>"
    web.domain.blockCopy('vda', copy, {'bandwidth': 4096}, libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)
    try:
        for state in ('merged', 'aborted'):
            task = {'name': 'mweb', 'state': state, **({'top': top} if state == 'merged' else {})}
            assert 'copy' in run_module.fails('snapshot_merge', task)['msg']
        assert web.domain.blockJobInfo('vda', 0)['type'] == libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY
    finally:
        web.domain.blockJobAbort('vda', 0)
        os.unlink(f'{web.images}/copy.qcow2')
