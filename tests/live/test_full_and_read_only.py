# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The methods btrfs and reflink on a file system that is full, or mounted read-only."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.disksnap.libvirt.tests.live import copies
from ansible_collections.disksnap.libvirt.tests.live.harness import Guests, Runner, journal, untouched
from ansible_collections.disksnap.libvirt.tests.live.storage import BLOCK, fill, read_only
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab

PLACES = [('xfs', 'reflink'), ('btrfs', 'reflink'), ('btrfs', 'btrfs')]


@pytest.fixture(params=PLACES, ids=['-'.join(place) for place in PLACES])
def place(request: pytest.FixtureRequest, lab: Lab) -> Iterator[tuple[Path, str]]:
    """A directory for images on a file system of its own, and a method that copies images there."""
    kind, method = request.param
    root = lab.filesystem('small', kind, size_mib=400)
    directory = root / 'images'
    if kind == 'btrfs':
        subprocess.run(['btrfs', 'subvolume', 'create', directory], check=True, timeout=60, capture_output=True)
    yield directory, method
    lab.remove_filesystem('small')


@pytest.fixture
def tub(place: tuple[Path, str], guest: Guests) -> Iterator[Guest]:
    """A guest that is shut off, with a raw and a qcow2 image there."""
    disks = [DiskSpec(format='raw'), DiskSpec()]
    yield guest(GuestSpec('tub', state='shutoff', disks=disks, directory=place[0]), wait=False)
    guest.remove()  # before its file system goes


def tree(directory: Path) -> list[str]:
    """All that is on the file system."""
    return sorted(f'{path} {path.lstat().st_size}' for path in directory.parent.rglob('*'))


def refused(lab: Lab, guest: Guest, run_module: Runner, directory: Path, *words: str, **options: str) -> None:
    """See copies.refused."""
    task, before = copies.task_of(guest, **options), tree(directory)
    copies.refused(lab, guest, run_module, task, *words)
    assert tree(directory) == before


def test_full(place: tuple[Path, str], tub: Guest, lab: Lab, run_module: Runner) -> None:
    """Neither is a snapshot taken, nor is there room to go back to one; to remove one still works."""
    directory, method = place
    run_module('disk_snapshot', copies.task_of(tub, method=method))
    fill(directory.parent / 'filler')

    refused(lab, tub, run_module, directory, 'no space is left on', 'Make room', snapshot_name='s2', method=method)
    refused(lab, tub, run_module, directory, 'no space is left on', 'Make room', state='reverted')
    run_module('disk_snapshot', copies.task_of(tub, state='absent'))

    assert journal(tub) is None
    assert sorted(path.name for path in directory.iterdir()) == ['tub-vda.img', 'tub-vdb.qcow2']


def test_read_only(place: tuple[Path, str], tub: Guest, lab: Lab, run_module: Runner) -> None:
    """No snapshot is taken, none is gone back to and none removed, until the file system is writable again."""
    directory, method = place
    before = tree(directory)
    run_module('disk_snapshot', copies.task_of(tub, method=method))
    words = ('read-only', 'Mount it writable')

    with read_only(directory.parent):
        refused(lab, tub, run_module, directory, *words, snapshot_name='s2', method=method)
        refused(lab, tub, run_module, directory, *words, state='reverted')
    run_module('disk_snapshot', copies.task_of(tub, state='reverted'))
    with read_only(directory.parent):
        failure = run_module.fails('disk_snapshot', copies.task_of(tub, state='absent'))
        assert 'ead-only' in failure['msg']

    run_module('disk_snapshot', copies.task_of(tub, state='absent'))
    assert journal(tub) is None
    assert [line.split()[0] for line in tree(directory)] == [line.split()[0] for line in before]


@pytest.fixture(scope='module')
def frayed(lab: Lab, shared: Guests) -> Iterator[tuple[Guest, Path]]:
    """A guest that runs, and its disk vdb: on a small xfs, an image whose map of extents takes many blocks."""
    directory = lab.filesystem('frayed', 'xfs', size_mib=400) / 'images'
    directory.mkdir()
    image = directory / 'frayed.img'
    with image.open('wb') as handle:
        handle.truncate(64 << 20)
        for piece in range(4000):
            os.pwrite(handle.fileno(), b'x' * BLOCK, piece * 2 * BLOCK)
        os.fsync(handle.fileno())
    yield shared(GuestSpec('frayed', disks=[DiskSpec(), DiskSpec(image=image, format='raw', mount=False)])), image
    shared.remove()
    lab.remove_filesystem('frayed')


def marked(clone: Path) -> bool:
    """Whether the clone says whose it is: it is about to be filled."""
    try:
        return bool(os.listxattr(clone))
    except FileNotFoundError:
        return False


@pytest.mark.parametrize('when', [Path.exists, marked], ids=['as it was made', 'as it was ready'])
def test_full_by_the_time_of_the_clone(
    when: Callable[[Path], bool], frayed: tuple[Guest, Path], lab: Lab, run_module: Runner
) -> None:
    """Somebody takes the room that was there as the task began, once the clone is there, which is empty yet."""
    web, image = frayed
    filler, clone = image.parents[1] / 'filler', image.with_name('frayed-vdb.s1.raw')
    disks = [{'target': 'vda', 'method': 'qemu'}, {'target': 'vdb', 'method': 'reflink'}]
    task, over = copies.task_of(web, quiesce='required', disks=disks), threading.Event()

    def spoil() -> None:
        while not over.is_set():
            if when(clone):
                fill(filler)
                return
            time.sleep(0.001)

    thread = threading.Thread(target=spoil)
    with untouched(lab, web):
        thread.start()
        try:
            failure = run_module.fails('disk_snapshot', task)
        finally:
            over.set()
            thread.join(60)
    assert 'domain frayed, disk vdb' in failure['msg']
    assert 'no space is left on the file system' in failure['msg']
    assert not clone.exists()
    assert journal(web) is None

    filler.unlink()
    assert run_module('disk_snapshot', task)['changed'] is True
    run_module('disk_snapshot', copies.task_of(web, state='absent'))
