# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the method lvm refuses: one sentence, nothing changed, nothing left; and a snapshot that overflows."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.tests.hypervisor.harness import RemoteRunner
from disksnap_lab.hypervisor import Hypervisor

# each module call takes half a minute where all cores are busy
pytestmark = pytest.mark.timeout(3600)

LVM = {'method': 'lvm'}
LONG = 'x' * 64

# what the task says of a disk of the guest that is shut off, or of the one that runs; and a word of the answer
BAD: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    (
        'spare',
        {'target': 'vda', 'device': '/dev/vg0/nowhere', **LVM},
        {},
        'there is no logical volume /dev/vg0/nowhere',
    ),
    ('spare', {'target': 'vda', 'device': '/dev/vda', **LVM}, {}, '/dev/vda is not a logical volume'),
    ('spare', {'target': 'vda', 'device': '/dev/vg1/other', **LVM}, {}, 'not on /dev/vg1/other, but on /dev/vg0/spare'),
    ('spare', {'target': 'vda'}, {'snapshot_name': 'taken'}, 'there is a logical volume /dev/vg0/spare.taken already'),
    ('spare', {'target': 'vdb', **LVM}, {}, 'which is on no logical volume'),
    ('inner', {'target': 'vdc', 'size': '1G', **LVM}, {}, 'is a thin volume'),
    ('inner', {'target': 'vdf', **LVM}, {}, 'Name with device the one that holds it: /dev/vg0/images'),
]


def state(hv: Hypervisor) -> str:
    """All that a task could have changed."""
    lvs = ['lvs', '-a', '--noheadings', '-o', 'lv_name,lv_size,lv_tags,origin,lv_permissions']
    journals = [
        hv.run(['virsh', 'metadata', name, 'urn:disksnap:libvirt:journal:1'], check=False).stdout
        for name in ('inner', 'spare')
    ]
    return hv.run(lvs).stdout + ''.join(journals)


def test_refused(hv: Hypervisor, run_module: RemoteRunner) -> None:
    hv.run(['lvcreate', '-q', '-y', '-L', '4M', '-n', 'spare.taken', 'vg0'])
    before = state(hv)
    wrong = []
    for name, disk, more, words in BAD:
        task = {'name': name, 'snapshot_name': 's1', 'disks': [disk], **more}
        said = run_module.fails('disk_snapshot', task, timeout=600)['msg']
        if words not in said:
            wrong.append((words, said))
    assert wrong == []
    assert state(hv) == before


def test_refused_for_want_of_room(hv: Hypervisor, run_module: RemoteRunner) -> None:
    """Each would fit, both do not; and nothing fits in a group that is full."""
    hv.run(['lvcreate', '-q', '-y', '-l', '100%FREE', '-n', 'filler', 'vg0'])
    task: dict[str, Any] = {'name': 'spare', 'snapshot_name': 's1', 'disks': [{'target': 'vda'}]}
    before = state(hv)

    said = run_module.fails('disk_snapshot', task, check=True, timeout=600)['msg']

    assert 'the volume group vg0 has 0 bytes free, and 28 MiB of copy-on-write space are needed' in said
    assert state(hv) == before
    hv.run(['lvreduce', '-q', '-f', '-y', '-L', '-60M', 'vg0/filler'])
    two = [
        {'target': 'vdb', 'size': '40M', **LVM},
        {'target': 'vdf', 'device': '/dev/vg0/images', 'size': '40M', **LVM},
    ]
    both = {'name': 'inner', 'snapshot_name': 's1', 'disks': two}
    assert '80 MiB' in run_module.fails('disk_snapshot', both, check=True, timeout=600)['msg']


def test_without_lvm(hv: Hypervisor, run_module: RemoteRunner) -> None:
    hv.run(['mv', '/sbin/lvs', '/sbin/lvs.away'])
    task = {'name': 'spare', 'snapshot_name': 's1', 'disks': [{'target': 'vda', **LVM}]}
    said = run_module.fails('disk_snapshot', task, timeout=600)['msg']
    assert 'lvs is not installed on the hypervisor' in said


def test_overflow(hv: Hypervisor, run_module: RemoteRunner) -> None:
    task: dict[str, Any] = {'name': 'spare', 'snapshot_name': 's1', 'disks': [{'target': 'vda', 'size': '4M', **LVM}]}
    run_module('disk_snapshot', task, timeout=600)
    hv.run(['dd', 'if=/dev/urandom', 'of=/dev/vg0/spare', 'bs=1M', 'count=12', 'seek=60', 'oflag=direct'])
    words = 'the snapshot LV /dev/vg0/spare.s1 has overflowed its 4 MiB (4194304 bytes) of copy-on-write space'

    for wanted in (task, {**task, 'state': 'reverted'}):
        assert words in run_module.fails('disk_snapshot', wanted, timeout=600)['msg']
    merge = {'name': 'spare', 'snapshot_name': 'another'}
    assert any(words in warning for warning in run_module('snapshot_merge', merge, timeout=600)['warnings'])
    freeze = {'name': 'spare', 'state': 'quiesced', 'quiesce': 'preferred'}
    assert any(words in warning for warning in run_module('storage_quiesce', freeze, timeout=600)['warnings'])

    removed = run_module('disk_snapshot', {**task, 'state': 'absent'}, timeout=600)
    assert removed['changed'] is True
    assert 'spare.s1' not in hv.run(['lvs', '-a']).stdout


@pytest.mark.parametrize('length', [64])
def test_a_name_too_long_for_the_device_mapper(hv: Hypervisor, run_module: RemoteRunner, length: int) -> None:
    """lvcreate itself would leave such a one half made."""
    name = 'x' * length
    hv.run(['lvrename', 'vg0', 'spare', name])
    xml = hv.run(['virsh', 'dumpxml', 'spare', '--inactive']).stdout.replace('/dev/vg0/spare', f'/dev/vg0/{name}')
    hv.run(['sh', '-c', f'cat > /root/xml <<EOF\n{xml}\nEOF'])
    hv.run(['virsh', 'define', '/root/xml'])
    before = state(hv)

    task = {'name': 'spare', 'snapshot_name': LONG[:60], 'disks': [{'target': 'vda', **LVM}]}
    said = run_module.fails('disk_snapshot', task, timeout=600)['msg']

    assert 'which must not be longer than 122 characters' in said
    assert state(hv) == before
