# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a copy of an image stands on."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _chain, _copies, _images
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    BackupSource,
    DiskRecord,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk, Source, read_domain

pytest.importorskip('libvirt')

POOLS = SimpleNamespace(canonical=os.path.realpath)
DOMAIN: Any = SimpleNamespace(name='web', host=SimpleNamespace(local=True, pools=POOLS))


def image(path: Path, backing: str | None) -> Source:
    """A qcow2 header with this backing file; the layer that it is."""
    name = os.fsencode(backing or '')
    start = struct.pack('>4sIQI4xQ', b'QFI\xfb', 3, 512 if name else 0, len(name), 1 << 20)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(start.ljust(512, b'\0') + name)
    return Source('file', 'qcow2', str(path))


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The disk top, on middle, on base; each names the next relative to itself."""
    layers = (
        image(tmp_path / 'i' / 'top', 'middle'),
        image(tmp_path / 'i' / 'middle', '../i/base'),
        image(tmp_path / 'i' / 'base', None),
    )
    [found] = read_domain(
        '<domain><devices><disk type="file"><source file="/x"/><target dev="vda"/></disk></devices></domain>'
    ).disks
    found = replace(found, chain=layers, complete=True)
    monkeypatch.setattr(_chain, 'whole', lambda _disk, _pools, _name: found)
    return found


def refused(disk: Disk, backing: list[str], inside: Path | None) -> bool:
    record = DiskRecord('vda', 'reflink', '', '', None, BackupSource('', 'file', '/c', 'qcow2'), backing=backing)
    try:
        _copies.refuse_stray_backing(DOMAIN, disk, record, 'Failed', inside=str(inside) if inside else None)
    except DiskSnapError as error:
        return 'relative to its own directory' in str(error)
    return False


def test_a_clone_beside_the_image(disk: Disk, tmp_path: Path) -> None:
    backing = _copies.backing_of(disk, DOMAIN, str(tmp_path / 'i' / 'clone'))
    assert backing == [str(tmp_path / 'i' / 'middle'), str(tmp_path / 'i' / 'base')]
    assert not refused(disk, backing, None)


def test_a_clone_elsewhere_would_stand_on_something_else(disk: Disk, tmp_path: Path) -> None:
    backing = _copies.backing_of(disk, DOMAIN, str(tmp_path / 'other' / 'clone'))
    assert backing[0] == str(tmp_path / 'other' / 'middle')
    assert refused(disk, backing, None)


def test_a_snapshot_of_the_directory_has_copies_of_all_layers(disk: Disk, tmp_path: Path) -> None:
    snapshot = tmp_path / 's'
    backing = _copies.backing_of(disk, DOMAIN, str(snapshot / 'i' / 'top'))
    assert backing == [str(snapshot / 'i' / 'middle'), str(snapshot / 'i' / 'base')]
    assert not refused(disk, backing, snapshot)


def test_a_layer_outside_the_snapshot(disk: Disk, tmp_path: Path) -> None:
    """The image is at the top of its subvolume, and names a base beside that."""
    image(tmp_path / 'i' / 'top', '../i/base')
    backing = _copies.backing_of(disk, DOMAIN, str(tmp_path / 's' / 'top'))
    assert backing[0] == str(tmp_path / 'i' / 'base')
    assert refused(disk, backing, tmp_path / 's')


def test_an_absolute_name_leads_to_the_live_layer(disk: Disk, tmp_path: Path) -> None:
    image(tmp_path / 'i' / 'top', str(tmp_path / 'i' / 'middle'))
    backing = _copies.backing_of(disk, DOMAIN, str(tmp_path / 'other' / 'clone'))
    assert backing == [str(tmp_path / 'i' / 'middle'), str(tmp_path / 'i' / 'base')]
    assert not refused(disk, backing, None)


def test_a_copy_that_is_no_file_names_what_the_disk_does(disk: Disk, tmp_path: Path) -> None:
    assert _copies.backing_of(disk, DOMAIN) == [str(tmp_path / 'i' / 'middle'), str(tmp_path / 'i' / 'base')]


@pytest.mark.parametrize('name', [None, 'base', '/p/base', 'json:{"driver": "nbd"}', 'nbd://host/x'])
def test_backing_names(name: str | None, tmp_path: Path) -> None:
    path = tmp_path / 'i' / 'image'
    image(path, name)
    assert _images.backing_name(str(path)) == name
    assert _copies._relative_backing(str(path)) == (name if name == 'base' else None)
