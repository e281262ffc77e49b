# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a retention keeps, by table and by property."""

from __future__ import annotations

import datetime
import random
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.disksnap.libvirt.plugins.filter.fleet_prune import fleet_prune
from ansible_collections.disksnap.libvirt.plugins.filter.fleet_pruned import fleet_pruned
from ansible_collections.disksnap.libvirt.plugins.filter.snapshots_to_remove import snapshots_to_remove
from ansible_collections.disksnap.libvirt.plugins.plugin_utils.retention import read_rules
from ansible_collections.disksnap.libvirt.plugins.plugin_utils.sizes import human


def taken(*moments: str, **more: Any) -> list[dict[str, Any]]:
    """Snapshots named by their moments: ``03-01 02`` is of the first of March, at two."""
    return [
        {
            'name': at,
            'made_by': 'disksnap',
            'state': 'present',
            'created_at': f'2026-{at[:5]}T{at[6:]}:00:00.000Z',
            **more,
        }
        for at in moments
    ]


def names(found: list[dict[str, Any]]) -> list[str]:
    return [one['name'] for one in found]


LATER = '2026-04-02T00:00:00Z'
HOURS = taken('03-01 01', '03-01 02', '03-01 23', '03-02 01', '03-02 09', '03-09 01', '04-01 01')


@pytest.mark.parametrize(
    ('keep', 'gone'),
    [
        ({}, []),
        ({'last': 0, 'daily': '0'}, []),
        ({'last': -1}, []),
        ({'last': 2}, ['03-01 01', '03-01 02', '03-01 23', '03-02 01', '03-02 09']),
        # 1 March is a Sunday: the week of the 2nd begins on Monday
        ({'daily': 2}, ['03-01 01', '03-01 02', '03-01 23', '03-02 01', '03-02 09']),
        ({'daily': 4}, ['03-01 01', '03-01 02', '03-02 01']),
        # as long as a rule may keep more, it keeps the oldest too
        ({'daily': 5}, ['03-01 02', '03-02 01']),
        ({'daily': -1}, ['03-01 02', '03-02 01']),
        ({'hourly': 3}, ['03-01 01', '03-01 02', '03-01 23', '03-02 01']),
        ({'weekly': 4}, ['03-01 01', '03-01 02', '03-02 01']),
        ({'weekly': 9}, ['03-01 02', '03-02 01']),
        ({'monthly': 2}, ['03-01 01', '03-01 02', '03-01 23', '03-02 01', '03-02 09']),
        ({'monthly': 1}, ['03-01 01', '03-01 02', '03-01 23', '03-02 01', '03-02 09', '03-09 01']),
        ({'within': '23d'}, ['03-01 01', '03-01 02', '03-01 23', '03-02 01', '03-02 09', '03-09 01']),
        ({'within': '23d1h'}, ['03-01 01', '03-01 02', '03-01 23', '03-02 01', '03-02 09']),
        ({'within': '1m'}, ['03-01 01']),
        ({'within': '1y'}, []),
        ({'within': '5w', 'last': 1}, []),
        ({'last': 1, 'monthly': 2, 'daily': '2'}, ['03-01 01', '03-01 02', '03-01 23', '03-02 01', '03-02 09']),
        ('{"last": 6}', ['03-01 01']),
    ],
)
def test_table(keep: Any, gone: list[str]) -> None:
    assert names(snapshots_to_remove(HOURS, keep, now=LATER)) == gone


def test_each_says_which_rule_keeps_it() -> None:
    found = snapshots_to_remove(HOURS, {'daily': 2, 'weekly': 2, 'within': '1d'}, explain=True, now=LATER)
    assert {one['name']: one['kept_by'] for one in found['keep']} == {
        '03-09 01': ['daily 2026-03-09', 'weekly 2026-W11'],
        '04-01 01': ['daily 2026-04-01', 'weekly 2026-W14', 'within 1d'],
    }
    assert names(found['remove']) == ['03-01 01', '03-01 02', '03-01 23', '03-02 01', '03-02 09']
    [oldest] = snapshots_to_remove(HOURS[:2], {'daily': 2}, explain=True)['keep'][:1]
    assert oldest['kept_by'] == ['oldest daily 2026-03-01']


