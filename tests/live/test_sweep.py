# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A few points of the sweep (tests/sweep) of each operation: it is broken at a libvirt call, and survives it whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.disksnap.libvirt.tests.live.harness import Guests
from ansible_collections.disksnap.libvirt.tests.sweep.modules import Modules
from ansible_collections.disksnap.libvirt.tests.sweep.operations import OPERATIONS, Operation
from ansible_collections.disksnap.libvirt.tests.sweep.points import FAULTS, Point, whole
from disksnap_lab import Lab

# calls of each operation that are broken, each with the next fault in turn
CALLS = 5


@pytest.fixture(scope='module')
def modules(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Modules]:
    with Modules(lab, tmp_path_factory.mktemp('sweep')) as modules:
        yield modules


@pytest.mark.parametrize('operation', OPERATIONS, ids=lambda operation: operation.name.replace(' ', '-'))
def test_survives(operation: Operation, lab: Lab, guest: Guests, modules: Modules, tmp_path: Path) -> None:
    guests = [guest(spec) for spec in operation.specs]
    point = Point(lab, guests, operation, modules)
    calls = len(point.count())

    for turn in range(CALLS):
        number = 1 + turn * (calls - 1) // (CALLS - 1)
        outcome = point.run(number, FAULTS[turn % len(FAULTS)])
        assert not outcome.problems, outcome

    assert whole(guests, tmp_path) == []
