# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The context of the example, the collection installed from it, and a hypervisor to reach."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.disksnap.libvirt.tests.ee.harness import Needs, build_context, install_collections, introspect
from disksnap_lab import Fleet


@pytest.fixture(scope='session')
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ansible-builder makes of docs/ee."""
    return build_context(tmp_path_factory.mktemp('definition'))


@pytest.fixture(scope='session')
def collections(context: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all collections of the context are installed."""
    to = tmp_path_factory.mktemp('collections')
    install_collections(context, to)
    return to


@pytest.fixture(scope='session')
def needs(context: Path, collections: Path, tmp_path_factory: pytest.TempPathFactory) -> Needs:
    """What they say that they need."""
    return introspect(context, collections, tmp_path_factory.mktemp('needs'))


@pytest.fixture(scope='session')
def fleet() -> Iterator[Fleet]:
    """One hypervisor, by ssh."""
    fleet = Fleet(os.environ.get('DISKSNAP_TEST_LAB', 'ee'), hosts=1)
    fleet.down()
    with fleet:
        yield fleet
