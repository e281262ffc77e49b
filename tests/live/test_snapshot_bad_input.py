# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""disk_snapshot on what it must refuse: one sentence that names the place, and nothing changed, in check mode too."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ansible
import pytest

from ansible_collections.disksnap.libvirt.tests.live.harness import (
    COLLECTIONS,
    Guests,
    Runner,
    chain,
    put_back,
    untouched,
)
from disksnap_lab import DeviceSpec, DiskSpec, Guest, GuestSpec, Lab, view

LUN = """
<disk type="block" device="lun"><driver name="qemu" type="raw"/><source dev="/dev/sdx"/>
<target dev="sdx" bus="scsi"/></disk>
"""
VHOST_USER = """
<disk type="vhostuser" device="disk"><driver name="qemu" type="raw"/><source type="unix" path="/run/vhost.sock"/>
<target dev="vdx" bus="virtio"/></disk>
"""
SHARED_MEMORY = '<memoryBacking><source type="memfd"/><access mode="shared"/></memoryBacking>'
PACKAGES = Path('/usr/lib/python3/dist-packages')


@pytest.fixture(scope='module')
def odd(shared: Guests, lab: Lab) -> Guest:
    """A guest that runs, with a plain disk and all that is no plain disk."""
    media = lab.paths.scratch / 'media.iso'
    media.write_bytes(bytes(1 << 20))
    disks = [
        DiskSpec(),
        DiskSpec(format='raw', fs='none', shareable=True, size_mib=8),
        DiskSpec(format='raw', fs='none', readonly=True, size_mib=8),
        DiskSpec(),
    ]
    devices = [DeviceSpec('cdrom', media), DeviceSpec('cdrom'), DeviceSpec('floppy')]
    return shared(GuestSpec('odd', disks=disks, devices=devices))


def refused(lab: Lab, guest: Guest, run_module: Runner, task: dict[str, Any], *words: str) -> dict[str, Any]:
    """The task must fail alike in check mode and in earnest, name these words, and change nothing."""
    wanted = {'name': guest.name, 'snapshot_name': 's1', **task}
    if 'domains' in task:
        del wanted['name']
    with untouched(lab, guest):
        predicted = run_module.fails('disk_snapshot', wanted, check=True)
        failure = run_module.fails('disk_snapshot', wanted)
    assert predicted['msg'] == failure['msg']
    for word in words:
        assert word in failure['msg']
    return failure


def as_xml(text: str) -> dict[str, Any]:
    """The disk vda with this method_xml."""
    return {'disks': [{'target': 'vda', 'method_xml': text}]}


BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    'no such domain': ({'name': 'nobody'}, ['domain nobody', 'there is no domain of this name']),
    'no such uuid': ({'name': '7f8c9bc5-4a2c-4f0a-9d40-1f4b0e0d0000'}, ['7f8c9bc5', 'No domain has this name']),
    'no such domain in a group': ({'domains': [{'name': 'odd'}, {'name': 'nobody'}]}, ['domain nobody']),
    'a domain twice': ({'domains': [{'name': 'odd'}, {'name': 'odd'}]}, ['domain odd', 'more than once']),
    'no domain': ({'domains': []}, ['domains is an empty list']),
    'no disk': ({'disks': []}, ['disks is an empty list']),
    'no such disk': ({'disks': [{'target': 'vdz'}]}, ['domain odd, disk vdz', 'vda, vdb, vdc, vdd']),
    'a disk twice': ({'disks': [{'target': 'vda'}, {'target': 'vda'}]}, ['domain odd, disk vda', 'more than once']),
    'a disk by two names': (
        {'disks': [{'target': 'vda'}, {'target': 'virtio-disk0'}]},
        ['domain odd, disk vda', 'more than once'],
    ),
    'no such pool': (
        {'disks': [{'target': 'vda', 'pool': 'nowhere'}]},
        ['storage pool nowhere', 'domain odd, disk vda'],
    ),
    'shareable disk': ({'disks': [{'target': 'vdb'}]}, ['domain odd, disk vdb', 'shareable']),
    'read-only disk': ({'disks': [{'target': 'vdc'}]}, ['domain odd, disk vdc', 'read-only']),
    'CD-ROM': ({'disks': [{'target': 'sda'}]}, ['domain odd, disk sda', 'CD-ROM']),
    'empty CD-ROM': ({'disks': [{'target': 'sdb'}]}, ['domain odd, disk sdb', 'CD-ROM']),
    'floppy': ({'disks': [{'target': 'fda'}]}, ['domain odd, disk fda', 'floppy']),
    'name with a slash': ({'snapshot_name': 'a/b'}, ["'a/b'", 'snapshot_name']),
    'name of dots': ({'snapshot_name': '..'}, ["'..'", 'snapshot_name']),
    'name too long': ({'snapshot_name': 'a' * 65}, ['snapshot_name', '1 to 64']),
    'empty name': ({'snapshot_name': ''}, ["''", 'snapshot_name']),
    'name with a newline': ({'snapshot_name': 'a\n'}, ['snapshot_name']),
    'name with a blank': ({'snapshot_name': 'a b'}, ['snapshot_name']),
    'name that is an option': ({'snapshot_name': '-f'}, ["'-f'", 'snapshot_name']),
    'file name too long': ({'disks': [{'target': 'vda', 'file': 'x' * 256}]}, ['vda', 'file']),
    'file in no directory': (
        {'disks': [{'target': 'vda', 'file': '/nonexistent/x.qcow2'}]},
        ['/nonexistent', 'domain odd, disk vda'],
    ),
    'relative file': ({'disks': [{'target': 'vda', 'file': 'a/b.qcow2'}]}, ['vda', 'a/b.qcow2']),
    'file that leads out': ({'disks': [{'target': 'vda', 'file': '/var/../etc/x'}]}, ['vda', '..']),
    'file is dots': ({'disks': [{'target': 'vda', 'file': '..'}]}, ['vda', '..']),
    'method lvm': ({'method': 'lvm'}, ['method lvm', 'Methods that can take it: qemu']),
    'method lvm of a disk': ({'disks': [{'target': 'vda', 'method': 'lvm', 'size': '1G'}]}, ['lvm', 'qemu']),
    'method btrfs': ({'method': 'btrfs'}, ['btrfs']),
    'method reflink': ({'method': 'reflink'}, ['reflink']),
    'option of another method': ({'disks': [{'target': 'vda', 'method': 'qemu', 'size': '1G'}]}, ['disk vda', 'size']),
    'XML that is none': ({'disks': [{'target': 'vda', 'method_xml': '<diskSnapshot'}]}, ['disk vda', 'method_xml']),
    'empty XML': ({'disks': [{'target': 'vda', 'method_xml': ''}]}, ['disk vda', 'method_xml']),
    'XML that does not fit': (
        {
            'disks': [
                {'target': 'vda', 'method_xml': '<diskSnapshot method="qemu"><device path="/dev/x"/></diskSnapshot>'}
            ]
        },
        ['disk vda', 'method_xml', 'device'],
    ),
    'XML of another root': ({'disks': [{'target': 'vda', 'method_xml': '<disk/>'}]}, ['disk vda', '<diskSnapshot>']),
    'XML with a DTD': (
        {'disks': [{'target': 'vda', 'method_xml': '<!DOCTYPE diskSnapshot><diskSnapshot method="qemu"/>'}]},
        ['disk vda', 'method_xml', 'DOCTYPE'],
    ),
    'XML with an entity': (
        {
            'disks': [
                {
                    'target': 'vda',
                    'method_xml': '<!DOCTYPE d [<!ENTITY e SYSTEM "file:///etc/hostname">]>'
                    '<diskSnapshot method="qemu"><target file="&e;"/></diskSnapshot>',
                }
            ]
        },
        ['disk vda', 'method_xml', 'DOCTYPE'],
    ),
    'XML of method lvm': (
        {
            'disks': [
                {'target': 'vda', 'method_xml': '<diskSnapshot method="lvm"><device path="/dev/vg/x"/></diskSnapshot>'}
            ]
        },
        ['method lvm', 'Methods that can take it: qemu'],
    ),
    'XML beside method': (
        {'disks': [{'target': 'vda', 'method': 'qemu', 'method_xml': '<diskSnapshot method="qemu"/>'}]},
        ['disk vda', 'method_xml', 'method'],
    ),
    'XML beside an option': (
        {'disks': [{'target': 'vda', 'file': 'x', 'method_xml': '<diskSnapshot method="qemu"/>'}]},
        ['disk vda', 'method_xml', 'file'],
    ),
    'mount point that is not there': (
        {'quiesce': 'required', 'mountpoints': ['/mnt/vda', '/srv/none']},
        ['domain odd', '/srv/none'],
    ),
    'relative mount point': ({'mountpoints': ['srv']}, ["'srv'", 'absolute']),
    'no time to be frozen': ({'max_frozen': 0}, ['max_frozen']),
    'no time for the agent': ({'agent_timeout': -1}, ['agent_timeout']),
    'infinite time': ({'max_frozen': float('inf')}, ['max_frozen']),
    'description that XML cannot hold': ({'description': 'bell \a'}, ['description']),
    'reverted': ({'state': 'reverted'}, ['s1', 'no snapshot of this name']),
}


