# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No name of a domain, disk, volume or file, whatever it is made of, leads out of its pool or its directory."""

from __future__ import annotations

import posixpath
import typing as t
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from ansible_collections.disksnap.libvirt.plugins.module_utils import (
    _copies,
    _logical,
    _lvm_rules,
    _merge_checks,
    _mounts,
    _overlay,
    _place,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_model import MergeOptions
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.base import Subject
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.btrfs import BtrfsMethod
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.qemu import QemuMethod
from ansible_collections.disksnap.libvirt.plugins.module_utils._pool import Pools
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import (
    Disk,
    Source,
    read_domain,
    refusal_reason,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import from_options

POOL, IMAGES = '/srv/pool', '/srv/images'
# what XML can hold, as a domain's definition is XML
LETTERS = st.characters(exclude_categories=['Cs', 'Cc'], exclude_characters='\ufffe\uffff')
EVIL = st.sampled_from(
    [
        *('..', '.', '/', '../x', '/etc/passwd', 'vda/../../x', '..\n', '-rf', '~root', '$(x)', '`x`', ';x', 'a b'),
        *("'", '"', '%2e%2e%2f', '\u2025/', '\uff0e\uff0e\uff0f', '\u202e', 'x' * 300),
    ]
)
NAME = EVIL | st.text(LETTERS, min_size=1, max_size=8) | st.builds('{}{}'.format, EVIL, EVIL)


def disk_of(target: str, image: str = f'{IMAGES}/a', kind: str = 'file') -> Disk:
    """A disk as the XML of a domain has it."""
    element = etree.Element('disk', type=kind, device='disk')
    etree.SubElement(element, 'driver', name='qemu', type='qcow2')
    etree.SubElement(element, 'source', {'dev' if kind == 'block' else 'file': image})
    etree.SubElement(element, 'target', dev=target, bus='virtio')
    domain = etree.Element('domain')
    etree.SubElement(domain, 'devices').append(element)
    [disk] = read_domain(etree.tostring(domain, encoding='unicode')).disks
    return disk


def domain_of(name: str) -> t.Any:
    """A domain on a host with one pool."""
    pools = SimpleNamespace(
        by_name=lambda _name: (None, SimpleNamespace(type='dir', path=POOL)),
        available=lambda _directory: 1 << 40,
        pool_name_of=lambda _path: None,
    )
    return SimpleNamespace(name=name, host=SimpleNamespace(pools=pools, local=True))


def inside(path: str, directory: str) -> bool:
    """Whether a path names something right in a directory."""
    return posixpath.dirname(path) == directory and posixpath.normpath(path) == path


def attempt(make: t.Callable[[], t.Any]) -> tuple[str, str]:
    """The path that is made of names, and the error where none is."""
    try:
        made = make()
    except DiskSnapError as error:
        return '', str(error)
    return made[0] if isinstance(made, tuple) else made, ''


@given(NAME, NAME, st.booleans())
def test_a_file_named_after_domain_and_disk_stays_in_its_directory(name: str, target: str, in_pool: bool) -> None:
    disk = disk_of(target)
    method = from_options({'method': 'qemu', 'pool': 'p' if in_pool else None}, 'auto')
    subject = Subject(domain_of(name), False, 's1')
    path, error = attempt(lambda: QemuMethod()._place(subject, disk, method))

    assert f'(domain {name}, disk {target})' in error or inside(path, POOL if in_pool else IMAGES)


@given(NAME, st.booleans())
def test_a_file_that_the_task_names_stays_in_its_pool(file: str, in_pool: bool) -> None:
    subject = Subject(domain_of('web'), False, 's1')

    def place() -> t.Any:
        method = from_options({'target': 'vda', 'file': file, 'pool': 'p' if in_pool else None}, 'qemu')
        return QemuMethod()._place(subject, disk_of('vda'), method)

    path, error = attempt(place)
    if error:
        assert 'disk vda' in error
        assert 'file' in error
    else:
        assert inside(path, POOL if in_pool else posixpath.dirname(file) if file.startswith('/') else IMAGES)


@given(NAME)
def test_a_subvolume_named_after_the_domain_stays_beside_it(name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_mounts, 'mount_of', lambda _path: SimpleNamespace(point='/srv'))
        patch.setattr(_copies, 'refuse_elsewhere', lambda *_all: None)
        subject = Subject(domain_of(name), False, 's1')
        path, error = attempt(lambda: BtrfsMethod()._place(subject, disk_of('vda'), from_options({}, 'btrfs'), IMAGES))
    assert f'(domain {name}, disk vda)' in error or inside(path, '/srv')


@given(NAME)
def test_a_volume_named_after_the_domain_is_one_that_lvm_takes(name: str) -> None:
    made = _lvm_rules.snapshot_name('lv', 's1', name)
    fault = _lvm_rules.name_fault('vg', made)

    assert fault or inside(f'/dev/vg/{made}', '/dev/vg')
    assert not made.startswith('-')


@pytest.mark.parametrize('target', ['vda/../../x', 'vda/x'])
def test_a_target_that_leads_out_is_named(target: str) -> None:
    """libvirt takes it from a disk that has an address."""
    domain = domain_of('web')
    with pytest.raises(DiskSnapError, match='a file name has no "/"'):
        _place.place(domain, disk_of(target), from_options({}, 'qemu'), f'web-{target}.s1', 'x', beside=IMAGES)


# -- what the XML of a domain names -------------------------------------------------------------------------------


def logical(_name: str) -> t.Any:
    """A volume group's pool that is not active."""
    xml = '<pool type="logical"><name>p</name><source><name>vg</name></source></pool>'
    return SimpleNamespace(XMLDesc=lambda _flags: xml, isActive=lambda: 0)


@given(NAME | st.just(''))
def test_a_volume_stays_in_its_pool(volume: str) -> None:
    connection: t.Any = SimpleNamespace(storagePoolLookupByName=logical)
    source = Source(type='volume', format='raw', pool='p', volume=volume)
    for path_of in (
        lambda: Pools(connection, 'qemu:///system').volume_path('p', volume),
        lambda: _logical.device_of(connection, source),
    ):
        path, error = attempt(path_of)
        assert f'{volume!r} of the storage pool p' in error or inside(path, '/dev/vg')


@pytest.mark.parametrize(('kind', 'image'), [('file', 'a.qcow2'), ('file', '-b'), ('block', 'nbd:x'), ('file', '')])
def test_an_image_without_an_absolute_path_is_taken_by_nothing(kind: str, image: str) -> None:
    disk = disk_of('vda', image, kind)

    assert 'no absolute path' in (refusal_reason(disk) or '')
    handle = SimpleNamespace(hasManagedSaveImage=lambda _flags: 0)
    reading: t.Any = SimpleNamespace(
        domain=SimpleNamespace(name='web', handle=handle, host=SimpleNamespace(local=True)),
        chain=disk.chain,
        disk=disk,
        error=lambda why, hint=None: DiskSnapError('Failed to plan', domain='web', disk='vda', why=why, hint=hint),
    )
    with pytest.raises(DiskSnapError, match='absolute path'):
        _merge_checks._check_offline(reading, t.cast(t.Any, None), MergeOptions())


@pytest.mark.parametrize(
    ('name', 'hosts', 'expected'),
    [
        ('x', ('h:10809',), 'nbd://h:10809/x'),
        ('/x', ('[::1]:10809',), 'nbd://[::1]:10809/x'),
        ('x?socket=/run/other', ('h',), 'nbd://h/x%3Fsocket%3D/run/other'),
        ('a%2fb#c', ('h',), 'nbd://h/a%252fb%23c'),
        ('x', ('unix:/run/a&b',), 'nbd+unix:///x?socket=/run/a%26b'),
        ('x', ('h/y?',), 'nbd://h%2Fy%3F/x'),
    ],
)
def test_an_export_is_named_by_its_whole_name(name: str, hosts: tuple[str, ...], expected: str) -> None:
    """What the header of an overlay says must not lead QEMU to another export, or to another server."""
    source = Source(type='network', format='raw', protocol='nbd', name=name, hosts=hosts)

    assert _overlay._header_name(source) == expected
