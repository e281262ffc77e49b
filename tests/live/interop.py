# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The scenes of the guide on other tools, with community.libvirt itself: tests/get_collections.py unpacks it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import libvirt
import yaml

from ansible_collections.disksnap.libvirt.tests.live.examples import Example
from ansible_collections.disksnap.libvirt.tests.live.harness import chain, journal, ready
from ansible_collections.disksnap.libvirt.tests.live.stage import Outcome, Scene, Stage, Variables, play, run
from disksnap_lab import DiskSpec, GuestSpec, check_copy

SNAPSHOT = 'disksnap.libvirt.disk_snapshot'


# -- the inventory plugin -------------------------------------------------------------------------------------------


def _one_for_trying_out(stage: Stage, directory: Path) -> Variables:
    stage.lab.define(GuestSpec('scratch-1', agent='none', writer='none'))
    stage.lab.define(GuestSpec('spare', state='shutoff'))
    return {}


def _by_inventory(stage: Stage, shown: Sequence[Example], variables: Variables, directory: Path) -> list[Outcome]:
    """The inventory of the guide, and how this machine reaches hv1."""
    inventory = directory / 'inventory'
    inventory.mkdir()
    for name, example in zip(('hv1.libvirt.yml', 'hypervisors.yml'), shown):
        (inventory / name).write_text(stage.text(example.body, directory), encoding='utf-8')
    (inventory / 'how.json').write_text(json.dumps({'all': {'hosts': {'hv1': stage.host}}}), encoding='utf-8')
    given = {'fleet_snapshot_hosts': 'hypervisors', 'fleet_snapshot_name': 'nightly'}
    outcomes = stage.ansible(directory, 'disksnap.libvirt.snapshot', given, [inventory])
    assert {one.host for one in outcomes} == {'hv1'}
    [taken] = [one.result for one in outcomes if one.action == SNAPSHOT]
    assert taken['changed']
    assert {domain['name'] for domain in taken['domains']} == set(stage.guests)
    assert {domain['consistency'] for domain in taken['domains']} == {'filesystem'}
    return outcomes


def _nobody_tries_out(stage: Stage, directory: Path) -> None:
    for name in ('scratch-1', 'spare'):
        guest = stage.lab.guest(name)
        assert journal(guest) is None
        guest.remove()


# -- domains and pools ------------------------------------------------------------------------------------------------


def _a_template_of_shop1(stage: Stage, directory: Path) -> Variables:
    """Images for the guest, and its XML; neither the domain nor the pool are there."""
    disks = [DiskSpec(kind='volume', pool='shop'), DiskSpec(kind='volume', pool='shop')]
    shop1 = stage.lab.define(GuestSpec('shop1', disks=disks, directory=stage.pond / 'shop', state='shutoff'))
    xml = shop1.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    assert "pool='shop'" in xml
    (directory / 'shop1.xml.j2').write_text(xml, encoding='utf-8')
    shop1.domain.undefine()
    stage.lab.remove_pool('shop')
    return {}


def _shop1_is_as_any_other(stage: Stage, directory: Path) -> None:
    """Merged, and taken once more, with its agent; defined anew in between, it is off its overlays when it starts."""
    shop1 = stage.lab.guest('shop1')
    ready(shop1)
    for target, made in shop1.disks.items():
        assert [Path(layer).name for layer in chain(shop1, target)] == [Path(made.image).name]
    acked = shop1.acked()
    task = {'name': 'shop1', 'snapshot_name': 'again', 'quiesce': 'required'}
    [taken] = stage.run_module('disk_snapshot', task)['domains']
    assert [volume['pool'] for disk in taken['disks'] for volume in disk['volumes']] == ['shop', 'shop']
    for disk in taken['disks']:
        assert disk['backup_source']['pool'] == 'shop'
        assert check_copy(Path(disk['backup_source']['path']), 'qcow2', 'ext4').holds(acked[disk['target']])
    stage.run_module('disk_snapshot', {**task, 'quiesce': 'preferred', 'state': 'absent'})
    shop1.wait_acked(2, timeout=60)
    _defined_anew(stage, directory)
    shop1.remove()
    stage.lab.remove_pool('shop')


def _defined_anew(stage: Stage, directory: Path) -> None:
    task = {'name': 'shop1', 'snapshot_name': 'lost'}
    stage.run_module('disk_snapshot', task)
    [all_of_it] = yaml.safe_load((directory / 'play.yml').read_text(encoding='utf-8'))
    [define] = [one for one in all_of_it['tasks'] if one.get('community.libvirt.virt', {}).get('command') == 'define']
    path = directory / 'define.yml'
    path.write_text(yaml.safe_dump([{**all_of_it, 'tasks': [define]}]), encoding='utf-8')
    stage.ansible(directory, path, {})
    [told] = stage.run_module('disk_snapshot_info', {'name': 'shop1'})['domains']
    assert 'definitions_differ' in {problem['code'] for problem in told['problems']}


# -- virsh ------------------------------------------------------------------------------------------------------------


def _one_by_virsh(stage: Stage, directory: Path) -> Variables:
    run('virsh', '-q', '-c', stage.lab.uri, 'snapshot-create-as', 'db1', 'by-hand', '--disk-only')
    return {}


def _named(stage: Stage, shown: Sequence[Example], variables: Variables, directory: Path) -> list[Outcome]:
    outcomes = play(stage, shown, variables, directory)
    assert outcomes[-1].result['msg'] == ['by-hand']
    return outcomes


INTEROPERATION = [
    Scene(
        'the inventory of community.libvirt',
        ('guide_interop: plugin', 'guide_interop: hypervisors'),
        before=_one_for_trying_out,
        play=_by_inventory,
        after=_nobody_tries_out,
    ),
    Scene(
        'a guest in a pool, by community.libvirt',
        ('guide_interop: A guest in a pool of its own, and what it was before the upgrade',),
        before=_a_template_of_shop1,
        after=_shop1_is_as_any_other,
    ),
    Scene(
        'snapshots of virsh',
        ('guide_interop: Look at a guest', "guide_interop: Name the snapshots that are libvirt's own"),
        before=_one_by_virsh,
        play=_named,
    ),
]
