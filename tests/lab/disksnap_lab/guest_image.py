# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guest's kernel and initramfs, built from Debian packages and kept under a content hash."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import packages
from .commands import require, run
from .errors import LabError
from .initramfs import Archive, Modules, find_file, needed_libraries, stripped
from .paths import SOURCE, locked, make_root, root

_RECIPE = ['guest/init', 'guest/shutdown', 'guest/writer.c']
_RECIPE += [f'disksnap_lab/{name}.py' for name in ('guest_image', 'initramfs', 'packages')]
# crc32c is what ext4 and libcrc32c ask the kernel's crypto layer for at run time, without a declared dependency.
_CRC = ['crc32c_generic', 'crc32c']
_MODULES = {
    'base': ['virtio_pci', 'virtio_blk', 'virtio_console'],
    'ext4': [*_CRC, 'ext4'],
    'xfs': [*_CRC, 'xfs'],
}
_LIBRARY_DIR = 'lib/x86_64-linux-gnu'


@dataclass(frozen=True)
class GuestImage:
    """One built guest: directory guest/HASH."""

    directory: Path

    @property
    def kernel(self) -> Path:
        """The kernel to boot."""
        return self.directory / 'vmlinuz'

    def initrd(self, xfs: bool = False) -> Path:
        """Its initramfs; with the xfs module it takes 16 MiB more memory to boot."""
        return self.directory / ('initrd-xfs' if xfs else 'initrd')

    @property
    def disks(self) -> Path:
        """Where base_disks keeps empty file systems."""
        return self.directory / 'disks'


def _recipe_hash() -> str:
    digest = hashlib.sha256()
    for name in _RECIPE:
        digest.update(name.encode() + b'\0' + (SOURCE / name).read_bytes())
    return digest.hexdigest()[:16]


def _index_stamp() -> str:
    """Changes when apt's package index does. Asking apt itself takes seconds, this takes none."""
    lists = Path('/var/lib/apt/lists')
    stamps = [entry.stat().st_mtime_ns for entry in os.scandir(lists)] if lists.is_dir() else []
    return f'{len(stamps)}:{max(stamps, default=0)}'


def guest_image() -> GuestImage:
    """The guest for the package versions that apt has now; built when it isn't there yet (some 20 s)."""
    make_root()
    recipe = _recipe_hash()
    resolved = root() / 'guest' / 'resolved.json'
    stamp = {'recipe': recipe, 'index': _index_stamp()}
    with locked(root() / 'guest' / 'lock', timeout=300):
        known = json.loads(resolved.read_text(encoding='utf-8')) if resolved.exists() else {}
        if known.get('stamp') == stamp and (root() / 'guest' / known['name'] / 'vmlinuz').exists():
            return GuestImage(root() / 'guest' / known['name'])
        versions = packages.resolve()
        name = hashlib.sha256(json.dumps([recipe, sorted(versions.items())]).encode()).hexdigest()[:16]
        image = GuestImage(root() / 'guest' / name)
        if not image.kernel.exists():
            _build(image, versions)
        resolved.write_text(json.dumps({'stamp': stamp, 'name': name}), encoding='utf-8')
        return image


def _build(image: GuestImage, versions: dict[str, str]) -> None:
    """Build beside the final place and rename, so that a half-built guest is never used."""
    for program in ('apt-get', 'dpkg-deb', 'gcc', 'readelf', 'strip'):
        require(program)
    with tempfile.TemporaryDirectory(dir=root() / 'guest', prefix='build-') as scratch:
        work = Path(scratch)
        tree = packages.unpack(versions, work)
        run(['gcc', '-O2', '-static', '-o', work / 'writer', SOURCE / 'guest' / 'writer.c'])
        result = work / 'result'
        (result / 'disks').mkdir(parents=True)
        kernels = sorted(tree.glob('boot/vmlinuz-*'))
        if len(kernels) != 1:
            raise LabError(f'Expected one kernel in the Debian packages, found {len(kernels)}')
        shutil.copyfile(kernels[0], result / 'vmlinuz')
        base, with_xfs = _initramfs(tree, work / 'writer')
        (result / 'initrd').write_bytes(base)
        (result / 'initrd-xfs').write_bytes(with_xfs)
        (result / 'manifest.json').write_text(json.dumps(versions, indent=1, sort_keys=True), encoding='utf-8')
        for path in result.iterdir():
            path.chmod(0o755 if path.is_dir() else 0o644)
        result.chmod(0o755)
        shutil.rmtree(image.directory, ignore_errors=True)
        result.rename(image.directory)


def _initramfs(tree: Path, writer: Path) -> tuple[bytes, bytes]:
    """Without and with xfs. The kernel unpacks archives one after the other, so the second is the first and more."""
    archive = Archive()
    for directory in ('proc', 'sys', 'dev', 'run', 'tmp', 'mnt', 'root', 'var', 'sbin'):
        archive.directory(directory)
    _add_programs(archive, tree, writer)
    modules = Modules(tree)
    scratch = writer.with_name('module.ko')
    for group in ('base', 'ext4'):
        _add_modules(archive, group, modules, scratch)
    xfs = Archive()
    _add_modules(xfs, 'xfs', modules, scratch)
    base = archive.compressed()
    return base, base + b'\0' * (-len(base) % 4) + xfs.compressed()


def _add_programs(archive: Archive, tree: Path, writer: Path) -> None:
    busybox = find_file(tree, 'busybox')
    archive.file('bin/busybox', busybox.read_bytes())
    for applet in run([busybox, '--list']).stdout.split():
        if applet != 'busybox':
            archive.symlink(f'bin/{applet}', 'busybox')
    agent = find_file(tree, 'qemu-ga')
    archive.file('bin/qemu-ga', agent.read_bytes())
    for name, path in sorted(needed_libraries(tree, agent).items()):
        archive.file(f'{_LIBRARY_DIR}/{name}', path.read_bytes())
    archive.symlink('lib64', _LIBRARY_DIR)
    archive.file('bin/writer', writer.read_bytes())
    archive.file('sbin/shutdown', (SOURCE / 'guest' / 'shutdown').read_bytes())
    archive.file('init', (SOURCE / 'guest' / 'init').read_bytes())


def _add_modules(archive: Archive, group: str, modules: Modules, scratch: Path) -> None:
    """The modules themselves, and modules/GROUP.order: the order to load them in."""
    order = modules.load_order(_MODULES[group], optional=tuple(_CRC))
    for name, code in order.items():
        archive.file(f'modules/{name}.ko', stripped(code, scratch), 0o644)
    archive.file(f'modules/{group}.order', ''.join(f'{name}.ko\n' for name in order).encode(), 0o644)
