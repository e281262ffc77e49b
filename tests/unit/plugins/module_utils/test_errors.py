# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one sentence that an error of the collection makes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError

VIR_ERR_OPERATION_UNSUPPORTED = 84


def test_says_only_what_failed_when_nothing_else_is_known() -> None:
    assert str(DiskSnapError('Failed to open the connection')) == 'Failed to open the connection.'


def test_says_all_that_is_known_in_one_order() -> None:
    error = DiskSnapError(
        'Failed to create the overlay',
        domain='web1',
        disk='vda',
        why='no space left on device',
        hint='Make room in the pool images.',
        code=VIR_ERR_OPERATION_UNSUPPORTED,
    )

    assert str(error) == (
        'Failed to create the overlay (domain web1, disk vda): no space left on device (libvirt error 84). '
        'Make room in the pool images.'
    )


@pytest.mark.parametrize(
    ('domain', 'disk', 'shown'),
    [
        ('web1', None, '(domain web1)'),
        (None, 'vda', '(disk vda)'),
        ('web1', 'vda', '(domain web1, disk vda)'),
    ],
)
def test_names_the_place_as_far_as_it_is_known(domain: str | None, disk: str | None, shown: str) -> None:
    assert str(DiskSnapError('Failed to pivot', domain=domain, disk=disk)) == f'Failed to pivot {shown}.'


@pytest.mark.parametrize('why', ['it is busy', 'it is busy.', '  it is busy.\n'])
def test_ends_with_one_full_stop_however_the_cause_ends(why: str) -> None:
    assert str(DiskSnapError('Failed to pivot', why=why)) == 'Failed to pivot: it is busy.'


def test_shows_a_code_of_zero() -> None:
    assert str(DiskSnapError('Failed to pivot', code=0)) == 'Failed to pivot (libvirt error 0).'


@given(
    domain=st.none() | st.text(),
    disk=st.none() | st.text(),
    why=st.none() | st.text(),
    hint=st.none() | st.text(),
    code=st.none() | st.integers(),
)
def test_keeps_every_part_for_callers_that_decide_by_it(
    domain: str | None, disk: str | None, why: str | None, hint: str | None, code: int | None
) -> None:
    error = DiskSnapError('Failed to thaw', domain=domain, disk=disk, why=why, hint=hint, code=code)

    assert (error.what, error.domain, error.disk, error.why, error.hint, error.code) == (
        'Failed to thaw',
        domain,
        disk,
        why,
        hint,
        code,
    )
