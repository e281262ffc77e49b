# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many tasks at once on one host, each with a guest of its own: none gets in the way of another."""

from __future__ import annotations

import pytest

from ansible_collections.disksnap.libvirt.tests.live.harness import Guests, Runner, journal
from disksnap_lab import Guest, GuestSpec


@pytest.fixture
def many(guest: Guests) -> list[Guest]:
    """Guests that are shut off, each with a directory of its own that no pool has."""
    return [guest(GuestSpec(f'many{number}', state='shutoff')) for number in range(6)]


def test_each_finds_its_own(many: list[Guest], run_module: Runner) -> None:
    """A task looks at the images of all guests, by pools that it opens and closes in their directories."""
    for turn in range(3):
        for state in ('present', 'absent'):
            task = {'snapshot_name': f's{turn}', 'state': state}
            runs = [run_module.start('disk_snapshot', {'name': one.name, **task}) for one in many]
            results = [run.wait() for run in runs]
            assert [result['msg'] for result in results if result.get('failed')] == []
            assert all(result['changed'] for result in results)
    assert [journal(one) for one in many] == [None] * len(many)
    assert [len(list(one.images.iterdir())) for one in many] == [1] * len(many)
