# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the collection makes for itself (locks, sockets, temporary files) is this user's alone, whatever the umask."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import stat
import tempfile
import typing as t
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _apparmor, _barrier, _clone, _lock
from ansible_collections.disksnap.libvirt.plugins.module_utils._detached import fork_detached
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError

DOMAIN: t.Any = SimpleNamespace(name='web', uuid='004b96e1-2d78-c30f-5aa5-f03c87d21e67')


@pytest.fixture(autouse=True)
def no_umask() -> Iterator[None]:
    """A process whose files anybody may read and write unless it says otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The private directory, in a place of the test's own, with a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place) / 'disksnap'
        for module in (_lock, _barrier):
            monkeypatch.setattr(module, 'private_directory', lambda: _lock._owned(str(directory)))
        yield directory


def mode(path: str | Path) -> int:
    """The permission bits, of a link its own."""
    return stat.S_IMODE(os.lstat(path).st_mode)


def test_the_directory_is_private(private: Path) -> None:
    assert mode(_lock._owned(str(private))) == 0o700

    private.chmod(0o777)
    assert mode(_lock._owned(str(private))) == 0o700


@pytest.mark.parametrize('what', ['link', 'file', 'foreign'])
def test_a_directory_that_someone_else_made_is_refused(
    what: str, private: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if what == 'link':
        private.symlink_to(tmp_path)
    elif what == 'file':
        private.write_text('', encoding='utf-8')
    else:
        private.mkdir()
        mine = os.geteuid()
        monkeypatch.setattr(os, 'geteuid', lambda: mine + 1)

    with pytest.raises(DiskSnapError, match=f'Failed to take a lock.*{private}'), _lock.locked([DOMAIN], wait=0):
        pass
    assert mode(tmp_path) == 0o700


def test_a_lock_is_private(private: Path) -> None:
    with _lock.locked([DOMAIN], wait=0):
        [lock] = private.iterdir()
        assert mode(lock) == 0o600


def test_a_lock_is_no_link_to_elsewhere(private: Path, tmp_path: Path) -> None:
    precious = tmp_path / 'precious'
    precious.write_text('precious', encoding='utf-8')
    Path(_lock._owned(str(private)), f'{DOMAIN.uuid}.lock').symlink_to(precious)

    with pytest.raises(DiskSnapError, match='Failed to take a lock'), _lock.locked([DOMAIN], wait=0):
        pass
    assert precious.read_text(encoding='utf-8') == 'precious'


def test_a_barrier_is_private_and_has_no_name_that_could_be_guessed(private: Path) -> None:
    commands = []
    for _again in range(2):
        ours, theirs = socket.socketpair()
        barrier = _barrier.Barrier(ours, 1.0, '$(touch x); s1')
        with contextlib.closing(theirs):
            barrier.claim('g', [])
            [path] = private.iterdir()
            assert mode(path) == 0o600
            commands.append(shlex.split(barrier.command))
            barrier.end()
    assert commands[0][:-1] == commands[1][:-1]
    assert commands[0][-1] != commands[1][-1]
    assert all(Path(one[-1]).parent == private for one in commands)
    assert not any('touch' in word for one in commands for word in one)


def test_a_process_of_its_own_makes_private_files() -> None:
    with contextlib.closing(fork_detached(lambda channel: channel.sendall(b'%o' % os.umask(0)))) as channel:
        assert channel.recv(9) == b'77'


def test_an_image_in_the_making_is_private_and_no_link_to_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, copy, precious = tmp_path / 'image', tmp_path / 'copy', tmp_path / 'precious'
    for path in (image, copy, precious):
        path.write_text(path.name, encoding='utf-8')
    image.chmod(0o640)
    Path(_clone.temporary_of(str(image))).symlink_to(precious)
    seen = []

    def share(source: int, target: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(target).st_mode))
        os.write(target, os.pread(source, 99, 0))

    monkeypatch.setattr(_clone, 'share', share)

    _clone.replace(str(image), str(copy))

    assert seen == [0o600]
    assert (mode(image), image.read_text(encoding='utf-8')) == (0o640, 'copy')
    assert precious.read_text(encoding='utf-8') == 'precious'


def test_a_profile_in_the_making_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = tmp_path / 'libvirt-u.files'
    profile.write_text('deny "/i/a" w,\n', encoding='utf-8')
    profile.chmod(0o640)
    seen = []
    fchown = os.fchown

    def look(handle: int, owner: int, group: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(handle).st_mode))
        fchown(handle, owner, group)

    monkeypatch.setattr(_apparmor, 'PROFILES', str(tmp_path))
    monkeypatch.setattr(os, 'fchown', look)

    assert _apparmor.unsilence('u', ['/i/a']) == ['/i/a']

    assert seen == [0o600]
    assert mode(profile) == 0o640
