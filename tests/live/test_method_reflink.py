# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The method reflink on real guests with images on xfs and btrfs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.tests.live import copies
from ansible_collections.disksnap.libvirt.tests.live.harness import (
    Failed,
    Guests,
    Runner,
    chain,
    journal,
    ready,
    untouched,
)
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab

REFLINK = {'method': 'reflink', 'quiesce': 'required'}


@pytest.fixture(scope='module', params=['xfs', 'btrfs'])
def fs(request: pytest.FixtureRequest, lab: Lab) -> Iterator[str]:
    """The file system that holds the images; its name in the lab is its type."""
    name: str = request.param
    directory = lab.filesystem(name, name, size_mib=700)
    lab.pool(f'{name}-pool', directory / 'pool')
    yield name
    lab.remove_pool(f'{name}-pool')
    lab.remove_filesystem(name)


@pytest.fixture(scope='module')
def running(fs: str, lab: Lab, shared: Guests) -> Iterator[Guest]:
    """A guest with a raw file, a qcow2 file, and a raw volume of a pool."""
    directory = lab.paths.mnt / fs
    volume = DiskSpec(format='raw', kind='volume', pool=f'{fs}-pool', directory=directory / 'pool')
    disks = [DiskSpec(format='raw'), DiskSpec(), volume]
    yield shared(GuestSpec(f'clone-{fs}', disks=disks, directory=directory))
    shared.remove()  # before its file system goes


@pytest.fixture
def web(running: Guest, run_module: Runner) -> Iterator[Guest]:
    """The same; each test leaves it running, without a snapshot."""
    yield running
    if running.state == 'shutoff':
        running.start()
    ready(running)
    run_module('disk_snapshot', copies.task_of(running, state='absent'))
    assert {target: len(chain(running, target)) for target in running.disks} == dict.fromkeys(running.disks, 1)


def files(guest: Guest) -> list[Path]:
    """All files in the directories of the guest's images."""
    directories = {Path(made.image).parent for made in guest.disks.values()}
    return sorted(path for directory in directories for path in directory.iterdir())


@pytest.mark.core
def test_a_running_guest(web: Guest, lab: Lab, run_module: Runner, tmp_path: Path) -> None:
    acked, before = web.acked(), files(web)

    domain = copies.take(run_module, lab, web, **REFLINK)

    assert domain['consistency'] == 'filesystem'
    assert domain['warnings'] == []
    raw, qcow2, volume = domain['disks']
    assert [disk['reason'] for disk in domain['disks']] == ['named by the task'] * 3
    assert [disk['backup_source']['format'] for disk in domain['disks']] == ['raw', 'qcow2', 'raw']
    assert Path(raw['backup_source']['path']).name == f'{web.name}-vda.s1.raw'
    assert Path(qcow2['backup_source']['path']).name == f'{web.name}-vdb.s1.qcow2'
    pool = Path(web.disks['vdc'].image).parent.parent.name + '-pool'
    assert (volume['backup_source']['pool'], volume['volumes'][0]['pool']) == (pool, pool)
    assert volume['backup_source']['volume'] in lab.connection.storagePoolLookupByName(pool).listVolumes()
    for disk in domain['disks']:
        assert os.stat(disk['backup_source']['path']).st_mode & 0o777 == 0o400
    web.wait_acked(copies.LATER)
    copies.judge(web, domain, acked, tmp_path)
    copies.remove(run_module, web, domain)
    assert files(web) == before


def test_named_places(web: Guest, lab: Lab, run_module: Runner, tmp_path: Path) -> None:
    fs = Path(web.disks['vda'].image).parent.name
    elsewhere = lab.paths.mnt / fs / 'elsewhere'
    elsewhere.mkdir(exist_ok=True)
    disks = [
        {'target': 'vda', 'file': str(elsewhere / 'a copy')},
        {'target': 'vdb', 'pool': f'{fs}-pool', 'file': 'mine.qcow2'},
        {'target': 'vdc', 'file': 'plain'},
    ]
    acked = web.acked()

    domain = copies.take(run_module, lab, web, **REFLINK, disks=disks)

    paths = [disk['volumes'][0]['path'] for disk in domain['disks']]
    pool = lab.paths.mnt / fs / 'pool'
    assert paths == [str(elsewhere / 'a copy'), str(pool / 'mine.qcow2'), str(pool / 'plain')]
    copies.judge(web, domain, acked, tmp_path)
    copies.remove(run_module, web, domain)


