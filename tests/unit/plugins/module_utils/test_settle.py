# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether what an interrupted run left of a snapshot of several hosts is to be undone."""

from __future__ import annotations

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    COMMITTED,
    COMMITTING,
    PRESENT,
    REMOVING,
    Journal,
    SnapshotRecord,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._settle import decided


def journal(state: str, group: str = 'g1') -> Journal:
    """Of a domain with one snapshot."""
    record = SnapshotRecord(
        name='s1', state=state, created_at='', group=group, description=None, consistency='crash', disks=[]
    )
    return Journal(snapshots={'s1': record})


@pytest.mark.parametrize(
    ('states', 'expected'),
    [
        ([COMMITTED, PRESENT], {'g1'}),
        ([COMMITTED, COMMITTED], set()),
        ([PRESENT, PRESENT], set()),
        ([COMMITTING, PRESENT], set()),
        ([COMMITTED, COMMITTING], set()),
        ([COMMITTED, PRESENT, REMOVING], set()),
    ],
)
def test_one_domain_that_was_told_is_enough(states: list[str], expected: set[str]) -> None:
    assert decided(journal(state) for state in states) == expected


def test_groups_are_told_apart() -> None:
    assert decided([journal(COMMITTED, 'g1'), journal(PRESENT, 'g2')]) == set()
