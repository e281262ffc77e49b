# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each line of the guide "What happens when ..." names the tests that show it, and they are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
GUIDE = ROOT / 'docs' / 'docsite' / 'rst' / 'guide_faults.rst'


def rows() -> list[str]:
    """The rows of all tables but their headings."""
    found = re.findall(r'^   \* - .*\n(?:     .*\n)+', GUIDE.read_text(encoding='utf-8'), re.MULTILINE)
    return [row for row in found if not row.startswith('   * - What happens\n')]


def names_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / 'tests' / path).read_text(encoding='utf-8'))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_guide_has_rows() -> None:
    assert len(rows()) > 30


@pytest.mark.parametrize('row', rows(), ids=lambda row: row[7:].partition('\n')[0])
def test_each_row_names_tests_that_are_there(row: str) -> None:
    named = re.findall(r'``([\w/]+\.py)::(test_\w+)``', row)

    assert named
    for path, test in named:
        assert test in names_in(path), f'{path} has no {test}'
