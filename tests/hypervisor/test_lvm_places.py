# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The method lvm on a disk in an unusual place: a partition of an LV, a qcow2 image on one, a volume by its pool's
name, and an LV of a volume group that no pool has. Each is the disk vdg, which the guest gets while it runs.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from ansible_collections.disksnap.libvirt.tests.hypervisor.harness import RemoteRunner
from ansible_collections.disksnap.libvirt.tests.hypervisor.lvm import (
    FRESH,
    Patient,
    denials,
    disks_of,
    judge,
    task,
    volumes,
)
from disksnap_lab.errors import LabError
from disksnap_lab.hypervisor import Hypervisor, HypervisorGuest
from disksnap_lab.hypervisor_state import SPARE_RECORDS
from disksnap_lab.waiting import wait_for

# each module call takes half a minute where all cores are busy
pytestmark = pytest.mark.timeout(3600)

SPARE = '/dev/vg0/spare'  # 128 MiB, with the log of a guest that was shut off
MIB = 1024**2
FILLED = 4 * MIB
LEAKS = 3  # what qemu-img check says of clusters that nothing refers to yet, and that are harmless
# the churn of the qcow2 image, which goes on while it is copied, is beyond the file system
QCOW2_SIZE, CHURN_FROM, CHURN_CLUSTERS = 192 * MIB, 2048, 1000


@pytest.fixture(name='run_module')
def patient_run_module(run_module: RemoteRunner) -> Patient:
    return Patient(run_module)


def attach(hv: Hypervisor, scratch: Path, kind: str, source: str, fmt: str = 'raw') -> None:
    """Give the guest that runs one more disk, vdg, for now and for later."""
    xml = f"<disk type='{kind}' device='disk'><driver name='qemu' type='{fmt}' cache='none'/><source {source}/>"
    local = scratch / 'disk.xml'
    local.write_text(f"{xml}<target dev='vdg' bus='virtio'/></disk>", encoding='utf-8')
    hv.put(local, '/root/disk.xml')
    hv.run(['virsh', '-q', 'attach-device', 'inner', '/root/disk.xml', '--persistent'])


def start_in(guest: HypervisorGuest, script: str) -> int:
    """Start a shell script in the guest, once the guest has found its new disk; its process id."""
    waiting = f'until [ -b /dev/vdg ]; do sleep 0.2; done; {script}'
    started = guest.agent_command('guest-exec', path='/bin/busybox', arg=['sh', '-c', waiting])
    return int(started['pid'])


def fill(guest: HypervisorGuest, word: str) -> None:
    """Have the guest write a word all over the beginning of vdg."""
    pid = start_in(guest, f'yes {word} | head -c {FILLED} | dd of=/dev/vdg bs=64k conv=fsync')

    def ended() -> Any:
        try:
            status = guest.agent_command('guest-exec-status', pid=pid)
        except LabError:  # a guest that is kept waiting for a processor loses its agent for a moment
            return None
        return status if status['exited'] else None

    assert wait_for('end of a program in the guest', ended, 120, 1)['exitcode'] == 0


def filled(hv: Hypervisor, path: str, word: str) -> bool:
    """Whether a device begins with what ``fill`` wrote."""
    compare = f'yes {word} | head -c {FILLED} | cmp -n {FILLED} - {path}'
    return hv.run(['sh', '-c', compare], check=False).returncode == 0


def map_partition(hv: Hypervisor, name: str, of: str) -> str:
    """Map the first partition of a device, as kpartx would; the path of the mapping."""
    first, sectors = hv.run(['partx', '-g', '-b', '-o', 'START,SECTORS', of]).stdout.split()
    mode = hv.run(['blockdev', '--getro', of]).stdout.strip()
    flags = ['--readonly'] if mode == '1' else []
    hv.run(['dmsetup', 'create', name, *flags, '--table', f'0 {sectors} linear {of} {first}'])
    return f'/dev/mapper/{name}'