@pytest.mark.parametrize(
    ('more', 'reason'),
    [
        ({'made_by': 'libvirt'}, 'not made by disksnap.libvirt'),
        ({'made_by': 'other', 'created_at': None}, 'not made by disksnap.libvirt'),
        ({'state': 'committing'}, 'it is committing'),
        ({'created_at': None}, 'nobody knows when it was taken'),
        ({'created_at': 'yesterday'}, 'nobody knows when it was taken'),
        ({'needed_by': ['A block job (pull) runs on disk vda.']}, 'needed: A block job (pull) runs on disk vda.'),
    ],
)
def test_what_is_not_touched(more: dict[str, Any], reason: str) -> None:
    old = [{**taken('01-01 01')[0], **more}]
    found = snapshots_to_remove(old + taken('03-01 01', '03-02 01'), {'last': 2}, explain=True)
    assert found['remove'] == []
    assert reason in [why for one in found['keep'] for why in one['kept_by']]


def test_one_that_is_not_ours_does_not_count() -> None:
    theirs = taken('03-05 01', made_by='libvirt')
    assert names(snapshots_to_remove(taken('03-01 01', '03-02 01') + theirs, {'last': 1})) == ['03-01 01']


def test_one_whose_removal_was_begun_goes_and_does_not_count() -> None:
    begun = taken('03-05 01', state='removing')
    assert names(snapshots_to_remove(taken('03-01 01') + begun, {'last': 1})) == ['03-05 01']
    assert snapshots_to_remove(begun, {}) == []


def broken(*moments: str) -> list[dict[str, Any]]:
    """Snapshots of two disks, of which one is of no use."""
    disks = [{'target': 'vda', 'fault': None}, {'target': 'vdb', 'fault': 'it has overflowed'}]
    return taken(*moments, disks=disks)


def test_one_that_is_broken_takes_no_place_from_another() -> None:
    mixed = taken('03-01 01', '03-02 01') + broken('03-03 01')
    found = snapshots_to_remove(mixed, {'last': 1}, explain=True)
    assert names(found['remove']) == ['03-01 01']
    assert {one['name']: one['kept_by'] for one in found['keep']} == {
        '03-02 01': ['last'],
        '03-03 01': ['last', 'does not count: its disk vdb is broken (it has overflowed)'],
    }
    # what cannot be read today is no reason to remove all of it
    assert names(snapshots_to_remove(broken('03-01 01', '03-02 01', '03-03 01'), {'last': 2})) == ['03-01 01']


def test_one_of_the_future_takes_no_place_from_another() -> None:
    wrong = taken('12-01 01', '12-02 01')
    assert names(snapshots_to_remove(HOURS + wrong, {'last': 6}, now=LATER)) == ['03-01 01']
    assert names(snapshots_to_remove(HOURS + wrong, {'within': '30d'}, now=LATER)) == names(HOURS[:4])
    [one] = snapshots_to_remove(wrong[:1], {'last': 6}, now=LATER, explain=True)['keep']
    assert one['kept_by'] == ['last', 'does not count: it is dated after now']
    assert names(snapshots_to_remove(HOURS + wrong, {'last': 1}, now=LATER)) == [*names(HOURS[:-1]), '12-01 01']


def test_one_of_the_future_where_nobody_says_what_time_it_is() -> None:
    assert names(snapshots_to_remove(HOURS, {'within': '25d'})) == names(HOURS[:5])
    wrong = taken('12-01 01', '12-02 01')
    assert names(snapshots_to_remove(HOURS + wrong, {'within': '25d'})) == names(HOURS[:5])


