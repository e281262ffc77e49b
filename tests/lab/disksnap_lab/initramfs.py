# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write an initramfs: a "newc" cpio archive made in memory, and what has to go into it."""

from __future__ import annotations

import gzip
import lzma
import re
import stat
from pathlib import Path

from .commands import run
from .errors import LabError


class Archive:
    """A growing cpio archive; parent directories are added by themselves."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._names: set[str] = set()

    def _entry(self, name: str, mode: int, data: bytes) -> None:
        parent = name.rpartition('/')[0]
        if parent and parent not in self._names:
            self.directory(parent)
        self._names.add(name)
        encoded = name.encode() + b'\0'
        fields = [len(self._names), mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0]
        head = b'070701' + b''.join(b'%08X' % field for field in fields) + encoded
        self._parts += [head, b'\0' * (-len(head) % 4), data, b'\0' * (-len(data) % 4)]

    def directory(self, name: str) -> None:
        """Add an empty directory."""
        if name not in self._names:
            self._entry(name, stat.S_IFDIR | 0o755, b'')

    def file(self, name: str, data: bytes, mode: int = 0o755) -> None:
        """Add a regular file."""
        self._entry(name, stat.S_IFREG | mode, data)

    def symlink(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def compressed(self) -> bytes:
        """The whole archive, gzipped (reproducible: no time in it)."""
        self._entry('TRAILER!!!', 0, b'')
        return gzip.compress(b''.join(self._parts), compresslevel=6, mtime=0)


def find_file(tree: Path, name: str) -> Path:
    """The file of this name in an unpacked tree, wherever a Debian release puts it (/bin or /usr/bin, ...)."""
    for path in sorted(tree.rglob(name)):
        if path.is_file():
            return path
    raise LabError(f'No file {name} in the unpacked Debian packages')


def needed_libraries(tree: Path, program: Path) -> dict[str, Path]:
    """Library name -> file, of all shared libraries a program needs, the loader included."""
    found: dict[str, Path] = {}
    todo = [program]
    while todo:
        text = run(['readelf', '-d', '-l', todo.pop()]).stdout
        names = re.findall(r'\(NEEDED\).*\[(.+?)\]', text) + re.findall(r'interpreter: \S*/([^\s/\]]+)\]', text)
        for name in names:
            if name not in found:
                found[name] = find_file(tree, name).resolve()
                todo.append(found[name])
    return found


class Modules:
    """Kernel modules of an unpacked kernel package, with what they depend on."""

    def __init__(self, tree: Path) -> None:
        builtin = sorted(tree.rglob('modules.builtin'))
        if not builtin:
            raise LabError('No modules.builtin in the unpacked kernel package')
        self._builtin = {_module_name(Path(line)) for line in builtin[0].read_text(encoding='utf-8').split()}
        self._files = {_module_name(path): path for path in builtin[0].parent.rglob('*.ko*')}

    def load_order(self, wanted: list[str], optional: tuple[str, ...] = ()) -> dict[str, bytes]:
        """Module -> code, in an order that can be loaded; what is built in is left out."""
        order: dict[str, bytes] = {}
        for name in wanted:
            if name in optional and name not in self._builtin and name not in self._files:
                continue
            self._add(name, order)
        return order

    def _add(self, name: str, order: dict[str, bytes]) -> None:
        if name in order or name in self._builtin:
            return
        if name not in self._files:
            raise LabError(f'The kernel package has no module {name}')
        code = _decompressed(self._files[name])
        depends = re.search(rb'\0depends=([^\0]*)\0', code)
        for other in (depends.group(1).decode() if depends else '').split(','):
            if other:
                self._add(_module_name(Path(other)), order)
        order[name] = code


def stripped(code: bytes, scratch: Path) -> bytes:
    """A module without debug and type data, which would take twice its size of the guest's little memory."""
    scratch.write_bytes(code)
    run(['strip', '--strip-debug', '--remove-section=.BTF', scratch])
    return scratch.read_bytes()


def _module_name(path: Path) -> str:
    return path.name.partition('.')[0].replace('-', '_')


def _decompressed(path: Path) -> bytes:
    if path.suffix == '.ko':
        return path.read_bytes()
    if path.suffix == '.xz':
        return lzma.decompress(path.read_bytes())
    raise LabError(f'Kernel module {path.name} is compressed in a way the lab does not know')
