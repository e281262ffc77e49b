# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Pythons of this machine, and which of them run a release of ansible-core."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

#: Those that the collection supports on a managed host (``tests/config.yml``) and that a core knows.
PYTHONS = ('3.9', '3.10', '3.11', '3.12', '3.13', '3.14')
#: Debian's own, which the managed host of the tests has.
DEBIAN = Path('/usr/bin/python3')


def order(version: str) -> tuple[int, ...]:
    """A version to sort by: 3.10 is newer than 3.9."""
    return tuple(int(part) for part in version.split('.'))


@dataclass(frozen=True)
class Core:
    """A release of ansible-core and the Pythons that run it, oldest first."""

    release: str
    pythons: tuple[str, ...]

    @property
    def name(self) -> str:
        """The series, as ``2.16``."""
        return '.'.join(self.release.split('.')[:2])

    def knows(self, python: str) -> bool:
        """Whether a managed host may have it: all that are not newer than those that run the core."""
        return order(python) <= order(self.pythons[-1])

    def choose(self, pythons: Mapping[str, Path]) -> str | None:
        """The Python to run it with: Debian's own where that can, else the newest that can."""
        able = [version for version in sorted(pythons, key=order) if version in self.pythons]
        own = [version for version in able if pythons[version] == DEBIAN]
        best = own or able
        return best[-1] if best else None


def read_cores(lines: Iterable[str]) -> list[Core]:
    """The cores of ``cores.txt``, oldest first."""
    words = [line.split() for line in lines if line.strip() and not line.startswith('#')]
    return sorted((Core(release, tuple(pythons)) for release, *pythons in words), key=lambda core: order(core.release))


def find_pythons() -> dict[str, Path]:
    """Real interpreters by their minor version; of two the first: Debian's own, the administrator's, pyenv's."""
    found: dict[str, Path] = {}
    pyenv = Path(os.environ.get('PYENV_ROOT') or Path.home() / '.pyenv') / 'versions'
    for version in PYTHONS:
        program = f'python{version}'
        candidates = [Path('/usr/bin') / program, Path('/usr/local/bin') / program]
        candidates += sorted(pyenv.glob(f'{version}.*/bin/{program}'))
        for candidate in candidates:
            if version not in found and _makes_venvs(candidate):
                found[version] = DEBIAN if candidate.resolve() == DEBIAN.resolve() else candidate
    return found


def _makes_venvs(python: Path) -> bool:
    """Whether it is there, and has what Debian has in a package of its own."""
    if not os.access(python, os.X_OK):
        return False
    answer = subprocess.run([python, '-c', 'import ensurepip'], capture_output=True, timeout=60, check=False)
    return answer.returncode == 0
