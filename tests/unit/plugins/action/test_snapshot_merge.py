# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lines of a merge: what they say, and when they are due."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.disksnap.libvirt.plugins.action.snapshot_merge import interval, quiet_callback
from ansible_collections.disksnap.libvirt.plugins.plugin_utils.progress import Sample, Teller, clock, line, read

GIB = 1 << 30


def test_the_line() -> None:
    before = Sample('db1', 'vdb', 10, 9 * GIB, 28 * GIB)
    now = Sample('db1', 'vdb', 20, int(12.1 * GIB), 28 * GIB)
    assert line(now, before) == 'db1 vdb merging 43% 12.1/28.0 GiB 317 MiB/s 0:52 left'
    assert line(now) == 'db1 vdb merging 43% 12.1/28.0 GiB'
    assert line(now, now) == line(now)
    assert line(Sample('db1', 'vdb', 1, 0, 0)) == 'db1 vdb merging'


@pytest.mark.parametrize(
    ('seconds', 'text'), [(0, '0:00'), (51.2, '0:52'), (60, '1:00'), (3599.5, '1:00:00'), (3753, '1:02:33')]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


counts = st.integers(0, 1 << 62)


@given(counts, counts, counts, st.floats(0, 1e6), st.floats(0, 1e6))
def test_any_amount(cur: int, end: int, was: int, start: float, passed: float) -> None:
    """A guest that writes makes the end grow, and the job may be ahead of what it said."""
    text = line(Sample('d', 'vda', start + passed, cur, end), Sample('d', 'vda', start, was, end))
    shape = r'd vda merging( \d{1,3}% [\d.]+/[\d.]+ [KMGT]?i?B( [\d.]+ [KMGTPE]?i?B/s( (\d+:)?\d{1,2}:\d\d left)?)?)?'
    assert re.fullmatch(shape, text), text
    percent = re.search(r'(\d+)%', text)
    assert percent is None or int(percent.group(1)) <= 100


@pytest.mark.parametrize(
    'text',
    ['', 'x', '{}', '[]', 'null', '{"seconds": 1}', '{"seconds": "a", "disks": []}', '{"seconds": 1, "disks": [{}]}',
     '{"seconds": 1, "disks": [{"domain": "a", "target": "b", "cur": null, "end": 1}]}', '[' * 100000],
)  # fmt: skip
def test_a_damaged_file(text: str) -> None:
    assert read(text) == []


def test_a_file() -> None:
    text = json.dumps({'seconds': 2.5, 'disks': [{'domain': 'db1', 'target': 'vda', 'cur': 1, 'end': 2}]})
    assert read(text) == [Sample('db1', 'vda', 2.5, 1, 2)]


def test_when_lines_are_due() -> None:
    teller = Teller(10)
    shown = [second for second in range(40) if teller.lines([Sample('db1', 'vda', second, second * GIB, 100 * GIB)])]
    assert shown == [5, 15, 25, 35]


def test_each_disk_has_lines_of_its_own() -> None:
    teller = Teller(10)
    both = [Sample('db1', target, 6, 1, 2) for target in ('vda', 'vdb')]
    assert len(teller.lines(both)) == 2
    assert teller.lines(both) == []


@pytest.mark.parametrize(
    ('name', 'quiet'),
    [
        ('default', False),
        ('awx_display', False),
        ('json', True),
        ('ansible.posix.json', True),
        ('ansible.posix.jsonl', True),
        ('as_json', True),  # somebody's own
        ('community.general.dense', True),
    ],
)
def test_callbacks(name: str, quiet: bool) -> None:
    assert quiet_callback(name) is quiet


@pytest.mark.parametrize(
    ('value', 'seconds'),
    [(10, 10), ('0.5', 0.5), (0, 0), (-1, 0), (False, 0), (None, 0), ('x', None), ('inf', None), ('nan', None)],
)
def test_interval(value: Any, seconds: float | None) -> None:
    assert interval(value) == seconds