@pytest.mark.parametrize('case', BAD)
def test_refuses(case: str, odd: Guest, lab: Lab, run_module: Runner) -> None:
    task, words = BAD[case]
    refused(lab, odd, run_module, task, *words)


def test_two_disks_of_one_task_at_one_file(odd: Guest, lab: Lab, run_module: Runner) -> None:
    task = {'disks': [{'target': 'vda', 'file': 'same.qcow2'}, {'target': 'vdd', 'file': 'same.qcow2'}]}
    refused(lab, odd, run_module, task, 'domain odd, disk vdd', 'same.qcow2', 'disk vda of domain odd')


def test_a_file_that_is_there(odd: Guest, lab: Lab, run_module: Runner) -> None:
    taken = odd.images / 'odd-vda.s1.qcow2'
    taken.write_text('precious', encoding='utf-8')
    try:
        refused(lab, odd, run_module, {}, 'domain odd, disk vda', str(taken), 'already exists')
        assert taken.read_text(encoding='utf-8') == 'precious'
    finally:
        taken.unlink()


def test_the_disk_s_own_image_as_the_new_file(odd: Guest, lab: Lab, run_module: Runner) -> None:
    image = odd.disks['vda'].image
    refused(lab, odd, run_module, {'disks': [{'target': 'vda', 'file': image}]}, 'disk vda', 'already exists')


def test_a_dangling_link_at_the_new_file(odd: Guest, lab: Lab, run_module: Runner) -> None:
    link = odd.images / 'odd-vda.s1.qcow2'
    link.symlink_to('/nonexistent/elsewhere')
    try:
        failure = run_module.fails('disk_snapshot', {'name': 'odd', 'snapshot_name': 's1'})
        assert 'domain odd, disk vda' in failure['msg']
        assert link.is_symlink()
        assert len(chain(odd, 'vda')) == 1
    finally:
        link.unlink()


def test_a_file_outside_the_pool(odd: Guest, lab: Lab, run_module: Runner) -> None:
    lab.pool('odd-pool', odd.images)
    try:
        task = {'disks': [{'target': 'vda', 'pool': 'odd-pool', 'file': '/var/tmp/x.qcow2'}]}
        refused(lab, odd, run_module, task, 'domain odd, disk vda', '/var/tmp/x.qcow2', 'odd-pool')
    finally:
        lab.remove_pool('odd-pool')


@pytest.fixture
def small(lab: Lab) -> Iterator[Path]:
    """A file system for overlays that the test spoils."""
    yield lab.filesystem('small', size_mib=8)
    lab.remove_filesystem('small')


def test_a_full_file_system(small: Path, odd: Guest, lab: Lab, run_module: Runner) -> None:
    with open(small / 'filler', 'wb') as filler:
        filler.write(bytes((8 << 20) - (64 << 10)))
    task = {'disks': [{'target': 'vda', 'file': f'{small}/x.qcow2'}]}
    refused(lab, odd, run_module, task, 'domain odd, disk vda', 'no space')
    assert [path.name for path in small.iterdir()] == ['filler']


