# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One hypervisor for all tests, which each test finds as it was saved."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ansible_collections.disksnap.libvirt.tests.hypervisor.harness import RemoteRunner
from disksnap_lab.hypervisor import Hypervisor, HypervisorGuest


@pytest.fixture(scope='session')
def hypervisor() -> Iterator[Hypervisor]:
    """A hypervisor for each worker; DISKSNAP_TEST_LAB names it, so that two runs of the tests do not meet."""
    name = os.environ.get('DISKSNAP_TEST_LAB', 'tests')
    worker = os.environ.get('PYTEST_XDIST_WORKER')
    found = Hypervisor.start(f'{name}-{worker}' if worker else name, print)
    yield found
    found.stop()


@pytest.fixture
def hv(hypervisor: Hypervisor) -> Hypervisor:
    """The hypervisor as it was saved: nothing of the tests before is left."""
    hypervisor.reset()
    return hypervisor


@pytest.fixture
def inner(hv: Hypervisor) -> HypervisorGuest:
    """The guest that runs on it."""
    return hv.guest('inner')


@pytest.fixture(scope='session')
def run_module(hypervisor: Hypervisor, tmp_path_factory: pytest.TempPathFactory) -> RemoteRunner:
    """Run a module on the hypervisor: run_module('disk_snapshot', {...}), .fails(...), .start(...)."""
    return RemoteRunner(hypervisor, tmp_path_factory.mktemp('remote'))
