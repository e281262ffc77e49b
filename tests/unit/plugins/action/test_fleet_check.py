# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which plays cannot take a fleet at one instant, and what they are told."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.plugins.action.fleet_check import (
    Circumstances,
    expected_window,
    refusal,
    strategy_of,
)

HOSTS = ('hv1', 'hv2', 'hv3')
FINE = Circumstances(HOSTS, HOSTS, HOSTS, forks=5, strategy='linear')


def test_a_play_that_can() -> None:
    assert refusal(FINE, 1, 10) is None
    assert refusal(replace(FINE, strategy='ansible.builtin.linear'), 1, 10) is None
    assert refusal(replace(FINE, strategy=None), 1, 10) is None
    assert refusal(replace(FINE, job_template='nightly', workflow='all nights'), 1, 10) is None
    assert refusal(replace(FINE, job_template='nightly'), 1, 10) is None


@pytest.mark.parametrize(
    ('other', 'ranks', 'why'),
    [
        ({'batch': HOSTS[:1]}, 1, 'The play has serial set'),
        ({'strategy': 'free'}, 1, 'The play has the strategy free, by which hosts do not wait'),
        ({'strategy': 'ansible.builtin.host_pinned'}, 1, 'host_pinned'),
        ({'active': HOSTS[:2], 'batch': HOSTS[:2]}, 1, 'hv3 failed or could not be reached before'),
        ({'job_template': 'nightly', 'workflow': 'nightly'}, 1, 'looks like a slice of the job template nightly'),
        ({'forks': 1}, 2, '3 hosts with 1 forks take about 15 s'),
        ({'forks': 1}, 2, 'allows 10 s. Run with more forks'),
        ({}, 5, '3 hosts with 5 forks take about 11 s'),
        ({}, 5, 'Name fewer patterns'),
    ],
)
def test_one_that_cannot(other: dict[str, Any], ranks: int, why: str) -> None:
    said = refusal(replace(FINE, **other), ranks, 10)
    assert said is not None
    assert why in said
    assert said.endswith('.')


@pytest.mark.parametrize(
    ('hosts', 'forks', 'ranks', 'seconds'), [(4, 5, 1, 2), (5, 5, 1, 2), (6, 5, 1, 4), (40, 20, 1, 4), (40, 20, 3, 14)]
)
def test_every_fork_does_one_host_after_the_other(hosts: int, forks: int, ranks: int, seconds: float) -> None:
    assert expected_window(hosts, forks, ranks) == seconds


def test_the_strategy_is_that_of_the_play() -> None:
    block = SimpleNamespace(_play=SimpleNamespace(strategy='free'), _parent=None)
    assert strategy_of(SimpleNamespace(_parent=SimpleNamespace(_parent=block))) == 'free'
    assert strategy_of(SimpleNamespace(_parent=None)) is None
