# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which examples of the documentation run after one another, what must be there before, and what they leave behind.

Each example has its place in ``SCENES``, ``ON_HYPERVISOR``, ``BESIDE_A_SCRIPT`` or ``NOT_RUN``:
tests/unit/docs/test_examples.py sees to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import yaml

from ansible_collections.disksnap.libvirt.plugins.filter.fleet_array import fleet_array
from ansible_collections.disksnap.libvirt.plugins.filter.fleet_prune import fleet_prune
from ansible_collections.disksnap.libvirt.tests.live.harness import chain
from ansible_collections.disksnap.libvirt.tests.live.interop import INTEROPERATION
from ansible_collections.disksnap.libvirt.tests.live.merging import CRAWL, fill, overlay
from ansible_collections.disksnap.libvirt.tests.live.stage import Scene, Stage, Variables, run
from ansible_collections.disksnap.libvirt.tests.live.steps import say

# -- what is there before -----------------------------------------------------------------------------------------


def _an_orphan(stage: Stage, directory: Path) -> Variables:
    base = str(stage.images / 'db1.qcow2')
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', base, str(stage.images / 'old.qcow2'))
    return {}


def _nightly(*guests: str) -> Callable[[Stage, Path], Variables]:
    def before(stage: Stage, directory: Path) -> Variables:
        stage.snapshot('nightly', *guests)
        return {}

    return before


def _three_of_today(stage: Stage, directory: Path) -> Variables:
    for name in ('nightly-1', 'nightly-2', 'nightly-3'):
        stage.run_module('disk_snapshot', {'name': 'db1', 'snapshot_name': name, 'disks': [{'target': 'vda'}]})
    # as though the removal of one that is still there has failed
    seen = stage.run_module('disk_snapshot_info', {'name': 'db1'})
    plan = fleet_prune(seen, {'last': 1})
    failed = {'item': plan['removals'][0], 'failed': True}
    return {'plan': plan, 'removal': {'results': [failed]}, 'left': {'domains': seen['domains']}}


def _foreign_chain(stage: Stage, directory: Path) -> Variables:
    """Layers with the names that the example has."""
    db1 = stage.guests['db1']
    for number in (1, 2):
        path = stage.images / f'db1.snap{number}'
        disks = f'<disk name="vda" snapshot="external"><source file="{path}"/></disk><disk name="vdb" snapshot="no"/>'
        flags = 16 | 4  # DISK_ONLY | NO_METADATA
        db1.domain.snapshotCreateXML(
            f'<domainsnapshot><name>s{number}</name><disks>{disks}</disks></domainsnapshot>', flags
        )
    return {}


def _a_slow_merge(stage: Stage, directory: Path) -> Variables:
    db1 = stage.guests['db1']
    [top] = overlay(db1, 'slow', ['vdb'])
    fill(db1, 'vdb')
    ends = {'top': top, 'base': db1.disks['vdb'].image}
    task = {'name': 'db1', 'disks': [{'target': 'vdb'}], **ends, 'wait': False, 'bandwidth': CRAWL}
    assert stage.run_module('snapshot_merge', task)['domains'][0]['disks'][0]['state'] == 'running'
    return {}


def _acked(stage: Stage, directory: Path) -> Variables:
    """Note what the writers of db1 have acknowledged, for judge() of the copies that are made."""
    (directory / 'acked.json').write_text(json.dumps(stage.guests['db1'].wait_acked()), encoding='utf-8')
    return {}


def _for_a_job(stage: Stage, directory: Path) -> Variables:
    _acked(stage, directory)
    taken = stage.snapshot('nightly', 'db1')
    return {'fleet_snapshot': {'hv1': {'domains': taken['domains']}}}


def _answers_of_an_array(stage: Stage, directory: Path) -> Variables:
    """A group as the filter makes it of what a host says: of db1, the disk vdb is on the array."""
    disks = [{'target': 'vda'}, {'target': 'vdb', 'method': 'array', 'volume': {'serial': '6001'}}]
    task = {'step': 'prepare', 'snapshot_name': 'asked', 'group': 'asked', 'name': 'db1', 'disks': disks}
    prepared = stage.run_module('snapshot_step', task)
    say(prepared['command'], 'abandon')
    # nobody knows whether the array has it, before a play has asked it to remove that
    asked = {'name': 'db1', 'snapshot_name': 'asked', 'group': 'asked'}
    for step in ('removed', 'abandon'):
        stage.run_module('snapshot_step', {**asked, 'step': step})
    [group] = fleet_array({'hv1': prepared})
    assert [disk['target'] for disk in group['volumes'][0]['disks']] == ['vdb']
    return {
        'group': group,
        'fleet_snapshot_name': 'nightly',
        'fleet_snapshot_array_group': 'databases',
        'fleet_snapshot_array_volumes': [{'volume': {'volume': 'db1_log', 'image': 'db1.raw'}}],
        'fleet_snapshot_array_result': [],
    }


