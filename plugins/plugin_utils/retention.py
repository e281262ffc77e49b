# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which snapshots of one domain a retention keeps, and by which rule. Pure: no clock, nothing is asked.

The rules are those of ``restic forget --keep-*``: each keeps the newest snapshot of each of its last so many periods
that have one, and the oldest of all while it may keep more, whatever the other rules keep; what any rule keeps is kept.

Snapshots that are broken, or dated after now, take no place from the others: the rules are applied to these alone as
well, and what is kept either way is kept.
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
_MOMENT = re.compile(r'(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d+))? ?(Z|[+-]\d\d:?\d\d)?')
# states in which a snapshot is whole, or has nothing before it but its removal
_PRESENT, _REMOVING = 'present', 'removing'

Snapshot = t.Mapping[str, t.Any]
Rules = dict[str, t.Any]
# when snapshots were taken, and their places in the list that was given; the newest first
Dated = list[tuple[datetime.datetime, int]]


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


def read_moment(value: t.Any) -> datetime.datetime | None:
    """A moment as text or as YAML reads it; UTC if it names no zone. None if it is none."""
    if isinstance(value, datetime.datetime):
        when = value
    else:
        match = _MOMENT.fullmatch(str(value or '').strip())
        if match is None:
            return None
        day, time, fraction, zone = match.groups()
        text = f'{day}T{time}.{(fraction or "0")[:6]}{(zone or "Z").replace("Z", "+0000")}'
        try:
            when = datetime.datetime.strptime(text, '%Y-%m-%dT%H:%M:%S.%f%z')
        except ValueError:
            return None
    try:
        return when.replace(tzinfo=when.tzinfo or datetime.timezone.utc).astimezone(datetime.timezone.utc)
    except OverflowError:
        return None


def read_now(value: t.Any) -> datetime.datetime | None:
    """What was given as ``now``; None if nothing was.

    Raises:
        BadInput: if it is no moment.
    """
    if value in (None, ''):
        return None
    when = read_moment(value)
    if when is None:
        raise BadInput(f'now is {value!r:.60}, and must be a moment as 2026-03-01T02:00:00Z.')
    return when


def moment(snapshot: Snapshot) -> datetime.datetime | None:
    """When a snapshot was taken; None if it does not say."""
    return read_moment(snapshot.get('created_at'))


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


def _doubt(snapshot: Snapshot, now: datetime.datetime | None) -> str | None:
    """Why a snapshot takes no place from the others; None if it counts."""
    if now is not None and _moment(snapshot) >= now:
        return 'it is dated after now'
    for disk in snapshot.get('disks') or ():
        if isinstance(disk, t.Mapping) and disk.get('fault'):
            return f'its disk {disk.get("target")} is broken ({disk["fault"]})'
    return None


def _ruled(dated: Dated, rules: Rules, now: datetime.datetime | None) -> dict[int, list[str]]:
    """Places of the snapshots that rules keep, with these."""
    kept: dict[int, list[str]] = {}
    for name in _COUNTS:
        left, last = rules.get(name, 0), None
        for when, place in dated:
            period = str(place) if name == 'last' else _PERIODS[name](when)
            if left == 0 or (period == last and place != dated[-1][1]):
                continue
            told = name if name == 'last' else f'{name} {period}'
            kept.setdefault(place, []).append(f'oldest {told}' if period == last else told)
            left, last = left - 1 if left != ALL else ALL, period
    if 'within' in rules:
        for place in _recent(dated, rules['within'], now):
            kept.setdefault(place, []).append(f'within {rules["within"]}')
    return kept


def _recent(dated: Dated, duration: str, now: datetime.datetime | None) -> t.Iterator[int]:
    """Places of those no older than the duration, counted from the newest one before now; all if all are after it.

    Where nobody said what time it is, a gap as long as the duration may be a clock that was wrong. What lies before it
    is counted from the newest before it as well: it would stay, were there nothing after the gap.
    """
    if now is not None:
        newest = next((when for when, _place in dated if when < now), None)
        yield from (place for when, place in dated if newest is None or when > _before(newest, duration))
        return
    start = above = datetime.datetime.max.replace(tzinfo=datetime.timezone.utc)
    for when, place in dated:
        if when <= _before(above, duration):
            start = when
        above = when
        if when > _before(start, duration):
            yield place


def judge(snapshots: t.Any, keep: t.Any, now: t.Any = None) -> tuple[list[dict[str, t.Any]], list[dict[str, t.Any]]]:
    """Those that go, and those that stay with ``kept_by``, both the oldest first.

    Raises:
        BadInput: if one of the arguments is not what it should be.
    """
    if isinstance(snapshots, (str, t.Mapping)) or not isinstance(snapshots, t.Sequence):
        raise BadInput('The snapshots must be a list, as disk_snapshot_info returns it for a domain.')
    if not all(isinstance(one, t.Mapping) for one in snapshots):
        raise BadInput('Each of the snapshots must be a dictionary.')
    rules, time = read_rules(keep), read_now(now)
    kept = _kept(snapshots, rules, time)
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


def _kept(snapshots: t.Sequence[Snapshot], rules: Rules, now: datetime.datetime | None) -> dict[int, list[str]]:
    """Places of the snapshots that rules keep, with these."""
    # one whose removal has begun is a point in time no more
    counted = [
        place for place, one in enumerate(snapshots) if _untouchable(one) is None and one.get('state') != _REMOVING
    ]
    dated = sorted(((_moment(snapshots[place]), place) for place in counted), reverse=True)
    doubts = {place: doubt for place in counted if (doubt := _doubt(snapshots[place], now))}
    kept = _ruled(dated, rules, now)
    for place in kept.keys() & doubts.keys():
        kept[place].append(f'does not count: {doubts[place]}')
    # a doubt is never a reason to remove: it may be one about the host, as where LVM does not answer
    return {**kept, **_ruled([pair for pair in dated if pair[1] not in doubts], rules, now)}


def _moment(snapshot: Snapshot) -> datetime.datetime:
    return moment(snapshot) or datetime.datetime.min.replace(tzinfo=datetime.timezone.utc)
