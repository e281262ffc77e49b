# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When several guests stood still together."""

from __future__ import annotations

import pytest

from disksnap_lab.watch import together


@pytest.mark.parametrize(
    ('standstills', 'expected'),
    [
        ({'a': [(1.0, 4.0)], 'b': [(2.0, 5.0)]}, (2.0, 4.0)),
        ({'a': [(1.0, 2.0)], 'b': [(2.0, 3.0)]}, (0.0, 0.0)),
        ({'a': [(1.0, 2.0), (3.0, 9.0)], 'b': [(1.0, 2.5), (4.0, 6.0)], 'c': [(0.0, 8.0)]}, (4.0, 6.0)),
        ({'a': [(1.0, 4.0)], 'b': []}, (0.0, 0.0)),
        ({'a': [(1.0, 4.0), (4.0, 5.0)]}, (1.0, 4.0)),
    ],
)
def test_the_longest_time_that_all_share(
    standstills: dict[str, list[tuple[float, float]]], expected: tuple[float, float]
) -> None:
    assert together(standstills) == expected
