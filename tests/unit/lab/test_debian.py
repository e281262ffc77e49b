# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What decides of what a Debian directory is made, and what it is called; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip('libvirt')
pytest.importorskip('lxml')

from disksnap_lab import LabError
from disksnap_lab.debian import digest, package_names, proxies, sources
from disksnap_lab.paths import SOURCE
from disksnap_lab.system import System, system


def test_takes_debian_from_where_this_machine_does() -> None:
    targets = 'http://mirror.test/debian/ Debian\nhttp://mirror.test/security/ Debian-Security\nhttp://x.test/ Other\n'
    assert sources(targets, 'bookworm') == [
        'deb http://mirror.test/debian/ bookworm main',
        'deb http://mirror.test/debian/ bookworm-updates main',
        'deb http://mirror.test/security/ bookworm-security main',
    ]


def test_says_so_without_a_source() -> None:
    with pytest.raises(LabError, match='apt-get update'):
        sources('http://x.test/ Other\n', 'bookworm')


def test_hands_proxies_on() -> None:
    config = 'Acquire "";\nAcquire::http::Proxy "http://proxy.test:3128";\nAcquire::https::Proxy "";\n'
    assert proxies(config) == ['Acquire::http::Proxy "http://proxy.test:3128";']


def test_package_names() -> None:
    assert package_names('# all\nlvm2\n\nxfsprogs # why\n') == ['lvm2', 'xfsprogs']


def test_a_name_tells_parts_apart() -> None:
    assert digest('ab', 'c') != digest('a', 'bc')
    assert digest('a', b'b') == digest(b'a', 'b')


def test_a_system_is_called_as_its_release_and_has_what_its_list_names() -> None:
    listed = (SOURCE / 'systems' / 'trixie.txt').read_text(encoding='utf-8')
    assert system('trixie') == System('trixie', 'trixie', tuple(package_names(listed)))
    assert 'python3-libvirt' in system('trixie').packages


def test_an_unknown_system_is_refused_with_those_there_are() -> None:
    with pytest.raises(LabError, match="no system 'sid': there is trixie"):
        system('sid')


def test_a_system_of_other_packages_is_another_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('DISKSNAP_LAB_ROOT', str(tmp_path))
    trees = {System('x', *rest).tree for rest in (('a', ('b', 'c')), ('a', ('b',)), ('a', ('b',), 'more'), ('b', ()))}
    assert len(trees) == 4