def _an_array(stage: Stage, directory: Path) -> Variables:
    """Tasks that have btrfs do what an array does: a clone of the image is the snapshot."""
    image = stage.guests['db1'].disks['vdb'].image
    clone = {'ansible.builtin.command': {'argv': ['cp', '--reflink=always', image, f'{image}.clone']}}
    said = {'fleet_snapshot_array_result': "{{ [{'path': '" + f'{image}.clone' + "'}] }}"}
    tasks = {
        'create': [{'name': 'Take it', 'ansible.builtin.import_tasks': 'take.yml'}],
        'remove': [{'name': 'Remove it', 'ansible.builtin.import_tasks': 'let_go.yml'}],
        'take': [{'name': 'Clone', **clone}, {'name': 'Say where', 'ansible.builtin.set_fact': said}],
        'let_go': [{'name': 'Remove', 'ansible.builtin.file': {'path': f'{image}.clone', 'state': 'absent'}}],
        'revert': [{'name': 'Fail', 'ansible.builtin.fail': {'msg': 'nobody asked for it'}}],
    }
    (directory / 'array').mkdir()
    for name, of_file in tasks.items():
        (directory / 'array' / f'{name}.yml').write_text(json.dumps(of_file), encoding='utf-8')
    return {}


# -- what is there afterwards -------------------------------------------------------------------------------------


def _orphan_gone(stage: Stage, directory: Path) -> None:
    (stage.images / 'old.qcow2').unlink()


def _one_layer(guest: str, *targets: str) -> Callable[[Stage, Path], None]:
    def after(stage: Stage, directory: Path) -> None:
        for target in targets:
            assert len(chain(stage.guests[guest], target)) == 1

    return after


def _copies(stage: Stage, directory: Path) -> None:
    acked = json.loads((directory / 'acked.json').read_text(encoding='utf-8'))
    copies = sorted(directory.glob('*.qcow2'))
    assert copies
    for copy in copies:
        stage.judge(copy, acked['vdb' if copy.name.endswith('vdb.qcow2') else 'vda'])


def _abandoned(name: str, group: str, *guests: str) -> Callable[[Stage, Path], None]:
    def after(stage: Stage, directory: Path) -> None:
        domains = [{'name': guest} for guest in guests]
        task = {'step': 'abandon', 'snapshot_name': name, 'group': group, 'domains': domains}
        assert stage.run_module('snapshot_step', task)['changed']

    return after


def _array_has_let_go(stage: Stage, directory: Path) -> None:
    db1 = stage.guests['db1']
    clone = Path(f'{db1.disks["vdb"].image}.clone')
    assert clone.exists()
    lines = yaml.safe_load((directory / 'play.yml').read_text(encoding='utf-8'))
    of_role = lines[0]['roles'][0]['vars']
    of_role['fleet_snapshot_state'] = 'absent'
    # ansible-core 2.16 tells a variable of the inventory from one of the play
    known = {**stage.host, 'fleet_snapshot_array_tasks': of_role.pop('fleet_snapshot_array_tasks')}
    inventory = directory / 'array.json'
    inventory.write_text(json.dumps({'hypervisors': {'hosts': {'hv1': known}}}), encoding='utf-8')
    (directory / 'absent.yml').write_text(json.dumps(lines), encoding='utf-8')
    stage.ansible(directory, directory / 'absent.yml', {}, [inventory])
    assert not clone.exists()
    _one_layer('db1', 'vda', 'vdb')(stage, directory)


