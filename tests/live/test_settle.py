# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an interrupted run left is undone by the next one, whatever became of the domain meanwhile."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path
from typing import Any

import libvirt
import pytest
from lxml import etree

from ansible_collections.disksnap.libvirt.plugins.module_utils import _journal, _records
from ansible_collections.disksnap.libvirt.tests.live.harness import JOURNALS, Guests, Runner, chain, journal, untouched
from ansible_collections.disksnap.libvirt.tests.live.monitor import Monitor
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab

ELEMENT = libvirt.VIR_DOMAIN_METADATA_ELEMENT


@pytest.fixture(scope='module')
def web(shared: Guests) -> Guest:
    return shared(GuestSpec('halfway', disks=[DiskSpec(), DiskSpec(kind='volume', format='raw')]))


def half_take(guest: Guest, run_module: Runner, owner: _records.Owner | None = None) -> list[str]:
    """Take a snapshot and make its record say that the run died before the end; the overlays' paths."""
    taken = run_module('disk_snapshot', {'name': guest.name, 'snapshot_name': 'half', 'quiesce': 'none'})
    record = _journal.load(guest.domain)
    record.snapshots['half'].state = _records.COMMITTING
    record.snapshots['half'].owner = owner
    _journal.store(guest.domain, record)
    return [volume['path'] for disk in taken['domains'][0]['disks'] for volume in disk['volumes']]


def next_run(guest: Guest, run_module: Runner) -> dict[str, Any]:
    """Another snapshot, removed again, so that only the settling stays."""
    task = {'name': guest.name, 'snapshot_name': 'next'}
    result = run_module('disk_snapshot', task)
    run_module('disk_snapshot', {**task, 'state': 'absent'})
    return result


@pytest.mark.core
def test_disks_of_every_kind_move_back(web: Guest, run_module: Runner) -> None:
    before = {target: chain(web, target) for target in web.disks}
    overlays = half_take(web, run_module)
    result = next_run(web, run_module)
    assert any('half taken' in warning for warning in result['warnings'])
    assert {target: chain(web, target) for target in web.disks} == before
    assert not [path for path in overlays if Path(path).exists()]
    assert journal(web) is None
    web.wait_acked(5)


def test_a_layer_that_was_put_on_since_stays(web: Guest, lab: Lab, run_module: Runner) -> None:
    before = chain(web, 'vda')
    overlays = half_take(web, run_module)
    own = ['--diskspec', 'vda', '--diskspec', 'vdb,snapshot=no', '--disk-only', '--no-metadata']
    argv = ['virsh', '-q', '-c', lab.uri, 'snapshot-create-as', web.name, 'theirs', *own]
    subprocess.run(argv, check=True, timeout=60, capture_output=True)
    theirs = chain(web, 'vda')[0]
    next_run(web, run_module)
    assert chain(web, 'vda') == [theirs, *before]
    assert not [path for path in overlays if Path(path).exists()]
    run_module('snapshot_merge', {'name': web.name, 'disks': [{'target': 'vda'}], 'top': theirs, 'base': before[0]})
    assert chain(web, 'vda') == before


def test_a_run_that_is_still_alive_is_left_alone(web: Guest, run_module: Runner) -> None:
    half_take(web, run_module, _records.owner())  # this process, which lives
    with untouched(web.lab, web):
        failed = run_module.fails('disk_snapshot', {'name': web.name, 'snapshot_name': 'next'})
    assert 'may still be at it' in failed['msg']
    assert web.name in failed['msg']
    record = _journal.load(web.domain)
    record.snapshots['half'].owner = None
    _journal.store(web.domain, record)
    next_run(web, run_module)
    assert journal(web) is None


def test_a_copy_of_the_domain_does_not_take_the_overlay_from_it(web: Guest, lab: Lab, run_module: Runner) -> None:
    overlays = half_take(web, run_module)
    copy = etree.fromstring(web.domain.XMLDesc(2))
    for tag, text in (('name', 'copycat'), ('uuid', str(uuid.uuid4()))):
        element = copy.find(tag)
        assert element is not None
        element.text = text
    devices = copy.find('devices')
    assert devices is not None
    for disk in devices.findall('disk'):
        source, target = disk.find('source'), disk.find('target')
        if source is not None and target is not None and target.get('dev') in web.disks:
            devices.remove(disk)
    spare = Path(web.images) / 'spare.qcow2'
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', str(spare), '8M'], check=True, timeout=60)
    disk = etree.SubElement(devices, 'disk', type='file', device='disk')
    etree.SubElement(disk, 'driver', name='qemu', type='qcow2')
    etree.SubElement(disk, 'source', file=str(spare))
    etree.SubElement(disk, 'target', dev='vdz', bus='virtio')
    domain = lab.connection.defineXML(etree.tostring(copy, encoding='unicode'))
    try:
        failed = run_module.fails('disk_snapshot', {'name': 'copycat', 'snapshot_name': 'next'})
        assert web.name in failed['msg']
        assert all(Path(path).exists() for path in overlays)
    finally:
        domain.undefine()
        spare.unlink()
    next_run(web, run_module)
    assert journal(web) is None


@pytest.mark.parametrize('namespace', JOURNALS, ids=['snapshots', 'quiesce'])
def test_a_journal_that_is_in_one_definition_only(namespace: str, web: Guest, run_module: Runner) -> None:
    """libvirtd died between the two: the live one is right, as it is written first."""
    text = '<journal version="1"/>'
    web.domain.setMetadata(ELEMENT, text, 'disksnap', namespace, libvirt.VIR_DOMAIN_AFFECT_CONFIG)

    if namespace == JOURNALS[0]:
        next_run(web, run_module)
    else:
        run_module('storage_quiesce', {'name': web.name, 'state': 'thawed'})

    with pytest.raises(libvirt.libvirtError, match='metadata'):
        web.domain.metadata(ELEMENT, namespace, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    with pytest.raises(libvirt.libvirtError, match='metadata'):
        web.domain.metadata(ELEMENT, namespace, libvirt.VIR_DOMAIN_AFFECT_LIVE)


@pytest.mark.core
def test_node_names_that_a_dead_libvirtd_had_given_away(web: Guest, lab: Lab, run_module: Runner) -> None:
    """It died in the middle of a snapshot: QEMU has the layers, and nobody has noted their numbers."""
    lab.kill_libvirtd(hold=True)
    status: Any = etree.parse(lab.paths.run / 'libvirt' / 'qemu' / f'{web.name}.xml')
    last = int(status.find('nodename').get('index'))
    monitor = Monitor(lab, web.name)
    taken = [f'libvirt-{last + more}-storage' for more in (1, 2, 3, 4)]
    for name in taken:
        monitor('blockdev-add', **{'driver': 'null-co', 'node-name': name})
    monitor.close()
    lab.release_libvirtd()
    lab.wait_libvirtd()

    result = run_module('disk_snapshot', {'name': web.name, 'snapshot_name': 'named', 'quiesce': 'required'})

    assert result['domains'][0]['consistency'] == 'filesystem'
    run_module('disk_snapshot', {'name': web.name, 'snapshot_name': 'named', 'state': 'absent'})
    web.wait_acked(5)
