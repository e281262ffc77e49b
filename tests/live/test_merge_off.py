# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""snapshot_merge on shut-off, paused and transient domains, and on several at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest
from lxml import etree

from ansible_collections.disksnap.libvirt.tests.live.harness import (
    Guests,
    Runner,
    chain,
    disk_element,
    journal,
    put_back,
    ready,
    untouched,
)
from ansible_collections.disksnap.libvirt.tests.live.merging import overlay, prove
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab


@pytest.fixture(scope='module')
def off(shared: Guests) -> Guest:
    return shared(GuestSpec('moff', disks=[DiskSpec(), DiskSpec(format='raw')], agent='none'))


@pytest.fixture
def layered(off: Guest) -> Iterator[tuple[Guest, dict[str, int], dict[str, list[str]]]]:
    """Shut off, three layers a disk; what was acknowledged, and the layers."""
    if off.state == 'shutoff':
        off.start()
        ready(off)
    for name in ('one', 'two'):
        overlay(off, name)
        off.wait_acked(10)
    layers = {target: chain(off, target) for target in off.disks}
    off.destroy()
    yield off, off.acked(), layers
    off.destroy()
    put_back(off)
    for path in off.images.iterdir():
        if path.name.endswith(('.one', '.two')):
            path.unlink()


Layered = tuple[Guest, dict[str, int], dict[str, list[str]]]


def info(path: str) -> str | None:
    """Backing file of an image, as its header says."""
    import json
    import subprocess

    out = subprocess.run(['qemu-img', 'info', '--output=json', path], check=True, capture_output=True).stdout
    found = json.loads(out).get('backing-filename')
    return None if found is None else str(found)