@pytest.mark.parametrize(
    'moment',
    [
        datetime.datetime(2026, 3, 1, 1, tzinfo=datetime.timezone.utc),
        datetime.datetime(2026, 3, 1, 1),
        datetime.datetime(2026, 3, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
        '2026-03-01T01:00:00.123456789Z',
        '2026-03-01T01:00:00',
        '2026-03-01 02:00:00+01:00',
        '2026-03-01T02:00:00.5+0100',
    ],
)
def test_moments(moment: Any) -> None:
    one = {**taken('03-01 01')[0], 'created_at': moment}
    found = snapshots_to_remove([one], {'hourly': 1}, explain=True, now=moment)
    [kept] = found['keep']
    assert kept['kept_by'] == ['hourly 2026-03-01T01', 'does not count: it is dated after now']


def test_what_disk_snapshot_returns_is_taken_too() -> None:
    own = [{'snapshot_name': one['name'], 'created_at': one['created_at']} for one in HOURS]
    assert [one['snapshot_name'] for one in snapshots_to_remove(own, {'last': 6})] == ['03-01 01']


@pytest.mark.parametrize(
    ('snapshots', 'keep', 'words'),
    [
        (HOURS, {'yearly': 1}, "has 'yearly'"),
        (HOURS, {'daily': -2}, 'daily of keep is -2'),
        (HOURS, {'daily': True}, 'daily of keep is True'),
        (HOURS, {'daily': 'a'}, "daily of keep is 'a'"),
        (HOURS, {'daily': 1.5}, 'daily of keep is 1.5'),
        (HOURS, {'within': '3x'}, "within of keep is '3x'"),
        (HOURS, {'within': '1h2d'}, 'within of keep'),
        (HOURS, {'daily': -1, 'last': '-'}, "last of keep is '-'"),
        (HOURS, 7, 'keep is 7'),
        (HOURS, '{"daily"', 'no JSON'),
        ('abc', {'daily': 1}, 'must be a list'),
        ({'a': 1}, {'daily': 1}, 'must be a list'),
        ([1], {'daily': 1}, 'must be a dictionary'),
    ],
)
def test_what_is_malformed(snapshots: Any, keep: Any, words: str) -> None:
    with pytest.raises(AnsibleFilterError, match='snapshots_to_remove') as caught:
        snapshots_to_remove(snapshots, keep)
    assert words in str(caught.value)
    with pytest.raises(AnsibleFilterError, match='now is'):
        snapshots_to_remove(HOURS, {'daily': 1}, now='soon')


# -- properties -----------------------------------------------------------------------------------------------------

START = datetime.datetime(2024, 2, 27, tzinfo=datetime.timezone.utc)
histories = st.lists(st.integers(0, 60 * 24 * 800), unique=True, max_size=30).map(
    lambda minutes: [
        {
            'name': str(minute),
            'made_by': 'disksnap',
            'state': 'present',
            'created_at': (START + datetime.timedelta(minutes=minute)).strftime('%Y-%m-%dT%H:%M:%S.000Z'),
        }
        for minute in minutes
    ]
)
counts = st.integers(-1, 12)
rules = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(('last', 'hourly', 'daily', 'weekly', 'monthly'), counts),
        'within': st.from_regex(r'\A[0-9]{1,2}[ymwdh]\Z'),
    },
)


def sets(snapshots: list[dict[str, Any]], keep: dict[str, Any]) -> tuple[set[str], set[str]]:
    found = snapshots_to_remove(snapshots, keep, explain=True)
    return set(names(found['remove'])), set(names(found['keep']))


@given(histories, rules)
def test_all_are_judged_once(snapshots: list[dict[str, Any]], keep: dict[str, Any]) -> None:
    gone, stay = sets(snapshots, keep)
    assert gone | stay == set(names(snapshots))
    assert not gone & stay
    assert names(snapshots_to_remove(snapshots, keep)) == sorted(gone, key=int)


@given(histories, rules)
def test_the_newest_stays(snapshots: list[dict[str, Any]], keep: dict[str, Any]) -> None:
    if snapshots and read_rules(keep):
        assert max(names(snapshots), key=int) in sets(snapshots, keep)[1]