def test_back_to_the_snapshot_twice(web: Guest, lab: Lab, run_module: Runner, tmp_path: Path) -> None:
    domain = copies.take(run_module, lab, web, **REFLINK)
    at = copies.judge(web, domain, dict.fromkeys(web.disks, 0), tmp_path)
    image = Path(web.disks['vda'].image)
    os.setxattr(image, 'user.mine', b'1')
    for _turn in range(2):
        later = copies.write_on(web)
        before = files(web)
        copies.revert(run_module, web)
        copies.went_back(web, at, later)
        assert files(web) == before
        assert os.listxattr(image) == ['user.mine']
        assert run_module('disk_snapshot', copies.task_of(web, **REFLINK))['changed'] is False
    copies.remove(run_module, web, domain)


def test_a_domain_that_is_shut_off(web: Guest, lab: Lab, run_module: Runner, tmp_path: Path) -> None:
    web.shutdown(timeout=60)
    acked = web.acked()

    domain = copies.take(run_module, lab, web, **REFLINK)

    assert (domain['consistency'], domain['freeze']) == ('offline', None)
    copies.judge(web, domain, acked, tmp_path)
    image = Path(web.disks['vda'].image)
    os.chown(image, 4, 24)
    image.chmod(0o640)
    run_module('disk_snapshot', copies.task_of(web, state='reverted'))
    was = image.stat()
    assert (was.st_uid, was.st_gid, was.st_mode & 0o777) == (4, 24, 0o640)
    assert web.state == 'shutoff'
    copies.remove(run_module, web, domain)


def test_layers_above_the_image_are_named(web: Guest, lab: Lab, run_module: Runner) -> None:
    """A clone of the active layer; then an overlay goes on top, and the disk cannot go back below it."""
    domain = copies.take(run_module, lab, web, **REFLINK)
    run_module('disk_snapshot', copies.task_of(web, snapshot_name='above', method='qemu'))
    with untouched(lab, web):
        failure = run_module.fails('disk_snapshot', copies.task_of(web, state='reverted', force=True))
    assert 'above' in failure['msg']
    # the overlay's own clone names what is below it
    upper = run_module('disk_snapshot', copies.task_of(web, snapshot_name='upper', **REFLINK))['domains'][0]
    assert all(disk['backup_source']['format'] == 'qcow2' for disk in upper['disks'])
    run_module('disk_snapshot', copies.task_of(web, snapshot_name='upper', state='absent'))
    run_module('disk_snapshot', copies.task_of(web, snapshot_name='above', state='absent'))
    copies.remove(run_module, web, domain)


# -- an image with metadata of its own, in use --------------------------------------------------------------------


@pytest.mark.parametrize('option', ['lazy_refcounts=off', 'lazy_refcounts=on'])
def test_qcow2_while_clusters_are_allocated(
    option: str, fs: str, lab: Lab, guest: Guests, run_module: Runner, tmp_path: Path
) -> None:
    image = copies.image_in(lab, lab.paths.mnt / fs, 'churn.qcow2', option)
    busy = guest(GuestSpec('churn', disks=[DiskSpec(image=image)]))
    copies.churn(busy)
    try:
        for quiesce, consistency in (('required', 'filesystem'), ('none', 'crash')):
            acked = busy.wait_acked(5)
            domain = copies.take(run_module, lab, busy, method='reflink', quiesce=quiesce)
            assert domain['consistency'] == consistency
            copies.judge(busy, domain, acked, tmp_path)
            copies.remove(run_module, busy, domain)
    finally:
        guest.remove()
        image.unlink()


# -- what it refuses ----------------------------------------------------------------------------------------------


def refused(lab: Lab, guest: Guest, run_module: Runner, options: dict[str, Any], *words: str) -> None:
    """See copies.refused."""
    task = copies.task_of(guest, **{'method': 'reflink', 'quiesce': 'none', **options})
    copies.refused(lab, guest, run_module, task, *words)


