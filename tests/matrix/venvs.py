# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Virtual environments under ``.build/venvs``, made when first asked for and kept."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ansible_collections.disksnap.libvirt.tests.matrix.machine import DEBIAN, Core

ROOT = Path(__file__).resolve().parents[2]
VENVS = ROOT / '.build' / 'venvs'
STAMP = 'disksnap-made-from'
#: To build libvirt-python on a busy machine.
TIMEOUT = 1800.0


class NotMade(Exception):
    """A virtual environment could not be made; the text says which and why."""


def core_venv(core: Core, python: str, interpreter: Path) -> Path:
    """The folder of one with this core and nothing else: what its ansible-test needs it makes by itself."""
    return _venv(f'core-{core.release}-python{python}', interpreter, [f'ansible-core=={core.release}'], [])


def unit_venv(python: str, interpreter: Path) -> Path:
    """The folder of one for the unit tests of any core, which ansible-test puts on its path."""
    lists = [ROOT / 'tests' / 'matrix' / 'units.txt', ROOT / 'tests' / 'unit' / 'requirements.txt']
    return _venv(f'units-python{python}', interpreter, ['--requirement', str(lists[0])], lists)


def _venv(name: str, interpreter: Path, requirements: Sequence[str], lists: Sequence[Path]) -> Path:
    folder = VENVS / name
    with _alone(name):
        wanted = _fingerprint(folder, interpreter, requirements, lists)
        stamp = folder / STAMP
        if not stamp.exists() or stamp.read_text(encoding='utf-8') != wanted:
            _make(folder, interpreter, requirements)
            stamp.write_text(wanted, encoding='utf-8')
    return folder


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Two runs (two terminals) must not make the same one at once."""
    VENVS.mkdir(parents=True, exist_ok=True)
    with open(VENVS / f'{name}.lock', 'w', encoding='utf-8') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fingerprint(folder: Path, interpreter: Path, requirements: Sequence[str], lists: Sequence[Path]) -> str:
    """What it is made from; it is made anew when any of it changes."""
    version = subprocess.run([interpreter, '--version'], capture_output=True, text=True, timeout=60, check=True).stdout
    text = [str(folder), str(interpreter.resolve()), version, *requirements]
    text += [path.read_text(encoding='utf-8') for path in lists]
    return hashlib.sha256('\n'.join(text).encode()).hexdigest()


def _make(folder: Path, interpreter: Path, requirements: Sequence[str]) -> None:
    print(f'tests/matrix: making {folder.relative_to(ROOT)}', file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    # Debian's own Python has Debian's lxml and libvirt
    options = ['--system-site-packages'] if interpreter == DEBIAN else []
    try:
        _run([interpreter, '-m', 'venv', *options, folder])
        _run([folder / 'bin' / 'pip', 'install', '--quiet', '--disable-pip-version-check', *requirements])
    except subprocess.CalledProcessError as error:
        shutil.rmtree(folder, ignore_errors=True)
        why = f'(a first run needs the network): {error.stdout[-2000:]}'
        raise NotMade(f'{folder.name} could not be made {why}') from None


def _run(argv: Sequence[str | Path]) -> None:
    subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
