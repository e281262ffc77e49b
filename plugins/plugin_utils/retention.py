# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which snapshots of one domain a retention keeps, and by which rule. Pure: no clock, nothing is asked.

The rules are those of ``restic forget --keep-*``: each keeps the newest snapshot of each of its last so many periods
that have one, whatever the other rules keep, and what any rule keeps is kept.
"""

from __future__ import annotations

import calendar
import datetime
import json
import re
import typing as t

OURS = 'disksnap'
ALL = -1

_DURATION = re.compile(r'(?:(\d+)y)?(?:(\d+)m)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?')
_FORMATS = ('%Y-%m-%dT%H:%M:%S.%f%z', '%Y-%m-%dT%H:%M:%S%z')
# states in which a snapshot is whole, or has nothing before it but its removal
_PRESENT, _REMOVING = 'present', 'removing'

Snapshot = t.Mapping[str, t.Any]
Rules = dict[str, t.Any]


def _week(when: datetime.datetime) -> str:
    year, week, _day = when.isocalendar()
    return f'{year}-W{week:02}'


# what tells two periods of a rule apart, in UTC
_PERIODS: dict[str, t.Callable[[datetime.datetime], str]] = {
    'hourly': lambda when: when.strftime('%Y-%m-%dT%H'),
    'daily': lambda when: when.strftime('%Y-%m-%d'),
    'weekly': _week,
    'monthly': lambda when: when.strftime('%Y-%m'),
}
_COUNTS = ('last', *_PERIODS)


class BadInput(ValueError):
    """What was given is not what it should be; the message is a sentence."""


# -- what was given -----------------------------------------------------------------------------------------------


def read_rules(keep: t.Any) -> Rules:
    """The rules that say something: a number for each that counts, and the text of ``within``.

    Raises:
        BadInput: if one is unknown or malformed.
    """
    if isinstance(keep, str) and keep.strip().startswith('{'):
        try:
            keep = json.loads(keep)
        except ValueError as error:
            raise BadInput(f'keep is no JSON: {error}.') from error
    if not isinstance(keep, t.Mapping):
        raise BadInput(f'keep is {keep!r:.60}, and must be a dictionary of {", ".join((*_COUNTS, "within"))}.')
    rules: Rules = {}
    for name, value in keep.items():
        if name not in (*_COUNTS, 'within'):
            raise BadInput(f'keep has {name!r:.60}, and there are only {", ".join((*_COUNTS, "within"))}.')
        if value in (None, ''):
            continue
        rule = _duration_text(value) if name == 'within' else _count(name, value)
        if rule:
            rules[name] = rule
    return rules


def _count(name: str, value: t.Any) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r'-1|[0-9]{1,9}', text):
        raise BadInput(f'{name} of keep is {value!r:.60}, and must be a whole number from 0 upwards, or -1 for all.')
    return int(text)


def _duration_text(value: t.Any) -> str:
    text = str(value).replace(' ', '')
    if isinstance(value, bool) or not text or not _DURATION.fullmatch(text):
        raise BadInput(f'within of keep is {value!r:.60}, and must be as 7d, 2w or 1y6m (y, m for months, w, d, h).')
    return text if re.search('[1-9]', text) else ''


def _before(when: datetime.datetime, duration: str) -> datetime.datetime:
    """The moment that lies a duration before another one; months by the calendar."""
    match = _DURATION.fullmatch(duration)
    years, months, weeks, days, hours = (int(part or 0) for part in match.groups()) if match else (0,) * 5
    month = when.year * 12 + when.month - 1 - years * 12 - months
    try:
        length = calendar.monthrange(month // 12, month % 12 + 1)[1]
        there = when.replace(year=month // 12, month=month % 12 + 1, day=min(when.day, length))
        return there - datetime.timedelta(weeks=weeks, days=days, hours=hours)
    except (ValueError, OverflowError, IndexError):
        return datetime.datetime.min.replace(tzinfo=datetime.timezone.utc)


def moment(snapshot: Snapshot) -> datetime.datetime | None:
    """When a snapshot was taken; None if it does not say."""
    text = str(snapshot.get('created_at') or '').replace('Z', '+0000')
    for form in _FORMATS:
        try:
            return datetime.datetime.strptime(text, form).astimezone(datetime.timezone.utc)
        except (ValueError, OverflowError):
            continue
    return None


def name_of(snapshot: Snapshot) -> str:
    """Its name, as disk_snapshot_info has it, or as disk_snapshot does, whose ``name`` is the domain's."""
    return str(snapshot.get('snapshot_name') or snapshot.get('name') or '')


# -- the judgement --------------------------------------------------------------------------------------------------


def _untouchable(snapshot: Snapshot) -> str | None:
    """Why no rule may have a snapshot removed, and it counts for none; None if they may."""
    if snapshot.get('made_by', OURS) != OURS:
        return 'not made by disksnap.libvirt'
    state = snapshot.get('state')
    if state not in (None, _PRESENT, _REMOVING, 'absent', 'reverted'):
        return f'it is {state}'
    return 'nobody knows when it was taken' if moment(snapshot) is None else None


def _ruled(dated: list[tuple[datetime.datetime, int]], rules: Rules) -> dict[int, list[str]]:
    """Places of the snapshots that rules keep, with these; ``dated`` is the newest first."""
    kept: dict[int, list[str]] = {}
    for name in _COUNTS:
        left, last = rules.get(name, 0), None
        for when, place in dated:
            period = str(place) if name == 'last' else _PERIODS[name](when)
            if left == 0 or period == last:
                continue
            kept.setdefault(place, []).append(name if name == 'last' else f'{name} {period}')
            left, last = left - 1 if left != ALL else ALL, period
    if 'within' in rules and dated:
        limit = _before(dated[0][0], rules['within'])
        for when, place in dated:
            if when > limit:
                kept.setdefault(place, []).append(f'within {rules["within"]}')
    return kept


def judge(snapshots: t.Any, keep: t.Any) -> tuple[list[dict[str, t.Any]], list[dict[str, t.Any]]]:
    """Those that go, and those that stay with ``kept_by``, both the oldest first.

    Raises:
        BadInput: if one of the two is not what it should be.
    """
    if isinstance(snapshots, (str, t.Mapping)) or not isinstance(snapshots, t.Sequence):
        raise BadInput('The snapshots must be a list, as disk_snapshot_info returns it for a domain.')
    if not all(isinstance(one, t.Mapping) for one in snapshots):
        raise BadInput('Each of the snapshots must be a dictionary.')
    rules = read_rules(keep)
    ruled = [place for place, one in enumerate(snapshots) if _untouchable(one) is None]
    # one whose removal has begun is a point in time no more
    counted = [place for place in ruled if snapshots[place].get('state') != _REMOVING]
    dated = sorted(((_moment(snapshots[place]), place) for place in counted), reverse=True)
    kept = _ruled(dated, rules)
    gone, stay = [], []
    for place in sorted(range(len(snapshots)), key=lambda place: (_moment(snapshots[place]), place)):
        one = dict(snapshots[place])
        reasons = [why] if (why := _untouchable(one)) else kept.get(place, [])
        if not reasons and not rules:
            reasons = ['no rule']
        if not reasons:
            reasons = [f'needed: {why}' for why in one.get('needed_by') or ()]
        if reasons:
            stay.append({**one, 'kept_by': reasons})
        else:
            gone.append(one)
    return gone, stay


def _moment(snapshot: Snapshot) -> datetime.datetime:
    return moment(snapshot) or datetime.datetime.min.replace(tzinfo=datetime.timezone.utc)
