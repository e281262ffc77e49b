# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which files the undo of an overlay deletes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _chain, _overlay, _undo
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    BackupSource,
    DiskRecord,
    Volume,
)

pytest.importorskip('libvirt')

OVERLAY = '/i/web.s1.qcow2'
ORIGINAL = (
    '<disk type="file" device="disk"><driver name="qemu" type="qcow2"/>'
    '<source file="/i/web"/><target dev="vda"/></disk>'
)


class Pools:
    """A directory with one file, of which libvirt says what it is told."""

    def __init__(self, **found: Any) -> None:
        self.found = SimpleNamespace(path=OVERLAY, owner=None, group=None, mode=None, **found)
        self.deleted: list[str] = []

    def volume(self, _path: str) -> Any:
        return self.found

    def create_overlay(self, *_arguments: Any, **_options: Any) -> Any:
        return self.found

    def delete(self, path: str) -> bool:
        self.deleted.append(path)
        return True


class NoUsers:
    """Nothing on the host uses anything."""

    def __init__(self, *_arguments: Any) -> None:
        pass

    def domains_on(self, _path: str) -> set[str]:
        return set()

    def images_on(self, _path: str) -> set[str]:
        return set()


def bench(monkeypatch: pytest.MonkeyPatch, **found: Any) -> tuple[Any, DiskRecord]:
    """A domain that uses no overlay, and the record of a snapshot that was to have one."""
    monkeypatch.setattr(_chain, 'Users', NoUsers)
    host = SimpleNamespace(pools=Pools(**found), connection=None)
    domain = SimpleNamespace(name='web', host=host, read=lambda: SimpleNamespace(disks=[]))
    source = BackupSource(xml='<source/>', type='file', path='/i/web', format='qcow2')
    volume = Volume(OVERLAY, 'web.s1.qcow2', 'qcow2', capacity=4096)
    return domain, DiskRecord('vda', 'qemu', '', ORIGINAL, None, source, [volume])


def test_a_file_that_is_not_our_overlay_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was killed before it made its own may have left the name to someone else."""
    domain, record = bench(monkeypatch, format='raw', backing_path=None, capacity=0)
    _undo.undo_overlays(domain, [record])
    assert domain.host.pools.deleted == []


def test_an_overlay_that_came_out_wrong_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """This run made it, whatever it looks like now."""
    domain, record = bench(monkeypatch, format='raw', backing_path=None, capacity=0)
    with pytest.raises(DiskSnapError, match='came out with 0 bytes'):
        _overlay.create(domain, record)
    _undo.undo_overlays(domain, [record])
    assert domain.host.pools.deleted == [OVERLAY]
