# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which guests a host takes, with which disks, in which order."""

from __future__ import annotations

from ansible_collections.disksnap.libvirt.plugins.filter.fleet_domains import fleet_domains


def test_leaves_out_what_matches_and_what_is_nobody() -> None:
    names = ['web1', 'web10', 'db[1]', 'web1', '']
    assert [one['name'] for one in fleet_domains(names, exclude=['web?', 'db[1]'])] == ['web10']
    assert [one['name'] for one in fleet_domains(names)] == ['web1', 'web10', 'db[1]']


def test_each_has_its_own_disks() -> None:
    disks = {'web1': [{'target': 'vda'}], 'elsewhere': []}
    assert fleet_domains(['web1', 'web2'], disks=disks) == [
        {'name': 'web1', 'disks': [{'target': 'vda'}]},
        {'name': 'web2', 'disks': None},
    ]
