# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every problem that can be named is in the guide, in the module's documentation, and in a test on a real guest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils._problem import CODES, Problem, ordered

ROOT = Path(__file__).resolve().parents[3]
GUIDE = ROOT / 'docs' / 'docsite' / 'rst' / 'guide_audit.rst'
MODULE = ROOT / 'plugins' / 'modules' / 'disk_snapshot_info.py'
ROOMS = ROOT / 'plugins' / 'module_utils'


def test_the_guide_has_each_code_in_order() -> None:
    first = [row.partition('\n')[0] for row in re.findall(r'^   \* - (``.*\n)', GUIDE.read_text('utf-8'), re.MULTILINE)]
    assert re.findall(r'``(\w+)``', ' '.join(first)) == list(CODES)


def test_the_module_documents_each_code() -> None:
    named = set(re.findall(r'V\((\w+_\w+|unreadable)\)', MODULE.read_text('utf-8')))
    assert named == set(CODES)


@pytest.mark.parametrize('code', CODES)
def test_somebody_finds_it(code: str) -> None:
    assert any(f"'{code}'" in path.read_text('utf-8') for path in [*ROOMS.glob('_audit*.py')])


def test_the_worst_comes_first_and_each_once() -> None:
    lost, frozen = Problem('snapshot_lost', 'm', 'r', 'vda'), Problem('frozen_guest', 'm', 'r')
    assert ordered([lost, frozen, lost]) == [frozen, lost]
