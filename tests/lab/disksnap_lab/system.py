# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Another Debian release as the user space of a lab: its libvirt, QEMU and Python on this machine's kernel.

A system is a directory with all files of the release, made once and shared by the labs that use it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .debian import digest, install_root, package_names
from .errors import LabError
from .paths import SOURCE, locked, make_root

_LISTS = SOURCE / 'systems'


@dataclass(frozen=True)
class System:
    """One system: directory systems/NAME-HASH; the hash is of all that it is made from."""

    name: str
    release: str
    packages: tuple[str, ...]
    more: str = ''  # what complete() below adds, as text

    @property
    def tree(self) -> Path:
        """Its root directory."""
        recipe = Path(__file__).with_name('debian.py').read_bytes()
        return make_root() / 'systems' / f'{self.name}-{digest(self.release, *self.packages, recipe, self.more)}'

    def build(self, complete: Callable[[Path], None] | None = None) -> Path:
        """Make it unless it is there (half a minute to a few); complete adds to the tree what no package has.

        It is built beside its final place and renamed, so that a half-built one is never used.
        """
        tree = self.tree
        with locked(tree.parent / f'{self.name}.lock', timeout=1800):
            if not tree.exists():
                work = tree.with_name(f'{self.name}.new')
                shutil.rmtree(work, ignore_errors=True)
                install_root(work, self.release, self.packages)
                if complete is not None:
                    complete(work)
                work.rename(tree)
        return tree


def system(name: str) -> System:
    """The one of systems/NAME.txt, which is called as its Debian release."""
    try:
        text = (_LISTS / f'{name}.txt').read_text(encoding='utf-8')
    except FileNotFoundError:
        known = ', '.join(sorted(path.stem for path in _LISTS.glob('*.txt')))
        raise LabError(f'There is no system {name!r}: there is {known}') from None
    return System(name, name, tuple(package_names(text)))
