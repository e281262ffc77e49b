# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an audit believes and says of images, on files with made-up headers and on domains that are nothing but XML."""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import (
    _audit,
    _audit_chain,
    _audit_guests,
    _audit_orphans,
    _images,
    _survey,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._paths import is_device
from ansible_collections.disksnap.libvirt.plugins.module_utils._problem import Problem
from ansible_collections.disksnap.libvirt.plugins.module_utils._storage import Storage
from ansible_collections.disksnap.libvirt.plugins.module_utils._survey import DomainView, Survey
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import read_domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.volume import PoolInfo, VolumeInfo


class Pools:
    """No pool at all, on this machine."""

    def active(self) -> list[Any]:
        return []

    def canonical(self, path: str) -> str:
        return os.path.realpath(path)


class Handle:
    """As much of a virDomain as is asked for."""

    def __init__(self, backup: str | None) -> None:
        self._backup = backup

    def backupGetXMLDesc(self, _flags: int) -> str:
        if self._backup is None:
            raise libvirt.libvirtError('none')
        return self._backup


def qcow2(path: Path, backing: Path | str | None = None, format_: str | None = None, size: int = 1 << 20) -> Path:
    """A file that begins as a qcow2 image does."""
    name = str(backing).encode() if backing else b''
    kind = (format_ or '').encode()
    extension = struct.pack('>II', 0xE2792ACA, len(kind)) + kind.ljust(-(-len(kind) // 8) * 8, b'\0') if kind else b''
    data = extension + bytes(8) + name
    start = struct.pack('>4sIQIIQ', b'QFI\xfb', 3, 104 + len(extension) + 8 if name else 0, len(name), 16, size)
    path.write_bytes((start.ljust(100, b'\0') + struct.pack('>I', 104) + data).ljust(4096, b'\0'))
    return path


def disk(path: Path, kind: str = 'qcow2', target: str = 'vda', more: str = '') -> str:
    return (
        f'<disk type="file" device="disk"><driver name="qemu" type="{kind}"/><source file="{path}"/>{more}'
        f'<target dev="{target}"/></disk>'
    )


def view(
    name: str, disks: str, *, later: str | None = None, state: str = 'off', backup: str | None = None
) -> DomainView:
    def domain(inside: str) -> str:
        return f'<domain><name>{name}</name><uuid>{name}</uuid><devices>{inside}</devices></domain>'

    text = domain(disks)
    found = DomainView(Handle(backup), name, name, state, text, read_domain(text))
    if later is not None:
        found.later = read_domain(domain(later))
    return found


def host(*views: DomainView) -> Survey:
    storage = Storage(Pools(), local=True)  # type: ignore[arg-type]
    _survey._add_disks(views, storage)
    return Survey(SimpleNamespace(local=False), storage, list(views))  # type: ignore[arg-type]


def problems(found: Survey) -> list[Problem]:
    of_domains = [
        one
        for view in found.domains
        for look in (_audit_chain.chains, _audit_chain.definitions)
        for one in look(view, found.storage)
    ]
    return of_domains + [problem for _owner, problem in _audit_orphans.orphans(found)]


# -- headers that a guest wrote --------------------------------------------------------------------------------------


@pytest.mark.parametrize('state', ['off', 'running'])
def test_a_raw_disk_with_a_header_by_its_guest(state: str, tmp_path: Path) -> None:
    """Nothing that the header names counts for anybody, and nobody is told to believe it."""
    others = qcow2(tmp_path / 'others.qcow2')
    raw = qcow2(tmp_path / 'guest.raw', others, 'qcow2', size=1 << 40)
    found = host(view('evil', disk(raw, 'raw'), state=state), view('other', disk(others)))
    [problem] = problems(found)
    assert (problem.code, problem.path) == ('image_format', str(raw))
    assert problem.message.endswith('begins as qcow2 does.')
    assert 'Correct' not in problem.remedy
    assert 'may have written this header' in problem.remedy
    [layer] = found.domains[0].disks[0].layers
    assert layer.image is not None
    assert (layer.image.info.format, layer.image.info.backing_path, layer.image.info.capacity) == ('raw', None, 4096)
    assert [image.info.backing_path for image in found.storage.all()] == [None, None]


def test_a_header_by_a_guest_below_an_overlay(tmp_path: Path) -> None:
    raw = qcow2(tmp_path / 'guest.raw', '/etc/shadow', 'raw')
    top = qcow2(tmp_path / 'top.qcow2', raw, 'raw')
    found = host(view('evil', disk(top)))
    [problem] = problems(found)
    assert (problem.code, problem.path) == ('backing_format', str(raw))
    assert 'rebase' not in problem.remedy
    assert [layer.path for layer in found.domains[0].disks[0].layers] == [str(top), str(raw)]


def test_a_copy_of_such_a_disk_is_raw_by_the_journal(tmp_path: Path) -> None:
    base = qcow2(tmp_path / 'base.qcow2')
    copy = qcow2(tmp_path / 'copy.raw', base, 'qcow2')
    record = SimpleNamespace(
        volumes=[SimpleNamespace(path=str(copy), format='raw')],
        backup_source=SimpleNamespace(path=str(copy), format='raw'),
        backing=[],
    )
    web = view('web', disk(base))
    web.journal.snapshots['s1'] = SimpleNamespace(disks=[record])  # type: ignore[assignment]
    found = host(web)
    image = found.storage.find(str(copy))
    assert image is not None
    assert (image.info.backing_path, image.claims) == (None, 'qcow2')


def test_a_header_that_a_running_guest_did_not_write(tmp_path: Path) -> None:
    """One definition of two is wrong: what runs it as qcow2 is believed."""
    base = qcow2(tmp_path / 'base.qcow2')
    top = qcow2(tmp_path / 'top.qcow2', base, 'qcow2')
    below = f'<backingStore type="file"><format type="qcow2"/><source file="{base}"/><backingStore/></backingStore>'
    found = host(view('web', disk(top, more=below), later=disk(top, 'raw'), state='running'))
    codes = [(one.code, one.path) for one in problems(found)]
    assert codes == [('definitions_differ', str(top)), ('image_format', str(top))]
    image = found.storage.find(str(top))
    assert image is not None
    assert image.info.backing_path == str(base)


def test_a_header_that_a_running_guest_may_have_written(tmp_path: Path) -> None:
    raw = qcow2(tmp_path / 'guest.raw', '/etc/shadow', 'raw')
    found = host(view('evil', disk(raw, 'raw'), later=disk(raw, 'qcow2'), state='running'))
    said = problems(found)
    assert [one.code for one in said] == ['image_format', 'definitions_differ']
    assert 'Set the type of the <driver> to raw' in said[1].remedy
    image = found.storage.find(str(raw))
    assert image is not None
    assert image.info.backing_path is None


def test_a_qcow2_disk_that_is_raw(tmp_path: Path) -> None:
    raw = tmp_path / 'disk'
    raw.write_bytes(bytes(4096))
    [problem] = problems(host(view('web', disk(raw))))
    assert problem.code == 'image_format'
    assert 'does not start so' in problem.remedy


# -- definitions that differ ----------------------------------------------------------------------------------------


def test_disks_in_one_definition_only(tmp_path: Path) -> None:
    one, two, three = (qcow2(tmp_path / name) for name in ('one', 'two', 'three'))
    live = disk(one) + disk(two, target='vdb')
    found = host(view('web', live, later=disk(one) + disk(three, target='vdc'), state='running'))
    said = problems(found)
    assert [(problem.code, problem.disk, problem.path) for problem in said] == [
        ('definitions_differ', 'vdb', str(two)),
        ('definitions_differ', 'vdc', str(three)),
    ]
    assert 'will not be there at its next start' in said[0].message
    assert 'is not attached' in said[1].message


def test_definitions_that_agree(tmp_path: Path) -> None:
    one = qcow2(tmp_path / 'one')
    cdrom = '<disk type="file" device="cdrom"><target dev="sda"/></disk>'
    assert problems(host(view('web', disk(one) + cdrom, later=disk(one), state='running'))) == []


# -- orphans ---------------------------------------------------------------------------------------------------------


def test_the_target_of_a_block_copy_is_no_orphan(tmp_path: Path) -> None:
    base = qcow2(tmp_path / 'base.qcow2')
    top, copy = (qcow2(tmp_path / name, base, 'qcow2') for name in ('top.qcow2', 'copy.qcow2'))
    below = f'<backingStore type="file"><format type="qcow2"/><source file="{base}"/><backingStore/></backingStore>'
    mirror = f'<mirror type="file" job="copy" ready="yes"><format type="qcow2"/><source file="{copy}"/></mirror>'
    assert problems(host(view('web', disk(top, more=below + mirror), state='running'))) == []
    orphaned = problems(host(view('web', disk(top, more=below), state='running')))
    assert [(one.code, one.path) for one in orphaned] == [('orphaned_overlay', str(copy))]


def test_what_a_backup_writes_to_is_no_orphan(tmp_path: Path) -> None:
    top = qcow2(tmp_path / 'top.qcow2')
    scratch, push = (qcow2(tmp_path / name, top, 'qcow2') for name in ('scratch', 'push'))
    told = (
        f'<domainbackup><disks><disk name="vda"><scratch file="{scratch}"/></disk>'
        f'<disk name="vdb"><target file="{push}"/></disk></disks></domainbackup>'
    )
    assert problems(host(view('web', disk(top), state='running', backup=told))) == []
    assert len(problems(host(view('web', disk(top), state='running')))) == 2
    assert len(problems(host(view('web', disk(top), backup=told)))) == 2  # no backup outlives the domain


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Survey]]:
    """Hosts that an audit finds one after the other."""
    hosts: list[Survey] = []

    def play(*found: Survey) -> list[Survey]:
        hosts[:] = found
        return hosts

    monkeypatch.setattr(_audit, 'Pools', lambda *_args: contextlib.nullcontext())
    monkeypatch.setattr(_audit, 'survey', lambda _host: hosts.pop(0))
    monkeypatch.setattr(_audit, 'changed', lambda _view: False)
    monkeypatch.setattr(_audit_guests, 'frozen', lambda _views: {})
    return play


