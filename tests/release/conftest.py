# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One release for all tests: cut, in a copy of the sources, if it is not yet; built into .build/release; installed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.disksnap.libvirt.tests.live.harness import Guests
from ansible_collections.disksnap.libvirt.tests.release.artifact import (
    ROOT,
    Artifact,
    Installed,
    bare_environment,
    build,
    cut,
    lay,
)
from ansible_collections.disksnap.libvirt.tests.release.cut import look
from disksnap_lab import Lab


@pytest.fixture(scope='session')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources as they are released. Fragments that wait are made a changelog of, as ``make release`` does."""
    tree = lay(tmp_path_factory.mktemp('tree'))
    if look(tree).fragments:
        cut(tree)
    return tree


@pytest.fixture(scope='session')
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """For Ansible, with an empty place for collections."""
    return bare_environment(tmp_path_factory.mktemp('home'), tmp_path_factory.mktemp('collections'))


@pytest.fixture(scope='session')
def artifact(tree: Path, env: dict[str, str]) -> Artifact:
    """The release, which stays in .build/release."""
    return build(tree, ROOT / '.build' / 'release', env)


@pytest.fixture(scope='session')
def installed(artifact: Artifact, env: dict[str, str]) -> Installed:
    """The release, installed from the file alone."""
    installed = Installed(Path(env['ANSIBLE_COLLECTIONS_PATH']), env)
    installed.ansible('ansible-galaxy', 'collection', 'install', '--offline', str(artifact.path))
    return installed


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A private libvirtd; DISKSNAP_TEST_LAB names it, so that two runs of the tests do not meet."""
    lab = Lab(f'{os.environ.get("DISKSNAP_TEST_LAB", "")}release')
    lab.down()
    with lab:
        yield lab


@pytest.fixture
def guest(lab: Lab) -> Iterator[Guests]:
    """Makes guests for one test: guest(GuestSpec('web'))."""
    guests = Guests(lab)
    yield guests
    guests.remove()
