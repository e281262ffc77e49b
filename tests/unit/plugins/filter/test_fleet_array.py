# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.disksnap.libvirt.plugins.filter.fleet_array import fleet_array
from ansible_collections.disksnap.libvirt.plugins.filter.fleet_identities import fleet_identities


def volume(domain: str, identity: dict[str, Any] | None = None, of: str = 'g1', **attributes: str) -> dict[str, Any]:
    """As a module tells it."""
    return {
        'key': f'{domain}/vda',
        'domain': domain,
        'target': 'vda',
        'snapshot_group': of,
        'volume': attributes,
        'method_xml': str(attributes),
        'identity': identity,
    }


def test_volumes_of_all_hosts_go_together_by_their_group() -> None:
    groups = fleet_array(
        {
            'hv1': {'volumes': [volume('db1', id='1', group='b'), volume('web1', id='2')]},
            'hv2': {'volumes': [volume('db2', id='3', group='b')]},
            'hv3': {'state': 'nothing'},
            'hv4': '',
        }
    )
    assert [(group['group'], [one['volume']['id'] for one in group['volumes']]) for group in groups] == [
        ('', ['2']),
        ('b', ['1', '3']),
    ]
    assert groups[1]['volumes'][1]['disks'] == [{'host': 'hv2', 'domain': 'db2', 'target': 'vda', 'key': 'db2/vda'}]


def test_a_volume_that_holds_several_disks_comes_once() -> None:
    found = {
        'hv1': {'volumes': [volume('a', id='1'), volume('b', {'path': '/x'}, id='1')]},
        'hv2': {'volumes': [volume('c', id='1')]},
    }
    [group] = fleet_array(found)
    [one] = group['volumes']
    assert [(disk['host'], disk['domain']) for disk in one['disks']] == [('hv1', 'a'), ('hv1', 'b'), ('hv2', 'c')]
    assert one['identity'] == {'path': '/x'}
    assert fleet_identities(group, [{'path': '/y'}]) == {
        'hv1': {'a/vda': {'path': '/y'}, 'b/vda': {'path': '/y'}},
        'hv2': {'c/vda': {'path': '/y'}},
    }


def test_results_of_a_loop() -> None:
    loop = {'results': [{'volumes': [volume('a', id='1')]}, {'skipped': True}, {'volumes': [volume('b', id='2')]}]}
    [group] = fleet_array({'hv1': loop})
    assert [one['volume']['id'] for one in group['volumes']] == ['1', '2']


@pytest.mark.parametrize('answers', [[], [{'path': '/x'}] * 2, None, 'x', {'path': '/x'}])
def test_there_is_one_identity_a_volume(answers: Any) -> None:
    [group] = fleet_array({'hv1': {'volumes': [volume('a', id='1', group='db')]}})
    with pytest.raises(AnsibleFilterError, match=r'a list of 1 identities.*group "db"'):
        fleet_identities(group, answers)
