# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fleet that most of these tests stand on: two hosts, which each test leaves up and on the network."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator

import pytest

from disksnap_lab import Fleet


@pytest.fixture(scope='session')
def fleet_name() -> str:
    """DISKSNAP_TEST_LAB names it, so that two runs of the tests do not meet."""
    name = os.environ.get('DISKSNAP_TEST_LAB', 'fleet')
    worker = os.environ.get('PYTEST_XDIST_WORKER')
    return f'{name}-{worker}' if worker else name


@pytest.fixture(scope='session')
def fleet(fleet_name: str) -> Iterator[Fleet]:
    """A fleet for each worker."""
    fleet = Fleet(fleet_name, hosts=2)
    fleet.down()
    with fleet:
        yield fleet


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Say what was measured: it stands at the end of the run."""
    return functools.partial(record_property, 'measured')


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the tests told."""
    told = [text for report in terminalreporter.getreports('passed') for _key, text in report.user_properties]
    if told:
        terminalreporter.section('measured')
        for text in told:
            terminalreporter.line(str(text))
