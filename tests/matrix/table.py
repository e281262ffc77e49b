# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table at the end: cores by tests, what became of each, and how long it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.disksnap.libvirt.tests.matrix.cells import INTEGRATION, ROLE, SANITY, UNITS
from ansible_collections.disksnap.libvirt.tests.matrix.machine import Core, order
from ansible_collections.disksnap.libvirt.tests.matrix.run import FAILED, NOT_RUN, PASSED, Outcome


def table(outcomes: Sequence[Outcome], runs_on: Mapping[Core, str]) -> list[str]:
    """Lines; the numbers in brackets are those of the reasons below them."""
    reasons = list(dict.fromkeys(_reason(outcome) for outcome in outcomes if outcome.state != PASSED))
    cells = {(outcome.cell.core, outcome.cell.column): _words(outcome, reasons) for outcome in outcomes}
    columns = sorted({column for _core, column in cells}, key=_place)
    rows = [['ansible-core', 'runs on', *columns]]
    for core in sorted({core for core, _column in cells}, key=lambda core: order(core.release)):
        rows.append([core.release, runs_on.get(core) or '-', *(cells.get((core, column), '') for column in columns)])
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = ['  '.join(word.ljust(width) for word, width in zip(row, widths)).rstrip() for row in rows]
    return lines + [f'[{number}] {reason}' for number, reason in enumerate(reasons, 1)]


def closing_line(outcomes: Sequence[Outcome]) -> str:
    """How many cells passed, failed and were not run."""
    count = {state: sum(outcome.state == state for outcome in outcomes) for state in (PASSED, FAILED, NOT_RUN)}
    return f'{count[PASSED]} passed, {count[FAILED]} failed, {count[NOT_RUN]} skipped'


def _reason(outcome: Outcome) -> str:
    """A failure has a log of its own; the same reason not to run may be that of many."""
    return f'{outcome.cell.name}: {outcome.reason}' if outcome.state == FAILED else f'not run: {outcome.reason}'


def _words(outcome: Outcome, reasons: Sequence[str]) -> str:
    if outcome.state == PASSED:
        return f'passed {outcome.tests}, {outcome.seconds:.0f} s'
    number = f'[{reasons.index(_reason(outcome)) + 1}]'
    return f'{FAILED} {number}, {outcome.seconds:.0f} s' if outcome.state == FAILED else f'{NOT_RUN} {number}'


def _place(column: str) -> tuple[int, tuple[int, ...]]:
    test, _space, python = column.partition(' ')
    return [SANITY, ROLE, INTEGRATION, UNITS].index(test), order(python) if python else ()
