# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ansible-builder makes of the example, and what it reads out of the collection. No image is built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.disksnap.libvirt.tests.ee.harness import COLLECTION, ROOT, Needs, run, tools


def test_the_context_has_the_collection_and_installs_it(context: Path) -> None:
    build = context / '_build'
    assert (build / 'collections' / 'disksnap-libvirt.tar.gz').stat().st_size > 100_000
    assert 'name: collections/disksnap-libvirt.tar.gz' in (build / 'requirements.yml').read_text(encoding='utf-8')
    steps = (context / 'Dockerfile').read_text(encoding='utf-8')
    assert re.search(r'^RUN .*ansible-galaxy collection install .* -r requirements.yml', steps, re.MULTILINE)
    assert re.search(r'^RUN .*introspect\.py introspect .*--write-bindep=.*--write-pip=', steps, re.MULTILINE)


def test_the_artifact_has_what_it_names(collections: Path) -> None:
    installed = collections / COLLECTION / 'meta'
    for name in ('execution-environment.yml', 'ee-requirements.txt', 'ee-bindep.txt'):
        assert (installed / name).read_bytes() == (ROOT / 'meta' / name).read_bytes()


def test_python_packages(needs: Needs) -> None:
    lines = [line for line in needs.python.splitlines() if line and not line.startswith('#')]
    assert sorted(re.split(r'[<>=\s]', line)[0] for line in lines) == ['libvirt-python', 'lxml']
    assert all('from collection disksnap.libvirt' in line for line in lines), needs.python


@pytest.mark.parametrize(
    ('platform', 'runs', 'compiles'),
    [
        ('dpkg', ['libvirt0', 'openssh-client'], ['gcc', 'libvirt-dev', 'pkg-config', 'python3-dev']),
        ('rpm', ['libvirt-libs', 'openssh-clients'], ['gcc', 'libvirt-devel', 'pkgconf-pkg-config', 'python3-devel']),
    ],
)
def test_system_packages(platform: str, runs: list[str], compiles: list[str], needs: Needs) -> None:
    assert sorted(needs.packages(f'platform:{platform}')) == runs
    assert sorted(needs.packages(f'platform:{platform}', 'compile')) == sorted([*runs, *compiles])


def test_ansible_builder_itself_reads_the_same(collections: Path) -> None:
    said = run([tools() / 'ansible-builder', 'introspect', '--sanitize', collections])
    assert {word for word in ('libvirt-python', 'lxml', 'libvirt-libs', 'openssh-clients') if word not in said} == set()
    assert 'disksnap.libvirt' in said
