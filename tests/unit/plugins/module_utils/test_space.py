# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must be left of a storage, and what the disks of one task may need together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._space import Budget, Floor, Need, Storage

GIB = 1 << 30


def storage(free: int, key: str = 'device 1', name: str = 'The storage pool default at /images') -> Storage:
    return Storage(key, name, free, 100 * GIB, 'default', '/images')


@pytest.mark.parametrize(
    ('text', 'floor'),
    [
        ('0', Floor()),
        ('20G', Floor(20 * GIB)),
        ('20 GiB'.replace(' ', ''), Floor(20 * GIB)),
        ('512', Floor(512)),
        ('1t', Floor(1 << 40)),
        ('10%', Floor(share=0.1)),
        (' 2.5 % ', Floor(share=0.025)),
        ('100%', Floor(share=1.0)),
    ],
)
def test_floors(text: str, floor: Floor) -> None:
    assert Floor.parse(text) == floor


@pytest.mark.parametrize('text', ['', '-1', '10', 'G', '101%', '%', '1.5G', '10 percent', '1E400', '20X'])
def test_what_is_no_floor(text: str) -> None:
    if text == '10':
        assert Floor.parse(text) == Floor(10)
        return
    with pytest.raises(DiskSnapError, match='min_free'):
        Floor.parse(text)


@given(st.text(max_size=12))
def test_any_text(text: str) -> None:
    try:
        found = Floor.parse(text)
    except DiskSnapError:
        return
    assert found.amount >= 0
    assert 0 <= found.share <= 1


def test_a_floor_by_share() -> None:
    assert Floor(share=0.1).of(100 * GIB) == 10 * GIB
    assert Floor(5).of(100 * GIB) == 5


def test_one_warning_for_a_storage() -> None:
    budget = Budget()
    assert budget.add([Need(storage(2 * GIB), GIB)], 'Failed') == []
    [warning] = budget.add([Need(storage(2 * GIB), GIB), Need(storage(0), GIB)], 'Failed')
    assert warning == (
        'The storage pool default at /images has 2 GiB free, and what is begun now may come to need 3 GiB there.'
    )
    assert budget.add([Need(storage(2 * GIB), GIB)], 'Failed') == []
    [told] = budget.told()
    assert (told['needed'], told['available']) == (4 * GIB, 2 * GIB)


def test_below_the_floor() -> None:
    budget = Budget(Floor.parse('10%'))
    assert budget.add([Need(storage(12 * GIB), GIB)], 'Failed to take') == []
    with pytest.raises(DiskSnapError) as caught:
        budget.add([Need(storage(12 * GIB), 2 * GIB)], 'Failed to take', domain='db1')
    assert str(caught.value) == (
        'Failed to take (domain db1): it may need 3 GiB on The storage pool default at /images, where 12 GiB are free, '
        'and min_free wants 10 GiB left. Nothing was changed. Make room there, or lower min_free.'
    )
    # what was refused takes nothing from those that come after it
    assert budget.add([Need(storage(12 * GIB), GIB)], 'Failed to take') == []
    assert budget.told()[0]['needed'] == 2 * GIB


def test_storages_are_apart() -> None:
    budget = Budget(Floor(GIB))
    budget.add([Need(storage(2 * GIB), GIB), Need(storage(2 * GIB, key='vg vg0', name='vg0'), GIB)], 'Failed')
    assert [one['needed'] for one in budget.told()] == [GIB, GIB]
