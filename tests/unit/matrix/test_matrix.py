# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which tests run on which ansible-core and Python, what became of them, and the table of it."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from ansible_collections.disksnap.libvirt.tests.matrix.cells import Cell, all_cells, quick_cells
from ansible_collections.disksnap.libvirt.tests.matrix.machine import DEBIAN, Core, read_cores
from ansible_collections.disksnap.libvirt.tests.matrix.run import FAILED, NOT_RUN, PASSED, Outcome, _status, judge, run
from ansible_collections.disksnap.libvirt.tests.matrix.table import closing_line, table

ROOT = Path(__file__).resolve().parents[3]
OLD = Core('2.16.19', ('3.10', '3.11', '3.12'))
MIDDLE = Core('2.19.14', ('3.11', '3.12', '3.13'))
NEW = Core('2.21.5', ('3.12', '3.13', '3.14'))
CORES = [OLD, MIDDLE, NEW]
ELSEWHERE = Path('/opt/python')


def machine(*others: str, own: str = '3.11') -> dict[str, Path]:
    """The Pythons of a Debian machine."""
    return {own: DEBIAN, **{version: ELSEWHERE / version for version in others}}


def test_the_cores_that_are_tested() -> None:
    cores = read_cores((ROOT / 'tests/matrix/cores.txt').read_text(encoding='utf-8').splitlines())
    runtime = yaml.safe_load((ROOT / 'meta/runtime.yml').read_text(encoding='utf-8'))
    assert runtime['requires_ansible'] == f'>={cores[0].name}.0'
    pins = re.findall(r'^ansible-core==(\S+);', (ROOT / 'tests/requirements.txt').read_text(encoding='utf-8'), re.M)
    assert pins
    assert set(pins) <= {core.release for core in cores}


def test_cores_sort_by_number() -> None:
    assert [core.name for core in read_cores(['# a comment', '2.100.1 3.20', '', '2.16.19 3.10', '2.9.1 3.9'])] == [
        '2.9',
        '2.16',
        '2.100',
    ]


@pytest.mark.parametrize(
    ('core', 'pythons', 'chosen'),
    [
        (OLD, machine('3.9', '3.10', '3.12'), '3.11'),
        (NEW, machine('3.9', '3.12', '3.13'), '3.13'),
        (NEW, machine('3.9', '3.10'), None),
        (NEW, machine(own='3.13'), '3.13'),
        (OLD, machine(own='3.13'), None),
    ],
)
def test_the_python_of_a_core(core: Core, pythons: dict[str, Path], chosen: str | None) -> None:
    assert core.choose(pythons) == chosen


@pytest.mark.parametrize(
    ('pythons', 'names'),
    [
        (machine(), ['2.19 sanity', '2.19 units 3.11', '2.16 sanity', '2.16 units 3.11', '2.16 role']),
        (
            machine('3.9', '3.10', '3.13'),
            ['2.21 sanity', '2.21 units 3.13', '2.16 sanity', '2.16 units 3.11', '2.16 units 3.9', '2.16 role'],
        ),
        (machine(own='3.13'), ['2.21 sanity', '2.21 units 3.13', '2.19 sanity', '2.19 units 3.13', '2.19 role']),
        (machine(own='3.8'), []),
    ],
)
def test_the_quick_ones(pythons: dict[str, Path], names: list[str]) -> None:
    cells = quick_cells(CORES, pythons)
    assert [cell.name for cell in cells] == names
    assert not any(cell.reason for cell in cells)


def test_what_cannot_run_says_why() -> None:
    reasons = {cell.name: cell.reason for cell in all_cells(CORES, machine('3.9'))}
    assert reasons['2.16 units 3.9'] == reasons['2.16 units 3.11'] == reasons['2.19 integration'] == ''
    assert reasons['2.16 units 3.13'] == 'ansible-core 2.16 does not know Python 3.13'
    assert reasons['2.19 units 3.12'] == 'this machine has no Python 3.12'
    lacking = 'ansible-core 2.21 needs Python 3.12 or 3.13 or 3.14, and this machine has none of them'
    assert reasons['2.21 sanity'] == reasons['2.21 units 3.9'] == reasons['2.21 integration'] == lacking
    assert len(reasons) == 3 * 2 + 3 * 6


def test_a_cell_without_its_python_is_not_started() -> None:
    outcome = run(Cell(NEW, 'sanity', reason='there is none'))
    assert (outcome.state, outcome.reason, outcome.seconds) == (NOT_RUN, 'there is none', 0)


@pytest.mark.parametrize(
    ('status', 'text', 'state', 'reason'),
    [
        (0, 'noise\nansible-test sanity: 40 passed, 0 failed\n', PASSED, ''),
        (1, 'ansible-test sanity: 39 passed, 1 failed\n', FAILED, '1 failed; see '),
        (0, 'ansible-test sanity: 39 passed, 1 failed\n', FAILED, '1 failed; see '),
        (3, 'ansible-test sanity: 40 passed, 0 failed\n', FAILED, '40 passed, and its status is 3; see '),
        (0, 'ansible-test sanity: 0 passed, 0 failed\n', FAILED, '0 passed, and its status is 0; see '),
        (1, 'no such file\n', FAILED, 'it broke down with status 1; see '),
        (0, '', FAILED, 'it broke down with status 0; see '),
        (None, 'ansible-test sanity: 40 passed, 0 failed\n', FAILED, 'it was ended after 5 s; see '),
    ],
)
def test_what_became_of_it(tmp_path: Path, status: int | None, text: str, state: str, reason: str) -> None:
    log = tmp_path / 'log'
    log.write_text(text, encoding='utf-8')
    outcome = judge(Cell(OLD, 'sanity'), status, log, 5)
    assert outcome.state == state
    assert outcome.reason.startswith(reason)
    assert bool(outcome.reason) == bool(reason)


def test_a_run_without_end_is_ended_with_its_children(tmp_path: Path) -> None:
    with open(tmp_path / 'log', 'w+b') as log:
        assert _status(['sh', '-c', 'exit 7'], log.fileno(), 60) == 7
        script = 'sleep 600 & echo $!; wait'
        assert _status(['sh', '-c', script], log.fileno(), 2, grace=1) is None
        log.seek(0)
        child = int(log.read())
    deadline = time.monotonic() + 30
    while _runs(child):
        assert time.monotonic() < deadline, f'process {child} outlived its run'
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    try:
        return Path(f'/proc/{pid}/stat').read_text(encoding='utf-8').rpartition(')')[2].split()[0] != 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return False


def outcomes() -> Sequence[Outcome]:
    return [
        Outcome(Cell(NEW, 'sanity', reason='no Python'), NOT_RUN, reason='no Python'),
        Outcome(Cell(OLD, 'units', '3.10'), PASSED, 12.4, 900),
        Outcome(Cell(OLD, 'units', '3.9'), FAILED, 7, 899, '1 failed; see LOG'),
        Outcome(Cell(OLD, 'sanity'), PASSED, 80, 40),
        Outcome(Cell(NEW, 'integration', reason='no Python'), NOT_RUN, reason='no Python'),
    ]


def test_the_table() -> None:
    assert table(outcomes(), {OLD: '3.11'}) == [
        'ansible-core  runs on  sanity           integration  units 3.9        units 3.10',
        '2.16.19       3.11     passed 40, 80 s               FAILED [2], 7 s  passed 900, 12 s',
        '2.21.5        -        not run [1]      not run [1]',
        '[1] not run: no Python',
        '[2] 2.16 units 3.9: 1 failed; see LOG',
    ]
    assert closing_line(outcomes()) == '2 passed, 1 failed, 2 skipped'
