# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In which order the domains of a task are frozen."""

from __future__ import annotations

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils._snapshot_step import ranked
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import Request


@pytest.mark.parametrize(
    ('name', 'rank'), [('app1', 0), ('db1', 1), ('app-db', 0), ('other', 0), ('cache', 2), ('x[1]', 3)]
)
def test_the_first_pattern_that_matches_is_the_rank(name: str, rank: int) -> None:
    [request] = ranked([Request(name, None)], ['app*', '*db*', 'cache', 'x[1]'])
    assert request.rank == rank


def test_without_an_order_all_are_frozen_at_once() -> None:
    assert [one.rank for one in ranked([Request('a', None), Request('b', None)], [])] == [0, 0]
