# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a retention keeps, held against an independent model of what restic keeps.

The model is of ApplyPolicy in internal/data/snapshot_policy.go of restic: one walk over the list, the newest first,
with a bucket a rule. Its months are those of Go's AddDate: 31 February is 3 March.
"""

from __future__ import annotations

import datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.disksnap.libvirt.plugins.filter.snapshots_to_remove import snapshots_to_remove
from ansible_collections.disksnap.libvirt.plugins.plugin_utils.retention import read_rules

START = datetime.datetime(2024, 2, 27, tzinfo=datetime.timezone.utc)
rules = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(('last', 'hourly', 'daily', 'weekly', 'monthly'), st.integers(-1, 12)),
        'within': st.from_regex(r'\A[0-9]{1,2}[ymwdh]\Z'),
    },
)


def names(found: list[dict[str, Any]]) -> list[str]:
    return [one['name'] for one in found]


def go_before(when: datetime.datetime, unit: str, count: int) -> datetime.datetime:
    """The moment so much before another one, as time.AddDate and time.Add have it."""
    days = {'h': count / 24, 'd': count, 'w': 7 * count}
    if unit in days:
        return when - datetime.timedelta(days=days[unit])
    total = when.year * 12 + when.month - 1 - count * (12 if unit == 'y' else 1)
    first = when.replace(year=total // 12, month=total % 12 + 1, day=1)
    return first + datetime.timedelta(days=when.day - 1)


BUCKETS: dict[str, Any] = {
    'last': lambda _when, number: number,
    'hourly': lambda when, _number: (when.date(), when.hour),
    'daily': lambda when, _number: when.date(),
    'weekly': lambda when, _number: when.isocalendar()[:2],
    'monthly': lambda when, _number: (when.year, when.month),
}


def restic_keeps(snapshots: list[dict[str, Any]], keep: dict[str, Any], now: datetime.datetime) -> set[str]:
    """Names of those that restic forget would keep; of two of one moment, the later in the list comes first."""
    when = {one['name']: datetime.datetime.fromisoformat(one['created_at'][:-1] + '+00:00') for one in snapshots}
    ordered = names(snapshots)[::-1]
    ordered.sort(key=lambda name: when[name], reverse=True)  # stable, as sort.Stable of Go
    past = [when[name] for name in ordered if when[name] < now]
    left = {name: keep.get(name, 0) for name in BUCKETS}
    seen: dict[str, Any] = dict.fromkeys(BUCKETS)
    kept = set()
    for number, name in enumerate(ordered):
        within = keep.get('within', '0d')
        if int(within[:-1]) and (not past or when[name] > go_before(past[0], within[-1], int(within[:-1]))):
            kept.add(name)
        for rule, bucket in BUCKETS.items():
            value = bucket(when[name], number)
            if left[rule] in (0, None) or (value == seen[rule] and number != len(ordered) - 1):
                continue
            kept.add(name)
            seen[rule] = value
            left[rule] -= left[rule] > 0
    return kept


moments = st.integers(0, 60 * 24 * 800) | st.sampled_from([0, 1, 59, 60, 1440, 1441, 46080, 100000])
# equal moments, whole hours, broken ones; the names are places
mixtures = st.lists(st.tuples(moments, st.booleans()), max_size=30).map(
    lambda found: [
        {
            'name': str(place),
            'made_by': 'disksnap',
            'state': 'present',
            'created_at': (START + datetime.timedelta(minutes=minute)).strftime('%Y-%m-%dT%H:%M:%S.000Z'),
            'disks': [{'target': 'vda', 'fault': 'it has overflowed' if bad else None}],
        }
        for place, (minute, bad) in enumerate(found)
    ]
)
nows = moments.map(lambda minute: START + datetime.timedelta(minutes=minute))
AFTER = START + datetime.timedelta(days=801)


def speaks(keep: dict[str, Any]) -> bool:
    return bool(read_rules(keep))


def exact(keep: dict[str, Any]) -> bool:
    """Whether its months cannot differ from those of restic, which are never longer than the calendar's."""
    return keep.get('within', '0d')[-1] not in 'ym'


def stays(snapshots: list[dict[str, Any]], keep: dict[str, Any], now: datetime.datetime | None) -> set[str]:
    return set(names(snapshots_to_remove(snapshots, keep, explain=True, now=now)['keep']))


@given(mixtures, rules.filter(speaks))
def test_what_restic_keeps_is_kept(snapshots: list[dict[str, Any]], keep: dict[str, Any]) -> None:
    whole = [one for one in snapshots if one['disks'][0]['fault'] is None]
    wanted, found = restic_keeps(whole, keep, AFTER), stays(whole, keep, AFTER)
    assert wanted <= found
    assert wanted == found or not exact(keep)


@given(mixtures, rules.filter(speaks), nows)
def test_doubtful_ones_change_nothing_for_the_others(
    snapshots: list[dict[str, Any]], keep: dict[str, Any], now: datetime.datetime
) -> None:
    sound = [
        one
        for one in snapshots
        if one['disks'][0]['fault'] is None and datetime.datetime.fromisoformat(one['created_at'][:-1] + '+00:00') < now
    ]
    among, alone = restic_keeps(snapshots, keep, now), restic_keeps(sound, keep, now)
    found, good = stays(snapshots, keep, now), set(names(sound))
    assert among | alone <= found
    if exact(keep):
        assert found & good == alone
        assert found - good == among - good


@given(mixtures, st.integers(1, 900), st.lists(st.integers(0, 60 * 24 * 900), max_size=5))
def test_without_now_a_leap_into_the_future_removes_nothing(
    snapshots: list[dict[str, Any]], days: int, leaps: list[int]
) -> None:
    keep = {'within': f'{days}d'}
    leapt = START + datetime.timedelta(days=800 + days)
    future = [
        {
            'name': f'f{place}',
            'created_at': (leapt + datetime.timedelta(minutes=by)).isoformat(),
        }
        for place, by in enumerate(leaps)
    ]
    assert stays(snapshots, keep, None) <= stays(snapshots + future, keep, None)
    assert stays(snapshots, keep, AFTER) <= stays(snapshots, keep, None)