def test_a_file_system_that_fills_up_at_the_second_disk(small: Path, odd: Guest, lab: Lab, run_module: Runner) -> None:
    """Planning sees room enough; the storage refuses the second overlay. The first goes away again."""
    subprocess.run(['mount', '-o', 'remount,nr_inodes=2', small], check=True, timeout=30)  # one for /, one for a file
    task = {
        'name': 'odd',
        'snapshot_name': 's1',
        'disks': [{'target': 'vda', 'file': f'{small}/x.qcow2'}, {'target': 'vdd', 'file': f'{small}/y.qcow2'}],
    }
    with untouched(lab, odd):
        failure = run_module.fails('disk_snapshot', task)
    assert 'domain odd, disk vdd' in failure['msg']
    assert f'{small}/y.qcow2' in failure['msg']
    assert list(small.iterdir()) == []


def test_a_read_only_directory(small: Path, odd: Guest, lab: Lab, run_module: Runner) -> None:
    subprocess.run(['mount', '-o', 'remount,ro', small], check=True, timeout=30)
    task = {'name': 'odd', 'snapshot_name': 's1', 'disks': [{'target': 'vda', 'file': f'{small}/x.qcow2'}]}
    with untouched(lab, odd):
        failure = run_module.fails('disk_snapshot', task)
    assert 'domain odd, disk vda' in failure['msg']
    assert f'{small}/x.qcow2' in failure['msg']
    assert 'Read-only file system' in failure['msg']


def test_all_disks_leaves_out_what_is_no_plain_disk_and_warns(odd: Guest, run_module: Runner) -> None:
    try:
        result = run_module('disk_snapshot', {'name': 'odd', 'snapshot_name': 's1'})
        assert [disk['target'] for disk in result['domains'][0]['disks']] == ['vda', 'vdd']
        [warning] = result['warnings']
        assert 'vdb' in warning
        assert 'shareable' in warning
    finally:
        put_back(odd)


# -- domains that are only defined ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('disk', 'target', 'words'),
    [(LUN, 'sdx', ['pass-through LUN']), (VHOST_USER, 'vdx', ['vhostuser'])],
    ids=['lun', 'vhost-user'],
)
def test_disks_that_do_not_go_through_qemu(
    disk: str, target: str, words: list[str], guest: Guests, lab: Lab, run_module: Runner
) -> None:
    defined = guest(GuestSpec('special', state='shutoff'), wait=False)
    xml = defined.domain.XMLDesc(0).replace('<devices>', f'{SHARED_MEMORY}<devices>{disk}')
    lab.connection.defineXML(xml)

    refused(lab, defined, run_module, {'disks': [{'target': target}]}, f'domain special, disk {target}', *words)

    result = run_module('disk_snapshot', {'name': 'special', 'snapshot_name': 's1'}, check=True)
    assert [one['target'] for one in result['domains'][0]['disks']] == ['vda']
    assert any(target in warning for warning in result['warnings'])


def test_a_domain_without_any_disk(guest: Guests, lab: Lab, run_module: Runner) -> None:
    bare = guest(GuestSpec('bare', disks=[], state='shutoff', writer='none'), wait=False)
    refused(lab, bare, run_module, {}, 'domain bare', 'none of its disks')


def test_an_image_that_is_missing(guest: Guests, lab: Lab, run_module: Runner) -> None:
    gone = guest(GuestSpec('gone', state='shutoff'), wait=False)
    Path(gone.disks['vda'].image).unlink()
    refused(lab, gone, run_module, {}, 'domain gone, disk vda', gone.disks['vda'].image)


def test_a_pool_that_holds_no_files(guest: Guests, lab: Lab, run_module: Runner) -> None:
    off = guest(GuestSpec('off', state='shutoff'), wait=False)
    xml = '<pool type="logical"><name>vg-none</name><target><path>/dev/vg-none</path></target></pool>'
    lab.connection.storagePoolDefineXML(xml)
    try:
        refused(lab, off, run_module, {'disks': [{'target': 'vda', 'pool': 'vg-none'}]}, 'vg-none')
    finally:
        lab.remove_pool('vg-none')


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('<journal version="1"><snapshot name="s0"/></journal>', ['state of <snapshot> is missing', 'virsh metadata']),
        ('<journal version="2"/>', ["version '2' of <journal>", 'A later release of this collection wrote it']),
    ],
    ids=['damaged', 'of a later release'],
)
def test_a_journal_that_cannot_be_read(
    guest: Guests, lab: Lab, run_module: Runner, text: str, words: list[str]
) -> None:
    off = guest(GuestSpec('off', state='shutoff'), wait=False)
    off.domain.setMetadata(2, text, 'disksnap', 'urn:disksnap:libvirt:journal:1', 2)
    refused(lab, off, run_module, {}, 'domain off', 'journal', *words)


