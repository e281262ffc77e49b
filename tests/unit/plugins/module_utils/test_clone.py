# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replacing a file by a clone: whole or not at all. The clone itself is a plain copy here."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _clone


@pytest.fixture(autouse=True)
def copying(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that copies where others share."""

    def share(source: int, target: int) -> None:
        os.write(target, os.pread(source, 1 << 20, 0))

    monkeypatch.setattr(_clone, 'share', share)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The image, with a copy beside it."""
    path = tmp_path / 'image'
    path.write_bytes(b'now')
    path.chmod(0o640)
    (tmp_path / 'copy').write_bytes(b'then')
    return path


def test_the_file_keeps_what_it_was(image: Path) -> None:
    try:
        os.setxattr(image, 'user.theirs', b'1')
        os.setxattr(image.with_name('copy'), _clone.MARK, b'me')
    except OSError:
        pytest.skip('the file system has no extended attributes')
    _clone.replace(str(image), str(image.with_name('copy')))
    assert image.read_bytes() == b'then'
    assert image.stat().st_mode & 0o777 == 0o640
    assert os.listxattr(image) == ['user.theirs']
    assert sorted(path.name for path in image.parent.iterdir()) == ['copy', 'image']


def test_what_a_dead_run_left_goes(image: Path) -> None:
    Path(_clone.temporary_of(str(image))).write_bytes(b'half')
    _clone.replace(str(image), str(image.with_name('copy')))
    assert image.read_bytes() == b'then'
    assert sorted(path.name for path in image.parent.iterdir()) == ['copy', 'image']


def test_a_file_that_is_gone_comes_back(image: Path) -> None:
    image.unlink()
    _clone.replace(str(image), str(image.with_name('copy')))
    assert image.read_bytes() == b'then'


def test_a_refusal_leaves_the_file(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_source: int, _target: int) -> None:
        raise OSError(errno.EXDEV, 'Invalid cross-device link')

    monkeypatch.setattr(_clone, 'share', refuse)
    with pytest.raises(OSError, match='cross-device'):
        _clone.replace(str(image), str(image.with_name('copy')))
    assert image.read_bytes() == b'now'
    assert sorted(path.name for path in image.parent.iterdir()) == ['copy', 'image']


def test_a_long_name_has_a_temporary_one_too(tmp_path: Path) -> None:
    name = os.path.basename(_clone.temporary_of(str(tmp_path / ('é' * 127))))
    assert len(os.fsencode(name)) <= 255
    assert name.endswith('.disksnap-revert')


@pytest.mark.parametrize(
    ('number', 'words'),
    [
        (errno.EXDEV, 'different file systems'),
        (errno.EOPNOTSUPP, 'cannot share blocks'),
        (errno.EINVAL, 'nodatacow'),
        (errno.ENOSPC, 'no space'),
        (errno.EROFS, 'read-only'),
        (errno.EIO, 'Input/output error'),
    ],
)
def test_the_kernel_s_refusals_in_words(number: int, words: str) -> None:
    error = _clone.failure('Failed to clone it', OSError(number, os.strerror(number)), domain='web', disk='vda')
    assert words in str(error)
    assert 'domain web, disk vda' in str(error)


def test_marks(image: Path) -> None:
    assert _clone.marked(str(image)) is None
    with open(image, 'rb') as handle:
        _clone.mark(handle.fileno(), 'uuid vda')
    assert _clone.marked(str(image)) in ('uuid vda', None)  # None where there are no extended attributes