@given(histories, rules)
def test_again_nothing_goes(snapshots: list[dict[str, Any]], keep: dict[str, Any]) -> None:
    left = snapshots_to_remove(snapshots, keep, explain=True)['keep']
    assert snapshots_to_remove(left, keep) == []


@given(histories, rules, st.sampled_from(['last', 'hourly', 'daily', 'weekly', 'monthly']))
def test_more_keeps_more(snapshots: list[dict[str, Any]], keep: dict[str, Any], name: str) -> None:
    if keep.get(name, 0) <= 0:
        return
    assert sets(snapshots, keep)[1] <= sets(snapshots, {**keep, name: keep[name] + 1})[1]
    assert sets(snapshots, keep)[1] <= sets(snapshots, {**keep, name: -1})[1]


@given(histories, rules)
def test_what_any_rule_keeps_is_kept(snapshots: list[dict[str, Any]], keep: dict[str, Any]) -> None:
    speaking = read_rules(keep)
    if speaking:
        each = [sets(snapshots, {name: value})[1] for name, value in speaking.items()]
        assert sets(snapshots, keep)[1] == set().union(*each)


@given(histories, rules, st.randoms())
def test_the_order_does_not_matter(
    snapshots: list[dict[str, Any]], keep: dict[str, Any], chance: random.Random
) -> None:
    mixed = list(snapshots)
    chance.shuffle(mixed)
    assert sets(mixed, keep) == sets(snapshots, keep)


@given(histories, st.sampled_from([('hourly', 13), ('daily', 10), ('monthly', 7)]))
def test_one_of_each_period(snapshots: list[dict[str, Any]], rule: tuple[str, int]) -> None:
    name, length = rule
    stay = sets(snapshots, {name: -1})[1]
    newest: dict[str, str] = {}
    for one in sorted(snapshots, key=lambda one: one['created_at']):
        newest[one['created_at'][:length]] = one['name']
    oldest = sorted(names(snapshots), key=int)[:1]
    assert stay == {*newest.values(), *oldest}


# -- a host ---------------------------------------------------------------------------------------------------------


def host(**domains: list[dict[str, Any]]) -> dict[str, Any]:
    return {'domains': [{'name': name, 'snapshots': snapshots} for name, snapshots in domains.items()]}


def test_a_host() -> None:
    sized = taken('03-01 01', '03-02 01', allocation=1 << 30, merge_bytes=0)
    plan = fleet_prune(host(db=sized, web=taken('03-01 01', '03-03 01', '03-04 01', allocation=None)), {'last': 1})
    assert plan['removals'] == [
        {'name': '03-01 01', 'domains': [{'name': 'db'}, {'name': 'web'}]},
        {'name': '03-03 01', 'domains': [{'name': 'web'}]},
    ]
    assert plan['lines'][0] == 'db 03-01 01: 1.0 GiB come back at most, 0 B to copy'
    assert plan['lines'][1].startswith('web 03-01 01: unknown come back')
    assert plan['lines'][-1].startswith('3 in all: 1.0 GiB')
    assert plan['kept'] == ['db 03-02 01: last', 'web 03-04 01: last']


def test_names_that_are_not_meant_and_guests_that_are_left_out() -> None:
    both = [*taken('03-01 01', '03-02 01'), {**taken('01-01 01')[0], 'name': 'by-hand'}]
    plan = fleet_prune(host(db=both, web=both), {'last': 1}, names=['03-*'], exclude=['w*'])
    assert [(one['domain'], one['name']) for one in plan['removed']] == [('db', '03-01 01')]


def test_what_was_just_taken_counts_and_stays() -> None:
    fresh = [{'name': 'db', 'snapshot_name': 'new', 'created_at': '2026-03-05T01:00:00.000Z'}]
    old = taken('03-01 01', '03-02 01')
    assert [one['name'] for one in fleet_prune(host(db=old), {'last': 2}, taken=fresh)['removed']] == ['03-01 01']
    # the clock of the host was set back
    late = [{**fresh[0], 'created_at': '2026-01-01T00:00:00.000Z'}]
    plan = fleet_prune(host(db=old), {'last': 1}, taken=late)
    assert [one['name'] for one in plan['removed']] == ['03-01 01']
    assert 'db new: just taken' in plan['kept']


