# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The cells of the matrix: which tests run on which core with which Python, and which cannot, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.disksnap.libvirt.tests.matrix.machine import PYTHONS, Core, order

SANITY, UNITS, ROLE, INTEGRATION = 'sanity', 'units', 'role', 'integration'


@dataclass(frozen=True)
class Cell:
    """One run of ansible-test; ``python`` is that of the unit tests. Where ``reason`` is not empty it cannot run."""

    core: Core
    test: str
    python: str = ''
    reason: str = ''

    @property
    def name(self) -> str:
        """As in ``2.16 units 3.9``."""
        return ' '.join(word for word in (self.core.name, self.test, self.python) if word)

    @property
    def column(self) -> str:
        """The column of the table that it is in."""
        return f'{self.test} {self.python}'.strip()

    def argv(self) -> list[str]:
        """The arguments of ``tests/ansible-test``."""
        words = {
            SANITY: [SANITY],
            UNITS: [UNITS, '--python', self.python],
            # what runs on the controller, and depends on the core the most
            ROLE: [INTEGRATION, 'role_fleet_snapshot'],
            INTEGRATION: [INTEGRATION, '--continue-on-error'],
        }
        return ['--core', self.core.name, *words[self.test]]


def all_cells(cores: Sequence[Core], pythons: Mapping[str, Path]) -> list[Cell]:
    """The whole matrix; the quick tests first."""
    cells = []
    for core in cores:
        cells.append(Cell(core, SANITY, reason=_no_core(core, pythons)))
        cells += [Cell(core, UNITS, python, _no_units(core, python, pythons)) for python in PYTHONS]
    return cells + [Cell(core, INTEGRATION, reason=_no_core(core, pythons)) for core in cores]


def quick_cells(cores: Sequence[Core], pythons: Mapping[str, Path]) -> list[Cell]:
    """The newest core and the oldest, each with the Python that runs it; the oldest Python where that is another.

    Other tests on guests run with a new core, so the role is played with the oldest as well.
    """
    able = [core for core in cores if core.choose(pythons)]
    cells = []
    for core in dict.fromkeys([*able[-1:], *able[:1]]):
        cells += [Cell(core, SANITY), Cell(core, UNITS, core.choose(pythons) or '')]
    for core in able[:1]:
        oldest = Cell(core, UNITS, min(pythons, key=order))
        cells += [oldest] if oldest not in cells else []
        cells.append(Cell(core, ROLE))
    return cells


def _no_core(core: Core, pythons: Mapping[str, Path]) -> str:
    if core.choose(pythons):
        return ''
    return f'ansible-core {core.name} needs Python {" or ".join(core.pythons)}, and this machine has none of them'


def _no_units(core: Core, python: str, pythons: Mapping[str, Path]) -> str:
    if not core.knows(python):
        return f'ansible-core {core.name} does not know Python {python}'
    if python not in pythons:
        return f'this machine has no Python {python}'
    return _no_core(core, pythons)
