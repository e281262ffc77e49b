# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""disk_snapshot_info where others are at work, guests among them: copies, backups, headers, disks attached for a time.

And what a look at a host costs in calls.
"""

from __future__ import annotations

import collections
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ansible
import libvirt
import pytest
from lxml import etree

from ansible_collections.disksnap.libvirt.tests.live.harness import COLLECTIONS, ROOT, Guests, Runner, chain, until
from ansible_collections.disksnap.libvirt.tests.live.test_info import define, qemu_img, told
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab

QUIET: dict[str, Any] = {'writer': 'none', 'agent': 'none'}
SHIM = ROOT / 'tests' / 'sweep' / 'shim'


@pytest.fixture(scope='module')
def running(shared: Guests) -> Guest:
    """A guest that runs, with a qcow2 disk, and one that its lab exports."""
    return shared(
        GuestSpec('others', disks=[DiskSpec(fs='none'), DiskSpec(fs='none', kind='network', format='raw')], **QUIET)
    )


def codes(run_module: Runner, guest: Guest) -> list[tuple[str, str | None, str | None]]:
    """Code, disk and path of each problem of a domain."""
    return [(one['code'], one['disk'], one['path']) for one in told(run_module, guest)['problems']]


def test_the_target_of_a_shallow_copy_is_no_orphan(running: Guest, run_module: Runner) -> None:
    """virsh blockcopy --shallow, into an overlay over the same base."""
    task = {'name': running.name, 'snapshot_name': 's1', 'disks': [{'target': 'vda'}], 'quiesce': 'none'}
    run_module('disk_snapshot', task)
    copy = f'{running.images}/copy.qcow2'
    target = f'<disk type="file"><driver type="qcow2"/><source file="{copy}"/></disk>'
    flags = libvirt.VIR_DOMAIN_BLOCK_COPY_SHALLOW | libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
    running.domain.blockCopy('vda', target, {}, flags)
    assert [code for code, _disk, _path in codes(run_module, running)] == ['unfinished_job']
    running.domain.blockJobAbort('vda', 0)
    until('the job has ended', lambda: not running.domain.blockJobInfo('vda', 0))
    assert codes(run_module, running) == [('orphaned_overlay', None, copy)]
    Path(copy).unlink()
    run_module('disk_snapshot', {**task, 'state': 'absent'} | {'quiesce': 'none'})
    assert codes(run_module, running) == []


def test_what_a_backup_writes_to_is_no_orphan(running: Guest, run_module: Runner) -> None:
    """A backup in pull mode keeps what the guest overwrites in an overlay."""
    scratch, socket = running.images / 'scratch.qcow2', running.images / 'nbd'
    running.domain.backupBegin(
        f'<domainbackup mode="pull"><server transport="unix" socket="{socket}"/><disks>'
        f'<disk name="vda" backup="yes" type="file"><scratch file="{scratch}"/></disk>'
        '<disk name="vdb" backup="no"/></disks></domainbackup>',
        None,
    )
    try:
        assert scratch.exists()
        assert codes(run_module, running) == []
    finally:
        running.domain.abortJob()
    until('the backup has ended', lambda: running.domain.jobInfo()[0] == libvirt.VIR_DOMAIN_JOB_NONE)
    left = [('orphaned_overlay', None, str(scratch))] if scratch.exists() else []
    assert codes(run_module, running) == left
    scratch.unlink(missing_ok=True)


def test_definitions_with_other_disks_and_formats(running: Guest, run_module: Runner) -> None:
    extra = running.images / 'extra.qcow2'
    qemu_img('create', '-q', '-f', 'qcow2', str(extra), '1M')
    xml = (
        f'<disk type="file" device="disk"><driver name="qemu" type="qcow2"/><source file="{extra}"/>'
        '<target dev="vdx" bus="virtio"/></disk>'
    )
    as_it_was = running.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    running.domain.attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    assert codes(run_module, running) == [('definitions_differ', 'vdx', str(extra))]
    root: Any = etree.fromstring(as_it_was)
    root.find('devices/disk/driver').set('type', 'raw')
    running.lab.connection.defineXML(etree.tostring(root, encoding='unicode'))
    image = chain(running, 'vda')[0]
    assert codes(run_module, running) == [('image_format', 'vda', image), ('definitions_differ', 'vda', image)]
    running.lab.connection.defineXML(as_it_was)
    extra.unlink()
    assert codes(run_module, running) == []


def test_sizes_of_a_disk_in_the_network(running: Guest, run_module: Runner) -> None:
    [layer] = told(run_module, running)['disks'][1]['chain']
    assert layer['capacity'] == running.domain.blockInfo('vdb')[0] > 0
    assert layer['allocation'] is not None


def test_a_header_that_a_guest_wrote(guest: Guests, run_module: Runner) -> None:
    """It names an image of another guest: that counts for nothing, and nobody is told to believe it."""
    specs = [DiskSpec(fs='none', format=kind, size_mib=16) for kind in ('raw', 'qcow2')]
    evil, other = (
        guest(GuestSpec(name, disks=[spec], state='shutoff')) for name, spec in zip(('evil', 'other'), specs)
    )
    base = chain(other, 'vda')[0]
    run_module('disk_snapshot', {'name': other.name, 'snapshot_name': 's1'})
    raw = chain(evil, 'vda')[0]
    qemu_img('create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', base, f'{raw}.forged', '1G')
    qemu_img('snapshot', '-c', 'forged', f'{raw}.forged')
    with open(raw, 'r+b') as disk, open(f'{raw}.forged', 'rb') as forged:
        shutil.copyfileobj(forged, disk)
    Path(f'{raw}.forged').unlink()
    domain = told(run_module, evil)
    [problem] = domain['problems']
    assert (problem['code'], problem['path']) == ('image_format', raw)
    assert 'Leave the type as it is' in problem['remedy']
    assert domain['snapshots'] == []
    [layer] = domain['disks'][0]['chain']
    assert (layer['path'], layer['format']) == (raw, 'raw')
    domain = told(run_module, other)
    assert domain['problems'] == []
    assert domain['snapshots'][0]['needed_by'] == []
    # who changes the type all the same sees what QEMU will open
    define(evil, 'vda', raw, 'qcow2')
    assert [layer['path'] for layer in told(run_module, evil)['disks'][0]['chain']] == [raw, base]


# -- calls ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[True, False], ids=['with-a-pool', 'without'])
def place(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Path]:
    """A directory for images that is a storage pool, or none."""
    directory = lab.paths.images / 'calls'
    directory.mkdir()
    if request.param:
        lab.pool('calls', directory)
    yield directory
    if request.param:
        lab.remove_pool('calls')
    shutil.rmtree(directory)


def calls(run_module: Runner, tmp_path: Path) -> collections.Counter[str]:
    """The calls to libvirt that a look at the whole host makes, by the name of the function."""
    log = tmp_path / 'calls'
    log.unlink(missing_ok=True)
    path = (SHIM, COLLECTIONS, Path(ansible.__file__).parents[1])
    run_module('disk_snapshot_info', {}, path=path, more={'CRASH_POINT_LOG': str(log)})
    return collections.Counter(log.read_text('ascii').split())


def test_calls_grow_by_domain_and_not_by_disk(
    place: Path, running: Guest, guest: Guests, run_module: Runner, tmp_path: Path
) -> None:
    """A snapshot, a disk, a file in the pool: none costs a call. A disk of a guest that runs does, on an overlay."""
    of_one = GuestSpec('calls0', disks=[DiskSpec(fs='none')], directory=place, state='shutoff')
    guest(of_one)
    before = calls(run_module, tmp_path)
    for number in (1, 2, 3):
        disks = [DiskSpec(fs='none')] * number
        guest(GuestSpec(f'calls{number}', disks=disks, directory=place, state='shutoff'))
    more = calls(run_module, tmp_path)
    assert more - before == {'virDomainGetXMLDesc': 3}
    run_module(
        'disk_snapshot', {'domains': [{'name': f'calls{number}'} for number in (1, 2, 3)], 'snapshot_name': 's1'}
    )
    assert calls(run_module, tmp_path) == more
    task = {'name': running.name, 'snapshot_name': 's1', 'disks': [{'target': 'vda'}], 'quiesce': 'none'}
    run_module('disk_snapshot', task)
    assert calls(run_module, tmp_path) - more == {'virDomainGetBlockJobInfo': 1}
    run_module('disk_snapshot', {**task, 'state': 'absent'})