def test_what_time_it_is_for_a_host() -> None:
    old = taken('03-01 01', '03-02 01', '12-01 01')
    assert [one['name'] for one in fleet_prune(host(db=old), {'last': 2})['removed']] == ['03-01 01']
    assert fleet_prune(host(db=old), {'last': 2}, now='2026-03-03T00:00:00Z')['removed'] == []


def test_a_guest_that_cannot_be_read_is_told() -> None:
    problem = {'code': 'unreadable', 'message': 'The domain web cannot be read: no such key.'}
    other = {'code': 'orphaned_overlay', 'message': 'An overlay.'}
    plan = fleet_prune({**host(db=[]), 'problems': [problem, other]}, {'last': 1})
    assert plan['lines'] == ['The domain web cannot be read: no such key. Nothing of it goes.']
    assert plan['removals'] == []


def test_what_was_removed_where_a_removal_failed() -> None:
    both = taken('03-01 01', '03-02 01', '03-03 01')
    plan = fleet_prune(host(db=both, web=both), {'last': 1})
    first, second = plan['removals']
    results = [{'item': first, 'failed': True}, {'item': second}]
    left = host(db=both[2:], web=[both[0], both[2], {**both[1], 'made_by': 'libvirt'}])['domains']

    def told(*arguments: Any) -> list[tuple[str, str]]:
        return [(one['domain'], one['name']) for one in fleet_pruned(plan, *arguments)]

    assert told(results, left) == [('db', '03-01 01'), ('db', '03-02 01'), ('web', '03-02 01')]
    assert told(results) == [('db', '03-02 01'), ('web', '03-02 01')], 'nobody has looked: nothing is claimed'
    assert told(results[1:], left) == [('db', '03-02 01'), ('web', '03-02 01')], 'it was not tried'
    with pytest.raises(AnsibleFilterError, match='fleet_pruned takes'):
        fleet_pruned([], results)


def test_what_is_no_result_of_the_module() -> None:
    with pytest.raises(AnsibleFilterError, match='fleet_prune takes'):
        fleet_prune([], {'last': 1})
    with pytest.raises(AnsibleFilterError, match='fleet_prune: keep has'):
        fleet_prune(host(db=[]), {'first': 1})


@pytest.mark.parametrize(
    ('count', 'text'),
    [(None, 'unknown'), (0, '0 B'), (1023, '1023 B'), (1024, '1.0 KiB'), (150 << 20, '150 MiB'), (5 << 40, '5.0 TiB')],
)
def test_sizes(count: int | None, text: str) -> None:
    assert human(count) == text


class OfTemplate(list[Any]):
    """As the lists that ansible-core has in templates: nobody can make another one of their type."""

    made = False

    def __init__(self, items: Any) -> None:
        assert not OfTemplate.made, 'Direct construction of lazy containers is not supported.'
        super().__init__(items)


def test_lists_within_the_snapshots_are_those_of_a_template(monkeypatch: pytest.MonkeyPatch) -> None:
    disks = OfTemplate([{'target': 'vda', 'volumes': OfTemplate(['/images/vda.s1'])}])
    snapshots = [
        {'name': name, 'created_at': f'2026-03-01T0{hour}:00:00.000Z', 'disks': disks, 'needed_by': OfTemplate([])}
        for hour, name in enumerate(('older', 'newer'))
    ]
    monkeypatch.setattr(OfTemplate, 'made', True)
    [gone] = snapshots_to_remove(snapshots, {'last': 1})
    assert gone['name'] == 'older'
    assert gone['disks'] == [{'target': 'vda', 'volumes': ['/images/vda.s1']}]