def facts(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {disk['target']: disk for disk in result['domains'][0]['disks']}


@pytest.mark.core
@pytest.mark.parametrize('target', ['vda', 'vdb'])
def test_active_layer(layered: Layered, lab: Lab, run_module: Runner, tmp_path: Path, target: str) -> None:
    off, acked, layers = layered
    task = {'name': 'moff', 'base': layers[target][2]}
    off.domain.setAutostart(1)
    with untouched(lab, off):
        expected = run_module('snapshot_merge', task, check=True)

    result = run_module('snapshot_merge', task)

    disk = facts(result)[target]
    assert disk == {**facts(expected)[target], 'seconds': disk['seconds']}
    assert disk['state'] == 'merged'
    assert disk['removed'] == layers[target][:2]
    assert disk['chain_after'] == layers[target][2:]
    assert chain(off, target, inactive=True) == layers[target][2:]
    assert disk_element(off, target).find('driver').get('type') == off.disks[target].format
    assert off.domain.autostart()
    assert journal(off) is None
    prove(off, target, acked[target], tmp_path)
    assert run_module('snapshot_merge', task)['changed'] is False
    off.domain.setAutostart(0)
    off.start()
    ready(off)


def test_intermediate_layer(layered: Layered, run_module: Runner, tmp_path: Path) -> None:
    off, acked, (top, middle, base) = layered[0], layered[1], layered[2]['vda']
    task = {'name': 'moff', 'top': middle, 'bandwidth': '1G'}

    disk = facts(run_module('snapshot_merge', task))['vda']

    assert (disk['state'], disk['removed']) == ('merged', [middle])
    # a snapshot taken live leaves the chain in the persistent definition too, which must not name the layer any more
    assert middle not in disk['modified_disk']
    assert chain(off, 'vda', inactive=True) == [top, base]
    assert disk['chain_after'] == [top, base]
    assert info(top) == base
    prove(off, 'vda', acked['vda'], tmp_path)
    assert run_module('snapshot_merge', task)['changed'] is False


@pytest.mark.parametrize('whole', [False, True], ids=['one layer', 'whole chain'])
def test_pull(layered: Layered, run_module: Runner, tmp_path: Path, whole: bool) -> None:
    off, acked, (top, middle, base) = layered[0], layered[1], layered[2]['vda']
    task = {'name': 'moff', 'top': top, 'direction': 'pull', **({} if whole else {'base': base})}
    if whole:  # put_back() needs the original image: keep it in use
        keeper = f'{off.images}/keeper.one'
        import subprocess

        subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', keeper], check=True)

    disk = facts(run_module('snapshot_merge', task))['vda']

    assert (disk['state'], disk['removed']) == ('merged', [middle])
    assert disk['chain_after'] == ([top] if whole else [top, base])
    assert info(top) == (None if whole else base)
    assert os.path.exists(base)
    prove(off, 'vda', acked['vda'], tmp_path)
    assert run_module('snapshot_merge', task)['changed'] is False
    if whole:
        subprocess.run(['qemu-img', 'rebase', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top], check=True)


def test_index_is_refused_and_paths_are_told(layered: Layered, lab: Lab, run_module: Runner) -> None:
    off, _acked, layers = layered
    with untouched(lab, off):
        message = run_module.fails('snapshot_merge', {'name': 'moff', 'top': 'vda[1]'})['msg']
    assert all(path in message for path in layers['vda'])


def test_image_that_another_process_has_open(layered: Layered, lab: Lab, run_module: Runner) -> None:
    off, _acked, layers = layered
    import subprocess
    import time

    holder = subprocess.Popen(
        ['qemu-io', '-f', 'qcow2', layers['vda'][0]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        time.sleep(0.5)
        result = run_module.fails('snapshot_merge', {'name': 'moff', 'base': layers['vda'][2]})
        assert 'lock' in result['msg']
    finally:
        holder.communicate('quit\n', timeout=30)
    assert chain(off, 'vda', inactive=True)[0] == layers['vda'][0]
    assert facts(run_module('snapshot_merge', {'name': 'moff', 'base': layers['vda'][2]}))['vda']['state'] == 'merged'


def test_saved_domain_is_refused(layered: Layered, lab: Lab, run_module: Runner) -> None:
    off, _acked, layers = layered
    off.start()
    ready(off)
    off.domain.managedSave(0)
    try:
        result = run_module.fails('snapshot_merge', {'name': 'moff', 'base': layers['vda'][2]})
        assert 'managed save' in result['msg']
        with untouched(lab, off):
            result = run_module.fails('disk_snapshot', {'name': 'moff', 'snapshot_name': 's1'})
        assert 'managedsave-remove' in result['msg']
    finally:
        off.domain.managedSaveRemove(0)


@pytest.mark.core
def test_snapshot_taken_live_is_merged_shut_off(off: Guest, run_module: Runner, tmp_path: Path) -> None:
    if off.state == 'shutoff':
        off.start()
        ready(off)
    run_module('disk_snapshot', {'name': 'moff', 'snapshot_name': 's1'})
    off.wait_acked(10)
    off.destroy()
    acked = off.acked()
    result = run_module('snapshot_merge', {'name': 'moff', 'snapshot_name': 's1'})
    assert {disk['state'] for disk in facts(result).values()} == {'merged'}
    assert journal(off) is None
    for target in off.disks:
        prove(off, target, acked[target], tmp_path)


@pytest.mark.parametrize('direction', ['commit', 'pull'])
def test_paused_transient_domain_and_a_persistent_one(guest: Guests, run_module: Runner, direction: str) -> None:
    one = guest(GuestSpec('mpaused', persistent=False, state='paused', agent='none', disks=[DiskSpec(), DiskSpec()]))
    two = guest(GuestSpec('mtwo', agent='none'))
    task: dict[str, Any] = {'domains': [{'name': 'mpaused'}, {'name': 'mtwo'}], 'snapshot_name': 's1'}
    run_module('disk_snapshot', {**task, 'quiesce': 'none'})
    tops = {g.name: {target: chain(g, target)[0] for target in g.disks} for g in (one, two)}

    result = run_module('snapshot_merge', {**task, 'direction': direction})

    assert one.state == 'paused'
    assert [domain['name'] for domain in result['domains']] == ['mpaused', 'mtwo']
    assert [len(domain['disks']) for domain in result['domains']] == [2, 1]
    for g, domain in zip((one, two), result['domains']):
        for disk in domain['disks']:
            assert disk['state'] == 'merged'
            [left] = chain(g, disk['target'])
            assert (left == tops[g.name][disk['target']]) is (direction == 'pull')
            assert os.path.exists(left)
        assert journal(g) is None
    two.wait_acked(3)


def test_base_smaller_than_the_overlay_grows(off: Guest, run_module: Runner) -> None:
    if off.state == 'shutoff':
        off.start()
        ready(off)
    overlay(off, 'one', ['vda'])
    base = chain(off, 'vda')[1]
    before = off.domain.blockInfo('vda')[0]
    off.domain.blockResize('vda', before + (1 << 20), libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
    assert facts(run_module('snapshot_merge', {'name': 'moff', 'base': base}))['vda']['state'] == 'merged'
    assert off.domain.blockInfo('vda')[0] == before + (1 << 20)
    assert etree.fromstring(off.domain.XMLDesc()).find('devices/disk/mirror') is None
