# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Debian packages for the guest: which versions, and their unpacked files. Nothing gets installed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from .commands import run
from .errors import LabError

KERNEL_META = 'linux-image-cloud-amd64'
PROGRAMS = ('busybox-static', 'qemu-guest-agent')
_KERNEL = re.compile(r'linux-image-\d\S*')
_LIBRARY = re.compile(r'lib\S+')


def _stanzas(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Package -> control fields of the version that apt would take."""
    text = run(['apt-cache', 'show', '--no-all-versions', *sorted(names)], accept=(0, 100)).stdout
    found = {}
    for stanza in text.split('\n\n'):
        fields = dict(re.findall(r'^([A-Za-z-]+): (.*)$', stanza, re.MULTILINE))
        if 'Package' in fields:
            found[fields['Package']] = fields
    return found


def _first_choices(depends: str) -> list[str]:
    """Names in a Depends field, the first of each set of alternatives."""
    return [part.split('|')[0].split('(')[0].split(':')[0].strip() for part in depends.split(',') if part.strip()]


def resolve() -> dict[str, str]:
    """Package -> version of all that a guest is made of: kernel, busybox, agent and the agent's libraries."""
    chosen: dict[str, str] = {}
    wanted = {KERNEL_META, *PROGRAMS}
    while wanted:
        stanzas = _stanzas(wanted)
        absent = wanted - stanzas.keys()
        if absent:
            raise LabError(f'apt knows no package {" ".join(sorted(absent))}: run apt-get update first')
        depends: set[str] = set()
        for name, fields in stanzas.items():
            names = _first_choices(fields.get('Depends', ''))
            if name == KERNEL_META:
                depends.update(n for n in names if _KERNEL.fullmatch(n))
                continue
            chosen[name] = fields['Version']
            if not _KERNEL.fullmatch(name):
                depends.update(n for n in names if _LIBRARY.fullmatch(n))
        wanted = depends - chosen.keys()
    return chosen


def unpack(versions: dict[str, str], directory: Path) -> Path:
    """Download and unpack these packages below a directory; returns the tree."""
    debs = directory / 'debs'
    tree = directory / 'tree'
    debs.mkdir()
    tree.mkdir()
    exact = [f'{name}={version}' for name, version in sorted(versions.items())]
    run(['apt-get', '-q', '-o', 'APT::Sandbox::User=root', 'download', *exact], cwd=debs, timeout=300)
    for deb in sorted(debs.glob('*.deb')):
        run(['dpkg-deb', '-x', deb, tree], timeout=120)
    return tree
