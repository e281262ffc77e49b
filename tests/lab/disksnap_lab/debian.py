# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Debian release as a directory, made by mmdebstrap from where apt of this machine takes its packages."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from .commands import run
from .errors import LabError

_SPARE = ('usr/share/doc', 'usr/share/man', 'usr/share/locale')


def digest(*parts: bytes | str) -> str:
    """A name for what is made from these."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update((part.encode() if isinstance(part, str) else part) + b'\0')
    return whole.hexdigest()[:16]


def package_names(text: str) -> list[str]:
    """What a list of packages names, one a line; # starts a comment."""
    lines = (line.partition('#')[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def sources(index_targets: str, release: str) -> list[str]:
    """Lines of sources.list for a release: from the very places that apt of this machine takes Debian from."""
    found: dict[str, str] = {}
    for line in index_targets.splitlines():
        uri, _space, label = line.partition(' ')
        if label in ('Debian', 'Debian-Security'):
            found.setdefault(label, uri)
    if 'Debian' not in found:
        raise LabError('apt has no source of Debian packages: run apt-get update first')
    suites = {'Debian': (release, f'{release}-updates'), 'Debian-Security': (f'{release}-security',)}
    return [f'deb {uri} {suite} main' for label, uri in found.items() for suite in suites[label]]


def debian_mirror(release: str) -> str:
    """Where apt of this machine takes Debian from."""
    return sources(_index_targets(), release)[0].split()[1]


def _index_targets() -> str:
    return run(['apt-get', 'indextargets', '--format', '$(REPO_URI) $(LABEL)', 'Created-By: Packages']).stdout


def proxies(apt_config: str) -> list[str]:
    """The lines of apt's configuration that say how to get out."""
    return re.findall(r'^(Acquire::https?::Proxy.* ".+";)$', apt_config, re.MULTILINE)


def install_root(tree: Path, release: str, packages: Iterable[str]) -> None:
    """The release's essential packages and these, without those they only recommend, in a new directory."""
    mirrors = sources(_index_targets(), release)
    options = ['APT::Install-Recommends "false"', *proxies(run(['apt-config', 'dump']).stdout)]
    argv = ['mmdebstrap', '--mode=root', '--variant=minbase', f'--include={",".join(packages)}']
    argv += [f'--aptopt={option}' for option in options]
    argv += [f'--dpkgopt=path-exclude=/{directory}/*' for directory in _SPARE]
    run([*argv, release, tree, *mirrors], timeout=1200)