def one(**options: Any) -> dict[str, Any]:
    """The disk vda with these options."""
    return {'disks': [{'target': 'vda', 'method': 'reflink', **options}]}


def test_bad_places(web: Guest, lab: Lab, run_module: Runner) -> None:
    beside = Path(web.disks['vda'].image).parent
    taken = beside / f'{web.name}-vda.s1.raw'
    taken.touch()
    try:
        refused(lab, web, run_module, one(), str(taken), 'already exists')
    finally:
        taken.unlink()
    refused(lab, web, run_module, one(file='/not/there/copy'), '/not/there')
    other = lab.paths.scratch / 'copy.raw'
    refused(lab, web, run_module, one(file=str(other)), str(other.parent), 'is not on the file system of')
    lab.pool('ext4-pool', lab.paths.scratch / 'pool')
    try:
        refused(lab, web, run_module, one(pool='ext4-pool'), 'is not on the file system of')
    finally:
        lab.remove_pool('ext4-pool')


def test_an_image_on_another_file_system(lab: Lab, guest: Guests, run_module: Runner) -> None:
    plain = guest(
        GuestSpec('plain', state='shutoff', disks=[DiskSpec(), DiskSpec(kind='block', format='raw')]), wait=False
    )
    kind = subprocess.run(['stat', '-f', '-c', '%T', plain.images], check=True, capture_output=True, text=True).stdout
    if kind.strip() in ('xfs', 'btrfs'):
        pytest.skip(f'{plain.images} is on {kind.strip()}')
    refused(lab, plain, run_module, one(), 'files cannot share blocks', 'Methods that can take it: qemu.')
    with untouched(lab, plain):
        failure = run_module.fails(
            'disk_snapshot', copies.task_of(plain, disks=[{'target': 'vdb', 'method': 'reflink'}])
        )
    assert 'takes no disk of type block' in failure['msg']


def test_an_xfs_without_reflink(lab: Lab, guest: Guests, run_module: Runner) -> None:
    directory = lab.filesystem('old', 'tmpfs', size_mib=450)
    try:
        with open(directory / 'backing', 'wb') as handle:
            handle.truncate(400 << 20)
        point = directory / 'xfs'
        point.mkdir()
        subprocess.run(['mkfs.xfs', '-q', '-m', 'reflink=0', directory / 'backing'], check=True, timeout=60)
        subprocess.run(['mount', '-o', 'loop', directory / 'backing', point], check=True, timeout=60)
        old = guest(GuestSpec('old', state='shutoff', directory=point), wait=False)
        refused(lab, old, run_module, one(), 'made without reflink')
        guest.remove()
    finally:
        lab.remove_filesystem('old')


def test_images_whose_file_is_not_all(fs: str, lab: Lab, guest: Guests, run_module: Runner) -> None:
    directory = lab.paths.mnt / fs
    image = directory / 'split.qcow2'
    option = f'data_file={directory}/split.data'
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-o', option, image, '8M'], check=True, timeout=60)
    try:
        split = guest(GuestSpec('split', state='shutoff', disks=[DiskSpec(image=image)]), wait=False)
        refused(lab, split, run_module, {}, 'keeps its data in another file')
    finally:
        image.unlink()
        (directory / 'split.data').unlink()


