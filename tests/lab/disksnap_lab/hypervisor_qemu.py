# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The QEMU that hypervisors run in: Debian 13's, which on Debian 12 comes from its backports, unpacked, not installed.

QEMU 7.2 of Debian 12 does not emulate AMD's SVM well enough to run guests in it for an hour: it interrupts KVM where
that cannot be interrupted, and the kernel panics.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from .commands import require, run
from .debian import debian_mirror
from .errors import LabError
from .hypervisor_image import RELEASE, hypervisor_root
from .paths import locked

PROGRAM = 'qemu-system-x86_64'
_PACKAGE = 'qemu-system-x86'
_SUITE = f'{RELEASE}-backports'
_OLDEST = 10
_KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
# where Debian's packages of QEMU and of its BIOS have their files, which are those of this machine
_FIRMWARE = ('/usr/share/qemu', '/usr/share/seabios')


def emulator() -> list[str]:
    """How its command line begins; what this machine lacks is downloaded once."""
    if _major(run([PROGRAM, '--version']).stdout) >= _OLDEST:
        return [require(PROGRAM)]
    directory = hypervisor_root() / f'qemu-{_SUITE}'
    with locked(directory.with_suffix('.lock'), timeout=600):
        if not directory.exists():
            _unpack(directory)
    return [str(directory / 'usr' / 'bin' / PROGRAM), *(word for path in _FIRMWARE for word in ('-L', path))]


def _major(said: str) -> int:
    found = re.search(r'version (\d+)\.', said)
    if found is None:
        raise LabError(f'{PROGRAM} does not tell its version: {said.strip()}')
    return int(found[1])


def _unpack(directory: Path) -> None:
    """Unpack beside the final place and rename, so that it is whole once it is there."""
    work = hypervisor_root() / 'new-qemu'
    shutil.rmtree(work, ignore_errors=True)
    for made in ('lists', 'cache', 'tree'):
        (work / made).mkdir(parents=True)
    listed = work / 'sources.list'
    listed.write_text(f'deb [signed-by={_KEYRING}] {debian_mirror(RELEASE)} {_SUITE} main\n', encoding='utf-8')
    options = [f'Dir::Etc::SourceList={listed}', 'Dir::Etc::SourceParts=/dev/null', 'APT::Sandbox::User=root']
    options += [f'Dir::State::Lists={work / "lists"}', f'Dir::Cache={work / "cache"}']
    apt_get = ['apt-get', '-q', *(word for option in options for word in ('-o', option))]
    run([*apt_get, 'update'], timeout=300)
    run([*apt_get, 'download', f'{_PACKAGE}/{_SUITE}'], timeout=600, cwd=work)
    [package] = work.glob('*.deb')
    run(['dpkg-deb', '-x', package, work / 'tree'], timeout=120)
    (work / 'tree').rename(directory)
    shutil.rmtree(work)