# -- the way to libvirt -----------------------------------------------------------------------------------------


def test_a_daemon_that_is_down(odd: Guest, lab: Lab, run_module: Runner, tmp_path: Path) -> None:
    uri = f'qemu+unix:///system?socket={tmp_path}/nobody-here'
    refused(lab, odd, run_module, {'uri': uri}, 'Failed to connect to libvirt', 'nobody-here')


@pytest.mark.parametrize('uri', ['nonsense', '', 'qemu+tcp://user:secret@192.0.2.1:1/system?socket=x', 'xen:///system'])
def test_a_uri_that_leads_nowhere(uri: str, run_module: Runner) -> None:
    failure = run_module.fails('disk_snapshot', {'uri': uri, 'name': 'odd', 'snapshot_name': 's1'}, timeout=300)
    assert 'Failed to connect to libvirt' in failure['msg']
    assert 'secret' not in failure['msg']


def test_a_user_without_permission(odd: Guest, lab: Lab, run_module: Runner) -> None:
    if lab.top != Path('/'):
        pytest.skip("nobody but root gets into the directory with the lab's system")
    with untouched(lab, odd):
        failure = run_module.fails(
            'disk_snapshot',
            {'name': 'odd', 'snapshot_name': 's1'},
            user=65534,
            group=65534,
            extra_groups=[],
        )
    assert 'Failed to connect to libvirt' in failure['msg']
    assert 'this user may use it' in failure['msg']


@pytest.fixture
def without_packages(tmp_path: Path) -> list[Path]:
    """PYTHONPATH with the collection and ansible-core, and nothing else."""
    (tmp_path / 'ansible').symlink_to(Path(ansible.__file__).parent)
    return [COLLECTIONS, tmp_path]


def test_without_libvirt_python(odd: Guest, lab: Lab, run_module: Runner, without_packages: list[Path]) -> None:
    with untouched(lab, odd):
        failure = run_module.start(
            'disk_snapshot',
            {'name': 'odd', 'snapshot_name': 's1'},
            flags=('-S',),
            path=without_packages,
        ).wait()
    assert failure['failed']
    assert 'libvirt-python' in failure['msg']
    assert 'python3-libvirt' in failure['msg']


def test_without_lxml(odd: Guest, lab: Lab, run_module: Runner, without_packages: list[Path]) -> None:
    for name in ('libvirt', 'libvirt_qemu', 'libvirtmod', 'libvirtmod_qemu'):
        [found, *_more] = view.inside(PACKAGES, lab.top).glob(f'{name}.*')
        (without_packages[1] / found.name).symlink_to(PACKAGES / found.name)
    with untouched(lab, odd):
        failure = run_module.start(
            'disk_snapshot',
            {'name': 'odd', 'snapshot_name': 's1'},
            flags=('-S',),
            path=without_packages,
        ).wait()
    assert failure['failed']
    assert 'lxml' in failure['msg']
    assert 'python3-lxml' in failure['msg']


def test_without_qemu_img_the_error_names_it(guest: Guests, lab: Lab, run_module: Runner, tmp_path: Path) -> None:
    """It is needed only to name a network image as backing file; nothing is left where it is missing."""
    net = guest(GuestSpec('net', disks=[DiskSpec(kind='network')]))
    assert shutil.which('qemu-img') is not None
    task = {
        'name': 'net',
        'snapshot_name': 's1',
        'method': 'qemu',
        'disks': [{'target': 'vda', 'file': f'{net.images}/x.qcow2'}],
    }
    with untouched(lab, net):
        failure = run_module.start('disk_snapshot', task, search=[tmp_path]).wait()
    assert failure['failed']
    assert 'qemu-img is not installed' in failure['msg']
    assert 'domain net, disk vda' in failure['msg']
