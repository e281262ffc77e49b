# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The examples of the documentation that need LVM, run as they stand there; the guest db1 is shut off.

The other examples run in tests/live/test_examples.py.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from lxml import etree

from ansible_collections.disksnap.libvirt.tests.live.examples import PART, examples
from ansible_collections.disksnap.libvirt.tests.live.harness import COLLECTIONS, ROOT
from ansible_collections.disksnap.libvirt.tests.live.scenes import ON_HYPERVISOR
from disksnap_lab.hypervisor import Hypervisor

pytestmark = pytest.mark.timeout(3600)

# target -> type and source of the disks that the examples name; that of vdc is the task's
DISKS = {
    'vda': ('file', '/var/lib/libvirt/images/spare-vdb.qcow2'),
    'vdb': ('block', '/dev/vg0/spare'),
    'vdf': ('file', '/srv/images/inner-vdf.img'),
}
ON_XFS = ('file', '/srv/xfs/inner-vde.img')
ON_BTRFS = ('file', '/srv/btrfs/guests/inner-vdd.img')


def define(hv: Hypervisor, scratch: Path, like: str, disks: dict[str, tuple[str, str]]) -> None:
    """Have db1 in the place of the guests that the hypervisor has, on disks of theirs."""
    for name in ('inner', 'spare', 'db1'):
        for command in ('destroy', 'undefine'):
            hv.run(['virsh', '-q', command, name], check=False)
    domain: Any = etree.fromstring(like.encode())
    domain.find('name').text = 'db1'
    domain.remove(domain.find('uuid'))
    devices = domain.find('devices')
    for disk in devices.findall('disk'):
        devices.remove(disk)
    for target, (kind, path) in sorted(disks.items()):
        disk = etree.SubElement(devices, 'disk', type=kind, device='disk')
        etree.SubElement(disk, 'driver', name='qemu', type='qcow2' if path.endswith('.qcow2') else 'raw')
        etree.SubElement(disk, 'source', {'dev' if kind == 'block' else 'file': path})
        etree.SubElement(disk, 'target', dev=target, bus='virtio')
    local = scratch / 'db1.xml'
    local.write_bytes(etree.tostring(domain))
    hv.put(local, '/root/db1.xml')
    hv.run(['virsh', '-q', 'define', '/root/db1.xml'])


def play(hv: Hypervisor, scratch: Path, *tasks: dict[str, Any]) -> None:
    """Run tasks on the hypervisor; each must change something."""
    one = {'name': 'Examples', 'hosts': 'hv1', 'gather_facts': False, 'tasks': list(tasks)}
    (scratch / 'play.yml').write_text(yaml.safe_dump([one], sort_keys=False), encoding='utf-8')
    inventory = scratch / 'inventory.json'
    inventory.write_text(json.dumps({'all': {'hosts': {'hv1': hv.inventory()}}}), encoding='utf-8')
    done = subprocess.run(
        [str(ROOT / '.venv' / 'bin' / 'ansible-playbook'), '-i', str(inventory), str(scratch / 'play.yml')],
        env={**os.environ, 'ANSIBLE_COLLECTIONS_PATH': str(COLLECTIONS), 'ANSIBLE_TIMEOUT': '60', 'LC_ALL': 'C.UTF-8'},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f'changed={len(tasks)} ' in done.stdout, done.stdout


def gone(name: str) -> dict[str, Any]:
    """The task that removes a snapshot again."""
    return {
        'name': f'Remove {name}',
        'disksnap.libvirt.disk_snapshot': {'name': 'db1', 'snapshot_name': name, 'state': 'absent'},
    }


def test_the_examples_that_need_lvm(hv: Hypervisor, tmp_path: Path) -> None:
    known = {key: examples()[key] for key in ON_HYPERVISOR}
    assert len(known) == 5, 'an example that needs LVM has no place here'
    each, back, guide, part, three = known.values()
    assert part.kind == PART
    whole = {'name': 'part', 'disksnap.libvirt.disk_snapshot': {'name': 'db1', 'snapshot_name': 'part', **part.body}}

    like = hv.run(['virsh', 'dumpxml', '--inactive', 'spare']).stdout
    define(hv, tmp_path, like, {**DISKS, 'vdc': ON_XFS})
    play(hv, tmp_path, each.body, back.body, gone('weekly'), guide.body, gone('nightly'), whole, gone('part'))
    define(hv, tmp_path, like, {**DISKS, 'vdc': ON_BTRFS})
    play(hv, tmp_path, three.body, gone('nightly'))
    left = {name.strip() for name in hv.run(['lvs', '--noheadings', '-o', 'lv_name', 'vg0']).stdout.split()}
    assert left == {'classic', 'images', 'spare', 'thin', 'tpool'}