def test_a_partition_of_a_volume(hv: Hypervisor, inner: HypervisorGuest, run_module: Patient, tmp_path: Path) -> None:
    hv.run(['lvcreate', '-q', '-y', '-L', '132M', '-n', 'parted', 'vg0'])
    table = tmp_path / 'table'
    linux = struct.pack('<B3xB3xII', 0, 0x83, 2048, 128 * MIB // 512)
    table.write_bytes(bytes(446) + linux + bytes(48) + b'\x55\xaa')
    hv.put(table, '/root/table')
    hv.run(['dd', 'if=/root/table', 'of=/dev/vg0/parted', 'conv=fsync'])
    partition = map_partition(hv, 'vg0-parted1', '/dev/vg0/parted')
    hv.run(['dd', f'if={SPARE}', f'of={partition}', 'bs=1M', 'conv=fsync'])
    attach(hv, tmp_path, 'block', f"dev='{partition}'")

    wanted = task({'target': 'vdg', 'method': 'lvm'})
    refused = run_module.fails('disk_snapshot', wanted)
    assert f'its image is a device ({partition}), and not itself a logical volume' in refused['msg']
    assert 'Name with device the one that holds it: /dev/vg0/parted.' in refused['msg']
    wanted = task({'target': 'vdg', 'method': 'lvm', 'device': '/dev/vg0/parted'}, quiesce='required')
    disk = disks_of(run_module('disk_snapshot', wanted))['vdg']
    fill(inner, 'later')

    source = disk['backup_source']
    assert (source['type'], source['path'], source['format']) == ('block', '/dev/vg0/parted-inner.s1', 'raw')
    assert disk['modified_disk'] is None
    assert volumes(hv)['parted-inner.s1'] == 'sri-a-s---'
    assert filled(hv, partition, 'later')
    copy = map_partition(hv, 'copy1', source['path'])
    judge(hv, copy, tmp_path, SPARE_RECORDS)

    hv.run(['dmsetup', 'remove', 'copy1'])
    run_module('disk_snapshot', {**wanted, 'state': 'absent'})
    assert set(volumes(hv)) == FRESH | {'parted'}
    assert filled(hv, partition, 'later')
    assert denials(hv) == []


def test_a_qcow2_image_on_a_volume(hv: Hypervisor, inner: HypervisorGuest, run_module: Patient, tmp_path: Path) -> None:
    """The guest has it allocate clusters all the time, on a disk that no freeze of a file system keeps still."""
    hv.run(['lvcreate', '-q', '-y', '-L', '256M', '-n', 'qcow', 'vg0'])
    hv.run(['qemu-img', 'create', '-q', '-f', 'qcow2', '/dev/vg0/qcow', str(QCOW2_SIZE)])
    hv.run(['qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'qcow2', SPARE, '/dev/vg0/qcow'])
    attach(hv, tmp_path, 'block', "dev='/dev/vg0/qcow'", 'qcow2')
    cluster = f'$(({CHURN_FROM}+i%{CHURN_CLUSTERS}))'
    write = f'dd if=/dev/urandom of=/dev/vdg bs=64k count=1 seek={cluster} conv=fsync'
    start_in(inner, f'i=0; while :; do i=$((i+1)); {write}; done')

    disk = disks_of(run_module('disk_snapshot', task({'target': 'vdg', 'size': '64M'}, quiesce='required')))['vdg']

    source = disk['backup_source']
    assert (disk['method'], disk['modified_disk']) == ('lvm', None)
    assert (source['type'], source['path'], source['format']) == ('block', '/dev/vg0/qcow.s1', 'qcow2')
    checked = hv.run(['qemu-img', 'check', '-f', 'qcow2', source['path']], check=False)
    assert checked.returncode in (0, LEAKS), checked.stdout
    hv.run(['qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', source['path'], '/srv/images/copy.raw'])
    judge(hv, '/srv/images/copy.raw', tmp_path, SPARE_RECORDS)
    run_module('disk_snapshot', task('vdg', state='absent'))
    assert set(volumes(hv)) == FRESH | {'qcow'}
    assert denials(hv) == []


def test_a_qcow2_image_on_a_volume_whose_copy_would_need_repair(
    hv: Hypervisor, run_module: Patient, tmp_path: Path
) -> None:
    """QEMU died while it had the image open, so that it is dirty; the guest is shut off."""
    hv.run(['lvcreate', '-q', '-y', '-L', '64M', '-n', 'lazy', 'vg0'])
    hv.run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-o', 'lazy_refcounts=on', '/dev/vg0/lazy', '32M'])
    hv.run(['qemu-io', '-f', 'qcow2', '-c', 'write 0 1M', '-c', 'flush', '-c', 'abort', '/dev/vg0/lazy'], check=False)
    definition = hv.guest('spare').xml(inactive=True)
    [disk] = definition.xpath("devices/disk[target/@dev='vda']")
    disk.find('source').set('dev', '/dev/vg0/lazy')
    disk.find('driver').set('type', 'qcow2')
    local = tmp_path / 'spare.xml'
    local.write_bytes(etree.tostring(definition))
    hv.put(local, '/root/spare.xml')
    hv.run(['virsh', '-q', 'define', '/root/spare.xml'])

    wanted = {'name': 'spare', 'snapshot_name': 's1', 'disks': [{'target': 'vda', 'method': 'lvm'}]}
    refused = run_module.fails('disk_snapshot', wanted)

    assert '(domain spare, disk vda): /dev/vg0/lazy has lazy_refcounts on' in refused['msg']
    assert 'qemu-img amend -o lazy_refcounts=off /dev/vg0/lazy' in refused['msg']
    assert set(volumes(hv)) == FRESH | {'lazy'}


def test_a_volume_by_the_name_of_its_pool(
    hv: Hypervisor, inner: HypervisorGuest, run_module: Patient, tmp_path: Path
) -> None:
    hv.run(['virsh', '-q', 'vol-create-as', 'vg0', 'named', '64M'])
    attach(hv, tmp_path, 'volume', "pool='vg0' volume='named'")
    fill(inner, 'before')

    disk = disks_of(run_module('disk_snapshot', task('vdg', quiesce='required')))['vdg']
    fill(inner, 'later')

    source = disk['backup_source']
    assert (disk['method'], disk['reason']) == ('lvm', 'auto: its image is a logical volume of the pool vg0')
    assert (source['type'], source['path'], source['format']) == ('block', '/dev/vg0/named.s1', 'raw')
    assert (source['pool'], source['volume']) == ('vg0', 'named.s1')
    assert disk['modified_disk'] is None
    assert filled(hv, '/dev/vg0/named', 'later')
    assert filled(hv, '/dev/vg0/named.s1', 'before')

    hv.run(['virsh', 'destroy', 'inner'])
    run_module('disk_snapshot', task('vdg', state='reverted'))
    assert filled(hv, '/dev/vg0/named', 'before')
    assert filled(hv, '/dev/vg0/named.s1', 'before')
    run_module('disk_snapshot', task('vdg', state='absent'))
    assert set(volumes(hv)) == FRESH | {'named'}
    assert denials(hv) == []


def test_a_volume_group_that_no_pool_has(
    hv: Hypervisor, inner: HypervisorGuest, run_module: Patient, tmp_path: Path
) -> None:
    """The first snapshot there ever. libvirt is asked for nothing, and gets no pool for it."""
    pools = hv.run(['virsh', 'pool-list', '--all', '--name']).stdout
    assert 'vg1' not in pools
    attach(hv, tmp_path, 'block', "dev='/dev/vg1/other'")
    fill(inner, 'before')

    disk = disks_of(run_module('disk_snapshot', task({'target': 'vdg', 'method': 'lvm'}, quiesce='required')))['vdg']
    fill(inner, 'later')

    source = disk['backup_source']
    assert (source['type'], source['path'], source['format']) == ('block', '/dev/vg1/other.s1', 'raw')
    assert (source['pool'], source['volume']) == (None, None)
    assert volumes(hv)['other.s1'] == 'sri-a-s---'
    assert filled(hv, '/dev/vg1/other', 'later')
    assert filled(hv, '/dev/vg1/other.s1', 'before')
    assert hv.run(['virsh', 'pool-list', '--all', '--name']).stdout == pools
    run_module('disk_snapshot', task('vdg', state='absent'))
    assert set(volumes(hv)) == FRESH
    assert filled(hv, '/dev/vg1/other', 'later')
    assert denials(hv) == []
