# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parts of the guest that are made without Debian's packages at hand."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest

pytest.importorskip('libvirt')

from disksnap_lab import LabError, packages
from disksnap_lab.initramfs import Archive, Modules
from disksnap_lab.paths import LabPaths


def test_archive_is_the_newc_format() -> None:
    archive = Archive()
    archive.file('bin/deep/tool', b'12345', 0o755)
    archive.symlink('init', 'bin/deep/tool')
    data = gzip.decompress(archive.compressed())
    names = []
    place = 0
    while True:
        assert data[place : place + 6] == b'070701'
        size, name_size = int(data[place + 54 : place + 62], 16), int(data[place + 94 : place + 102], 16)
        names.append(data[place + 110 : place + 110 + name_size - 1].decode())
        place += 110 + name_size
        place += -place % 4 + size
        place += -place % 4
        if names[-1] == 'TRAILER!!!':
            break
    assert names == ['bin', 'bin/deep', 'bin/deep/tool', 'init', 'TRAILER!!!']


def test_archive_is_reproducible() -> None:
    one, other = Archive(), Archive()
    for archive in (one, other):
        archive.file('init', b'x')
    assert one.compressed() == other.compressed()


def _module(tree: Path, name: str, depends: str) -> None:
    code = b'ELF\0license=GPL\0depends=' + depends.encode() + b'\0name=x\0'
    if name.endswith('.xz'):
        code = lzma.compress(code)
    (tree / name).write_bytes(code)


def test_modules_come_after_what_they_depend_on(tmp_path: Path) -> None:
    tree = tmp_path / 'usr/lib/modules/6.12'
    tree.mkdir(parents=True)
    (tree / 'modules.builtin').write_text('kernel/fs/ext4/ext4.ko\nkernel/lib/crc-base.ko\n')
    _module(tree, 'xfs.ko.xz', 'libcrc32c,crc-base')
    _module(tree, 'libcrc32c.ko', '')
    modules = Modules(tmp_path)
    assert list(modules.load_order(['crc32c_generic', 'ext4', 'xfs'], optional=('crc32c_generic',))) == [
        'libcrc32c',
        'xfs',
    ]
    with pytest.raises(LabError, match='no module btrfs'):
        modules.load_order(['btrfs'])


CONTROL = {
    'linux-image-cloud-amd64': 'Version: 6.2\nDepends: linux-image-6.1.0-9-cloud-amd64 (= 6.2)',
    'linux-image-6.1.0-9-cloud-amd64': 'Version: 6.2\nDepends: kmod, linux-base (>= 4.3)',
    'busybox-static': 'Version: 1.35',
    'qemu-guest-agent': 'Version: 7.2\nDepends: libc6 (>= 2.34), libglib2.0-0 (>= 2) | libglib2.0-0t64, lsb-base',
    'libc6': 'Version: 2.36\nDepends: libgcc-s1',
    'libglib2.0-0': 'Version: 2.74\nDepends: libc6:any (>= 2.34)',
    'libgcc-s1': 'Version: 12\nDepends: gcc-12-base, libc6 (>= 2.35)',
}


def _stanzas(names: set[str]) -> dict[str, dict[str, str]]:
    found = {}
    for name in names & CONTROL.keys():
        fields = dict(line.split(': ', 1) for line in CONTROL[name].splitlines())
        found[name] = {'Package': name, **fields}
    return found


def test_packages_of_a_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, '_stanzas', _stanzas)
    chosen = packages.resolve()
    assert chosen.keys() == CONTROL.keys() - {'linux-image-cloud-amd64'}
    assert chosen['libgcc-s1'] == '12'


def test_no_package_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, '_stanzas', lambda _names: {})
    with pytest.raises(LabError, match='run apt-get update first'):
        packages.resolve()


def test_uri_is_quoted_and_sockets_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('DISKSNAP_LAB_ROOT', '/a b')
    assert LabPaths('x').uri == 'qemu:///system?socket=/a%20b/labs/x/run/libvirt/libvirt-sock'
    LabPaths('x').check_length()
    monkeypatch.setenv('DISKSNAP_LAB_ROOT', '/' + 'x' * 90)
    with pytest.raises(LabError, match='DISKSNAP_LAB_ROOT'):
        LabPaths('x').check_length()


@pytest.mark.parametrize('name', ['', '../x', 'A', '-x', 'x' * 25])
def test_lab_names(name: str) -> None:
    with pytest.raises(LabError, match='Lab name'):
        LabPaths(name)
