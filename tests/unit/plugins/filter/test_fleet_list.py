# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lists that come as text, as a survey gives them."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.plugins.filter.fleet_list import fleet_list


@pytest.mark.parametrize(
    ('given', 'meant'),
    [
        ('db1', ['db1']),
        ('db1\nweb*\n', ['db1', 'web*']),
        (' db1 ,\r\n\n web* , x', ['db1', 'web*', 'x']),
        (['db1', 'web,1'], ['db1', 'web,1']),
        (('db1',), ['db1']),
        ([101], ['101']),
        (101, ['101']),
        ([], []),
        ('', None),
        (' \n,', None),
        (None, None),
    ],
)
def test_entries(given: Any, meant: Any) -> None:
    assert fleet_list(given) == meant


def test_entries_with_a_key() -> None:
    assert fleet_list('vda, vdb', key='target') == [{'target': 'vda'}, {'target': 'vdb'}]
    assert fleet_list(['vda', {'target': 'vdb', 'size': '1G'}], key='target') == [
        {'target': 'vda'},
        {'target': 'vdb', 'size': '1G'},
    ]
    assert fleet_list('', key='target') is None