SCENES = [
    Scene(
        'a snapshot, looked at and let go',
        (
            'disk_snapshot: Take a snapshot of all disks of a guest, its file systems frozen for the moment',
            'disk_snapshot: Show what a backup can read now',
            'disk_snapshot: Let the snapshot go; what the guest wrote since stays',
        ),
        after=_one_layer('db1', 'vda', 'vdb'),
    ),
    Scene(
        'two guests as a group, and looked at',
        (
            'disk_snapshot: Take two guests as one group, of one of them a single disk',
            'disk_snapshot_info: Look at the whole host',
            'disk_snapshot_info: Show what is wrong there',
            'audit_problems: Show what is wrong on this host',
            'fleet_report: Look at the host',
            'fleet_report: Say what a report would show first',
            'disk_snapshot_info: Look at two guests',
            'disk_snapshot_info: Name their snapshots that are older than this month',
        ),
        before=_an_orphan,
        after=_orphan_gone,
    ),
    Scene(
        'merge a snapshot away',
        ('snapshot_merge: Merge a snapshot away while the guest runs',),
        before=_nightly('db1'),
        after=_one_layer('db1', 'vda', 'vdb'),
    ),
    Scene(
        'merge two guests in two tasks',
        (
            'snapshot_merge: Start the merge of two domains, and finish it in another task',
            'snapshot_merge: Finish it, however often it takes',
        ),
        before=_nightly('app1', 'db1'),
        after=_one_layer('app1', 'vda'),
    ),
    Scene(
        'merge the chain of something else',
        ('snapshot_merge: Merge a chain that something else made',),
        before=_foreign_chain,
        after=_one_layer('db1', 'vda'),
    ),
    Scene(
        'leave the template',
        ('snapshot_merge: Make a disk independent of a shared template',),
        after=_one_layer('web1', 'vda'),
    ),
    Scene('end a merge', ('snapshot_merge: End whatever merge runs on one disk',), before=_a_slow_merge),
    Scene(
        'the steps of a fleet',
        (
            'fleet_check: Look whether all hosts can go side by side',
            'snapshot_step: Get everything ready, on all hosts of the play',
            'fleet_verdict: Whether all hosts are ready',
            'fleet_array: What the arrays are to be asked for',
            'fleet_domains: All but those for trying things out',
            'fleet_list: Two names',
            'fleet_list: Two disks',
        ),
        after=_abandoned('nightly', '2026-03-01-nightly', 'app1', 'db1'),
    ),
    Scene(
        'freeze and thaw',
        (
            'storage_quiesce: Freeze two guests',
            'storage_quiesce: Thaw them, and hear whether they were frozen all the while',
        ),
    ),
    Scene(
        'what an array returned',
        (
            'fleet_identities: Whose they are',
            'guide_method_array: Say where they can be read',
            'guide_method_array: Say what they are called',
        ),
        before=_answers_of_an_array,
    ),
    Scene(
        'keep some',
        (
            'fleet_prune: Look at the host',
            'fleet_prune: Show what would go',
            'fleet_pruned: Name what is gone',
            'snapshots_to_remove: Look at one guest',
            'snapshots_to_remove: Name what a week of days and a month of weeks would not keep',
            'snapshots_to_remove: Say by which rule each of the others is kept',
            'guide_retention: Look at one guest',
            'guide_retention: Remove what is too old',
        ),
        before=_three_of_today,
    ),
    Scene('the backup of the README', ('README: Back up a guest while it runs',), before=_acked, after=_copies),
    Scene(
        'the fleet of the README',
        ('README: Snapshot all running guests of all hypervisors at one instant, and keep a week of it',),
    ),
    Scene('the quick start', ('guide_quick_start: Snapshot, back up and merge',), before=_acked, after=_copies),
    Scene(
        'the role, with some disks of a guest',
        (
            'role fleet_snapshot: Snapshot all running guests of all hypervisors, but for the scratch machines',
            'role fleet_snapshot: fleet_snapshot_disks',
        ),
    ),
    Scene(
        'a playbook of ours, imported',
        ('guide_awx: Snapshot the guests',),
        before=lambda stage, directory: {'fleet_snapshot_name': 'job', 'fleet_snapshot_domains': 'db1, web1'},
    ),
    Scene('what a job leaves', ('guide_awx: Copy what stands still now',), before=_for_a_job, after=_copies),
    Scene('btrfs', ("guide_method_btrfs: Snapshot a database's disks",)),
    Scene('reflink', ("guide_method_reflink: Snapshot a guest's disk",)),
    Scene(
        'a disk on an array',
        ('guide_method_array: Snapshot a database whose log is on an array',),
        before=_an_array,
        after=_array_has_let_go,
    ),
    *INTEROPERATION,
]

# LVM needs device-mapper, which only a kernel of one's own has: tests/hypervisor/test_examples.py runs these
ON_HYPERVISOR = (
    'disk_snapshot: Take each disk as it suits its storage',
    'disk_snapshot: Go back to it; the guest is stopped and started',
    "guide_method_lvm: Snapshot a database's disks",
    'guide_method_lvm: disks',
    'guide_methods: One instant over three kinds of storage',
)

# tests of their own run these, with the script that stands beside them: tests/live/test_guide_virsh.py
BESIDE_A_SCRIPT = (
    'guide_virsh: Back up a guest while it runs',
    'guide_virsh: Merge the overlays that the old script has left',
    'guide_virsh: Merge whatever stands over the image',
)

# not run, with the reason; the syntax and the options of the tasks are checked all the same
NOT_RUN = {
    'guide_awx: Have a job template for snapshots': 'it asks an AWX',
    'guide_awx: version': 'it takes an image from a registry; tests/unit/docs has ansible-builder read it',
    'guide_execution_environment: dependencies': 'it is of ansible-builder; tests/ee has that read the one in docs/ee',
    'guide_execution_environment: Snapshot a guest, with nothing on the hypervisor but libvirtd and sshd': 'it goes '
    'by ssh to other hosts; tests/ee and tests/fleet/test_from_outside.py run plays like it',
    'guide_fleet: Snapshot the guests of hypervisors from outside': 'it goes by ssh to other hosts, with a key of '
    'root; tests/fleet/test_from_outside.py runs a play like it',
    'guide_method_array: Snapshot the volumes': 'it asks a storage array of NetApp',
    'guide_method_array: Take the volumes back': 'it asks a storage array of NetApp',
    'guide_method_array: Snapshot the protection group': 'it asks a storage array of Pure Storage',
    'guide_method_array: Take the volumes back (2)': 'it asks a storage array of Pure Storage',
}
