# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a guest acknowledged what a copy of its disk holds, and what it does not."""

from __future__ import annotations

import pytest

from disksnap_lab.watch import around

SEEN = [(1.0, 7), (1.5, 8), (1.6, 8), (4.0, 9), (4.5, 12)]


@pytest.mark.parametrize(('number', 'expected'), [(7, (1.0, 1.5)), (8, (1.5, 4.0)), (9, (4.0, 4.5))])
def test_when_a_record_and_the_next_were_acknowledged(number: int, expected: tuple[float, float]) -> None:
    assert around(SEEN, number) == expected


@pytest.mark.parametrize('number', [6, 10, 12, 13])
def test_a_record_that_was_not_seen(number: int) -> None:
    with pytest.raises(LookupError, match=f'records {number} and {number + 1} were not both acknowledged'):
        around(SEEN, number)
