# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether all hosts have come along, from what they answered."""

from __future__ import annotations

import json
from typing import Any

import ansible.template
import pytest
from ansible.utils.unsafe_proxy import AnsibleUnsafe

from ansible_collections.disksnap.libvirt.plugins.filter.fleet_verdict import fleet_verdict


def word(**answer: Any) -> dict[str, Any]:
    """What a host prints after a word, with the greeting of a login before it."""
    return {'rc': 0, 'stdout': 'Welcome to {hv}\n' + json.dumps({'failed': False, **answer}) + '\r\n', 'stderr': ''}


def there(state: str, group: str = 'g1') -> dict[str, Any]:
    """What the module returns."""
    return {'failed': False, 'changed': False, 'state': state, 'group': group}


READY = {'failed': False, 'changed': True, 'state': 'prepared', 'command': 'x'}
SKIPPED = {'skipped': True, 'changed': False}
EMPTY = {'failed': False, 'changed': False, 'state': 'nothing', 'domains': []}


@pytest.mark.parametrize(
    ('results', 'state'),
    [
        ([READY, READY], 'prepared'),
        ([READY, SKIPPED], 'prepared'),
        ([SKIPPED, SKIPPED], 'nothing'),
        ([EMPTY, SKIPPED], 'nothing'),
        ([READY, EMPTY], 'prepared'),
        ([word(next='commit'), word(next='commit')], 'prepared'),
        ([word(state='committed', group='g1'), word(state='committed', group='g1')], 'committed'),
        ([there('present'), there('present')], 'present'),
        ([there('present'), there('present', 'g2')], 'partial'),
        ([there('present', ''), there('present', '')], 'partial'),
        ([there('present', ''), there('present', 'g1')], 'partial'),
        ([there('present', ''), SKIPPED], 'present'),
        ([there('present'), there('committed'), READY], 'partial'),
        ([there('present'), READY], 'partial'),
        ([there('present'), there('committed')], 'finish'),
        ([there('present'), there('committed', 'g2')], 'mixed'),
        ([there('committed'), there('committed', 'g2')], 'mixed'),
        ([there('committed'), READY], 'mixed'),
        ([there('left'), READY], 'mixed'),
        ([there('left'), there('left')], 'mixed'),
    ],
)
def test_what_is_to_be_made_of_it(results: list[dict[str, Any]], state: str) -> None:
    verdict = fleet_verdict({f'hv{number}': one for number, one in enumerate(results)})
    assert verdict['go'] is True
    assert verdict['state'] == state


def test_what_each_host_has_done() -> None:
    domains = [{'name': 'db1', 'disks': [{'target': 'vda'}]}]
    of_module = {**there('present'), 'domains': domains, 'invocation': {}}
    of_process = word(state='present', group='g1', changed=True, domains=domains)
    verdict = fleet_verdict({'a': of_module, 'b': of_process, 'c': EMPTY, 'd': SKIPPED})
    assert verdict['answers'] == {
        'a': {'changed': False, 'domains': domains},
        'b': {'changed': True, 'domains': domains},
    }


def test_the_group_is_there_if_it_is_one() -> None:
    assert fleet_verdict({'a': there('present'), 'b': there('committed')})['group'] == 'g1'
    verdict = fleet_verdict({'a': there('present'), 'b': there('committed', 'g2'), 'c': READY})
    assert (verdict['group'], verdict['interrupted'], verdict['there']) == ('', ['g2'], ['a', 'b'])


@pytest.mark.parametrize(
    ('result', 'why'),
    [
        ('', 'has not come to this step'),
        ({}, 'has not come to this step'),
        ({'unreachable': True, 'msg': 'No route to host'}, 'cannot be reached: No route to host.'),
        ({'failed': True, 'msg': 'Failed to freeze\n(domain db1)'}, 'hv2: Failed to freeze (domain db1).'),
        (word(failed=True, msg='Failed to freeze.'), 'hv2: Failed to freeze.'),
        ({'rc': 1, 'failed': True, 'stdout': '', 'stderr': 'No such file'}, 'told what to do: No such file.'),
        ({'rc': 1, 'failed': True, 'stdout': '{ "half', 'stderr': ''}, 'told what to do: { "half.'),
        ({'rc': 0, 'stdout': '', 'stderr': ''}, 'told what to do: no reason was given.'),
    ],
)
def test_one_that_fails_is_enough(result: Any, why: str) -> None:
    verdict = fleet_verdict({'hv1': READY, 'hv2': result})
    assert verdict['go'] is False
    assert why in verdict['why']
    assert 'hv1' not in verdict['why']


def test_what_is_interrupted_is_not_known_while_a_host_is_silent() -> None:
    silent = {'unreachable': True, 'msg': 'No route to host'}
    assert fleet_verdict({'a': there('committed'), 'b': READY})['interrupted'] == ['g1']
    assert fleet_verdict({'a': there('committed'), 'b': silent})['interrupted'] == []
    assert fleet_verdict({'a': there('committed'), 'b': there('present'), 'c': READY})['interrupted'] == []


def test_warnings_are_kept_by_host() -> None:
    verdict = fleet_verdict({'a': word(state='committed', group='g1', warnings=['no agent']), 'b': READY})
    assert verdict['warnings'] == {'a': ['no agent']}


class Lazy(list[Any]):
    """Like the containers that templates hand on from ansible-core 2.19 on: nobody else can make one."""

    def __init__(self, items: list[Any], *, by_a_template: bool = False) -> None:
        if not by_a_template:
            raise TypeError('Direct construction of lazy containers is not supported.')
        super().__init__(items)


def test_what_comes_from_a_template_is_taken_as_it_is() -> None:
    said = Lazy(['no agent'], by_a_template=True)
    domains = Lazy([{'name': 'db1', 'disks': Lazy([], by_a_template=True)}], by_a_template=True)
    verdict = fleet_verdict({'a': {**there('present'), 'warnings': said, 'domains': domains}})
    assert verdict['warnings'] == {'a': ['no agent']}
    assert verdict['answers'] == {'a': {'changed': False, 'domains': [{'name': 'db1', 'disks': []}]}}


def test_what_hosts_say_is_never_a_template() -> None:
    """The role uses it in templates. From 2.19 on ansible-core marks what is a template, before that what is none."""
    why = fleet_verdict({'a': {'failed': True, 'msg': "{{ lookup('pipe', 'id') }}"}})['why']
    assert "{{ lookup('pipe', 'id') }}" in why
    is_template = getattr(ansible.template, 'is_trusted_as_template', None)
    if is_template is None:
        assert isinstance(why, AnsibleUnsafe)
    else:
        assert not is_template(why)