def test_an_orphan_must_be_seen_twice(rounds: Any, tmp_path: Path) -> None:
    """An overlay on a base that two guests share, whose domain was defined while the host was read."""
    base = qcow2(tmp_path / 'base.qcow2')
    tops = [qcow2(tmp_path / f'{name}.qcow2', base, 'qcow2') for name in ('one', 'two', 'three')]
    views = [view(top.stem, disk(top)) for top in tops]
    some, whole = host(*views[:2]), host(*(view(top.stem, disk(top)) for top in tops))
    asked: Any = SimpleNamespace(connection=None, uri='test')
    left = rounds(some, whole, whole)
    assert _audit.audit(asked).elsewhere == []
    assert left == []  # the second look differed from the first one
    left = rounds(some, host(*(view(top.stem, disk(top)) for top in tops[:2])), whole)
    [orphan] = _audit.audit(asked).elsewhere
    assert (orphan.code, orphan.path) == ('orphaned_overlay', str(tops[2]))
    assert len(left) == 1
    left = rounds(whole, whole)
    assert _audit.audit(asked).elsewhere == []
    assert len(left) == 1  # a host without orphans is read once


def test_nothing_is_said_of_a_domain_at_work(rounds: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    base = qcow2(tmp_path / 'base.qcow2')
    top = qcow2(tmp_path / 'top.qcow2', base, 'qcow2')
    found = host(view('writer', disk(base), state='running'), view('reader', disk(top)))
    asked: Any = SimpleNamespace(connection=None, uri='test')
    rounds(found)
    assert [one.code for one in _audit.audit(asked).problems['reader']] == ['base_written']
    found.host.local = True  # type: ignore[misc]
    monkeypatch.setattr(_audit, 'busy', lambda uuid: uuid == 'reader')
    monkeypatch.setattr(_audit_guests, 'lost', lambda _views: {})
    rounds(found)
    assert _audit.audit(asked).problems == {}


# -- what is read, and from where ------------------------------------------------------------------------------------


class Pool:
    """A directory pool, of which libvirt is not to be asked but where this user may not read a file of it."""

    def __init__(self, directory: Path, volumes: list[VolumeInfo] | None = None) -> None:
        self.info = PoolInfo('default', None, 'dir', str(directory), None, 0, 0)
        self.volumes = volumes

    def active(self) -> list[Any]:
        return [(self, self.info)]

    def volumes_of(self, _pool: Any, _info: PoolInfo) -> list[VolumeInfo]:
        assert self.volumes is not None
        return self.volumes

    def canonical(self, path: str) -> str:
        return os.path.realpath(path)


def test_a_pool_on_this_machine_is_read_as_a_directory(tmp_path: Path) -> None:
    image = qcow2(tmp_path / 'disk.qcow2')
    os.mkfifo(tmp_path / 'fifo')
    (tmp_path / 'link').symlink_to(image)
    storage = Storage(Pool(tmp_path), local=True)  # type: ignore[arg-type]
    [found] = storage.all()
    assert (found.pool, found.info.capacity) == ('default', 1 << 20)
    assert storage.find(str(tmp_path / 'link')) == storage.find(str(image)) == found
    assert storage.volume_path('default', 'disk.qcow2') == str(image)
    [pool] = storage.pools
    assert pool.capacity > pool.available > 0
    assert storage.missing(str(tmp_path / 'gone'))


def test_a_pool_that_this_user_may_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    image = qcow2(tmp_path / 'disk.qcow2')
    theirs = _images.describe(str(image))

    def denied(_path: str) -> VolumeInfo:
        raise PermissionError

    monkeypatch.setattr(_images, 'describe', denied)
    storage = Storage(Pool(tmp_path, [theirs]), local=True)  # type: ignore[arg-type]
    assert [one.info for one in storage.all()] == [theirs]


@pytest.mark.parametrize(
    ('path', 'device'),
    [
        ('/dev/vg0/web', True),
        ('/dev/sda', True),
        ('/dev/mapper/vg0-web', True),
        ('/dev/shm/web.qcow2', False),
        ('/devel/web.qcow2', False),
        ('/srv/dev/web', False),
    ],
)
def test_what_is_a_device(path: str, device: bool) -> None:
    assert is_device(path) is device


@pytest.mark.parametrize('place', ['/dev/shm', '/'])
def test_images_in_directories_that_are_called_like_devices(place: str) -> None:
    with tempfile.TemporaryDirectory(prefix='devel', dir=place) as directory:
        image = qcow2(Path(directory) / 'disk.qcow2')
        storage = Storage(Pools(), local=True)  # type: ignore[arg-type]
        assert storage.find(str(image)) is not None
        assert storage.missing(f'{image}.gone')
        assert problems(host(view('web', disk(image)))) == []


def test_sizes_of_layers_without_a_path() -> None:
    """libvirt tells no path of a layer in the network, but the disk and the index of each."""
    source = '<source protocol="nbd" name="{}" index="{}"><host transport="unix" socket="/s"/></source>'
    xml = (
        f'<disk type="network" device="disk"><driver name="qemu" type="qcow2"/>{source.format("top", 2)}'
        f'<backingStore type="network"><format type="raw"/>{source.format("base", 1)}<backingStore/></backingStore>'
        '<target dev="vda"/></disk>'
    )
    web = host(view('web', xml, state='running')).domains[0]
    stats: dict[str, Any] = {'block.count': 3}
    for number, (index, capacity) in enumerate(((2, 100), (1, 90), (7, 80))):
        for name, value in (('name', 'vda'), ('backingIndex', index), ('capacity', capacity), ('allocation', 7)):
            stats[f'block.{number}.{name}'] = value
    assert _survey._sizes(stats, web.disks) == {'nbd://unix:/s/top': (100, 7), 'nbd://unix:/s/base': (90, 7)}
    local = {'block.count': 1, 'block.0.path': '/dev/vg/thin', 'block.0.capacity': 5}
    assert _survey._sizes(local, []) == {'/dev/vg/thin': (5, 0)}
