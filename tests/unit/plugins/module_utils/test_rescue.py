# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is about to freeze a guest waits for whoever is about to thaw it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _rescue


@pytest.fixture(autouse=True)
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The private directory, in a place of the test's own."""
    monkeypatch.setattr(_rescue, 'private_directory', lambda: str(tmp_path))


def test_a_guest_that_nobody_rescues_is_not_waited_for() -> None:
    assert _rescue.await_end(['a', 'b'], patience=0) == set()


def test_those_that_are_being_rescued_are_told() -> None:
    end = _rescue.begin('b')
    assert _rescue.await_end(['a', 'b'], patience=0.2) == {'b'}
    end()
    assert _rescue.await_end(['a', 'b'], patience=0) == set()


def test_two_watchdogs_may_be_at_one_guest() -> None:
    ends = [_rescue.begin('a'), _rescue.begin('a')]
    ends[0]()
    assert _rescue.await_end(['a'], patience=0) == {'a'}
    ends[1]()
    assert _rescue.await_end(['a'], patience=0) == set()


def test_waits_no_longer_than_it_takes() -> None:
    end = _rescue.begin('a')
    threading.Timer(0.3, end).start()
    assert _rescue.await_end(['a'], patience=60) == set()


def test_no_directory_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise PermissionError(1, 'not yours')

    monkeypatch.setattr(_rescue, 'private_directory', none)
    end = _rescue.begin('a')
    assert _rescue.await_end(['a'], patience=0) == set()
    end()