def test_a_backing_file_that_is_named_from_the_image_s_directory(
    fs: str, lab: Lab, guest: Guests, run_module: Runner
) -> None:
    directory = lab.paths.mnt / fs
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', 'under.qcow2', '8M'], cwd=directory, check=True)
    over = ['qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'under.qcow2', '-F', 'qcow2', 'over.qcow2']
    subprocess.run(over, cwd=directory, check=True)
    (directory / 'apart').mkdir()
    try:
        on_top = guest(
            GuestSpec('ontop', state='shutoff', disks=[DiskSpec(image=directory / 'over.qcow2')]), wait=False
        )
        refused(lab, on_top, run_module, one(file=f'{directory}/apart/copy'), f'would stand on {directory}/apart/under')
        [domain] = run_module('disk_snapshot', copies.task_of(on_top, method='reflink'))['domains']
        (directory / 'under.qcow2').rename(directory / 'lost.qcow2')
        failure = run_module.fails('disk_snapshot', copies.task_of(on_top, state='reverted'))
        assert 'the image below it' in failure['msg']
        (directory / 'lost.qcow2').rename(directory / 'under.qcow2')
        copies.remove(run_module, on_top, domain)
    finally:
        guest.remove()
        (directory / 'apart').rmdir()
        for name in ('over.qcow2', 'under.qcow2'):
            (directory / name).unlink()


def test_a_clone_that_is_gone(web: Guest, lab: Lab, run_module: Runner) -> None:
    domain = copies.take(run_module, lab, web, **REFLINK)
    Path(domain['disks'][0]['backup_source']['path']).unlink()
    for state in ('present', 'reverted'):
        with untouched(lab, web):
            failure = run_module.fails('disk_snapshot', copies.task_of(web, state=state, **REFLINK, force=True))
        assert 'is not there any more' in failure['msg']
    assert run_module('disk_snapshot', copies.task_of(web, state='absent'))['changed'] is True
    assert journal(web) is None


# -- failures half way --------------------------------------------------------------------------------------------


def test_the_next_run_undoes_what_a_killed_one_left(web: Guest, lab: Lab, run_module: Runner) -> None:
    before = files(web)
    copies.kill_half_way(run_module, web, lambda: files(web) != before, **REFLINK)
    copies.settled_by_the_next_run(run_module, web)
    assert files(web) == before
    web.wait_acked(2)
    # and as it is when all clones were made
    copies.take(run_module, lab, web, **REFLINK)
    copies.half_taken(web)
    copies.settled_by_the_next_run(run_module, web)
    assert files(web) == before


def test_what_is_not_ours_is_not_deleted(web: Guest, lab: Lab, run_module: Runner) -> None:
    """A run died before it made the clone, and the name was taken since."""
    domain = copies.take(run_module, lab, web, **REFLINK)
    theirs = Path(domain['disks'][0]['backup_source']['path'])
    theirs.unlink()
    theirs.write_bytes(b'precious')
    try:
        copies.half_taken(web)
        copies.settled_by_the_next_run(run_module, web)
        assert theirs.read_bytes() == b'precious'
    finally:
        theirs.unlink()


# -- libvirt on another machine -----------------------------------------------------------------------------------


BRIDGE = """#!/usr/bin/python3
import os, select, socket
far = socket.socket(socket.AF_UNIX)
far.connect('{socket}')
to = {{0: far.fileno(), far.fileno(): 1}}
while True:
    for end in select.select(list(to), [], [])[0]:
        data = os.read(end, 65536)
        if not data:
            raise SystemExit
        while data:
            data = data[os.write(to[end], data):]
"""


@pytest.mark.core
def test_by_the_storage_pool_where_libvirt_is_remote(web: Guest, lab: Lab, run_module: Runner, tmp_path: Path) -> None:
    """The transport ext counts as remote: a program is the way there."""
    bridge = tmp_path / 'bridge'
    bridge.write_text(BRIDGE.format(socket=lab.uri.partition('socket=')[2]), encoding='utf-8')
    bridge.chmod(0o755)
    uri = f'qemu+ext:///system?command={bridge}'
    raw = {'disks': [{'target': 'vda'}, {'target': 'vdc'}]}
    acked, before = web.acked(), files(web)

    with untouched(lab, web):
        failure = run_module.fails('disk_snapshot', copies.task_of(web, uri=uri, **REFLINK))
        assert 'qcow2' in failure['msg']
    domain = copies.take(run_module, lab, web, uri=uri, **REFLINK, **raw)

    copies.judge(web, domain, acked, tmp_path)
    with untouched(lab, web), pytest.raises(Failed, match='on the hypervisor itself'):
        run_module('disk_snapshot', copies.task_of(web, uri=uri, state='reverted', force=True))
    assert run_module('disk_snapshot', copies.task_of(web, uri=uri, state='absent'))['changed'] is True
    assert files(web) == before
    # taken from afar, and removed here
    run_module('disk_snapshot', copies.task_of(web, uri=uri, **REFLINK, **raw))
    copies.remove(run_module, web, domain)
    assert files(web) == before
