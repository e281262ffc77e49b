# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a qcow2 header says."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _images


def header(*, version: int = 3, size: int = 1 << 30, incompatible: int = 0, compatible: int = 0) -> bytes:
    start = struct.pack('>4sI16xQ40x', b'QFI\xfb', version, size)
    return start + (struct.pack('>QQ16x', incompatible, compatible) if version > 2 else b'')


@pytest.mark.parametrize(
    ('data', 'found'),
    [
        (header(), _images.Header(1 << 30)),
        (header(version=2, size=7), _images.Header(7)),
        (header(incompatible=1, compatible=1), _images.Header(1 << 30, dirty=True, lazy_refcounts=True)),
        (header(incompatible=2), _images.Header(1 << 30, corrupt=True)),
        (header(incompatible=4), _images.Header(1 << 30, data_file=True)),
        (header()[:40], None),
        (b'', None),
        (bytes(512), None),
    ],
)
def test_headers(data: bytes, found: _images.Header | None) -> None:
    assert _images.parse_header(data) == found


@pytest.mark.parametrize(
    ('data', 'words'),
    [
        (header(incompatible=4), 'another file'),
        (header(incompatible=2), 'corrupt'),
        (b'raw', 'not the qcow2 file'),
        (header(incompatible=1, compatible=1), None),
    ],
)
def test_what_is_unfit_for_a_copy(data: bytes, words: str | None, tmp_path: Path) -> None:
    image = tmp_path / 'image'
    image.write_bytes(data)
    why = _images.unfit(str(image))
    assert why is None if words is None else words in (why or '')


@pytest.mark.parametrize(
    ('name', 'file'),
    [
        ('/i/base', '/i/base'),
        ('file:/i/base', '/i/base'),
        ('json:{"driver":"qcow2","file":{"driver":"file","filename":"/i/base"}}', '/i/base'),
        ('json:{"driver":"raw","file.driver":"host_device","file.filename":"/dev/vg0/base"}', '/dev/vg0/base'),
        ('json:{"driver":"raw","file":{"driver":"raw","file":{"filename":"/i/base"}}}', '/i/base'),
        ('json:{"driver":"rbd","filename":"/i/base"}', 'json:{"driver":"rbd","filename":"/i/base"}'),
        ('json:{"file":{"driver":"nbd","path":"/s"}}', 'json:{"file":{"driver":"nbd","path":"/s"}}'),
        ('json:{"file":{"filename":7}}', 'json:{"file":{"filename":7}}'),
        ('json:[', 'json:['),
        ('json:[]', 'json:[]'),
        ('nbd:unix:/s', 'nbd:unix:/s'),
    ],
)
def test_names_of_backing_files(name: str, file: str) -> None:
    assert _images.file_in(name) == file
