# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab that the live tests stand on, the guests that they make, and the way they run a module."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ansible_collections.disksnap.libvirt.tests.live.harness import Guests, Runner, until, watchdogs
from disksnap_lab import Lab


@pytest.fixture(scope='session')
def lab() -> Iterator[Lab]:
    """A private libvirtd for each worker; DISKSNAP_TEST_LAB names it, so that two runs of the tests do not meet.

    DISKSNAP_TEST_SYSTEM is the Debian release that it is of, and the modules with it; this machine's where it is unset.
    """
    name = os.environ.get('DISKSNAP_TEST_LAB', 'live')
    worker = os.environ.get('PYTEST_XDIST_WORKER')
    lab = Lab(f'{name}-{worker}' if worker else name, system=os.environ.get('DISKSNAP_TEST_SYSTEM') or None)
    lab.down()
    with lab:
        yield lab


@pytest.fixture(scope='module', autouse=True)
def no_process_left() -> Iterator[None]:
    """No module of a file has left a process, once the file's guests are gone too."""
    yield
    until('the end of all processes that the modules left', lambda: not watchdogs(), 60)


@pytest.fixture(scope='session')
def run_module(lab: Lab) -> Runner:
    """Run a module on the lab: run_module('disk_snapshot', {...}), .fails(...), .start(...)."""
    return Runner(lab.uri, lab.python)


@pytest.fixture
def guest(lab: Lab) -> Iterator[Guests]:
    """Makes guests for one test: guest(GuestSpec('web'))."""
    guests = Guests(lab)
    yield guests
    guests.remove()


@pytest.fixture(scope='module')
def shared(lab: Lab) -> Iterator[Guests]:
    """Makes guests for all tests of a file; each test leaves them as it found them."""
    guests = Guests(lab)
    yield guests
    guests.remove()
