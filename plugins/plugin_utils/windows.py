# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When guests stood still, as charts: each guest a bar, each host a lane, all by one scale of time."""

from __future__ import annotations

import datetime
import math
import typing as t

from ansible_collections.disksnap.libvirt.plugins.plugin_utils.sizes import counted

Record = t.Mapping[str, t.Any]

# windows that are further apart than this have charts of their own, as of a snapshot that was there before
_APART_MS = 60_000.0
# steps between two marks of the axis: these, times a power of ten
_STEPS = (1, 2, 5)
_MARKS = 6
# percent that a bar is wide at least, so that it is seen
_NARROWEST = 0.4
# what a guest takes of the height of its host's lane
LANE = 4


def window(host: str, guest: str, freeze: Record) -> dict[str, t.Any]:
    """How one guest stood still, from what disk_snapshot returned; ``begin`` is None where it is not known when."""
    began = _parsed(freeze.get('frozen_at'))
    length = freeze.get('window_ms')
    who = freeze.get('thawed_by')
    return {
        'host': host,
        'guest': guest,
        'begin': began.timestamp() * 1000 if began is not None and length is not None else None,
        'length': length,
        'text': duration(length) if length is not None else 'not known',
        'kind': 'good' if who in ('module', None) else 'bad',
        'how': _how(freeze),
    }


def _how(freeze: Record) -> str:
    who = {'module': '', 'watchdog': 'thawed by the watchdog', 'guest': 'thawed by the guest itself'}
    words = [
        counted(freeze['filesystems'], 'file system')
        if freeze.get('filesystems')
        else 'frozen by something else before',
        'synced before' if freeze.get('presynced') else '',
        who.get(freeze.get('thawed_by') or 'module', ''),
    ]
    return ', '.join(word for word in words if word)


def duration(ms: float) -> str:
    """A length of time, as it is read: ``48 ms``, ``1.25 s``, ``2 min 5 s``."""
    if ms < 1000:
        return f'{ms:.0f} ms'
    if ms < 60_000:
        return f'{ms / 1000:.2f} s'
    minutes, seconds = divmod(round(ms / 1000), 60)
    return f'{minutes} min {seconds} s' if seconds else f'{minutes} min'


def readable(moment: str | None) -> str:
    """A time stamp of a result for people: ``2026-03-01 02:00:00``; nothing for None."""
    found = _parsed(moment)
    return found.strftime('%Y-%m-%d %H:%M:%S') if found is not None else str(moment or '')


def _parsed(moment: str | None) -> datetime.datetime | None:
    try:
        return datetime.datetime.strptime(str(moment), '%Y-%m-%dT%H:%M:%S.%fZ').replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        return None


def longest(found: t.Iterable[Record | None]) -> Record | None:
    """The window that was longest."""
    known = [one for one in found if one is not None and one['length'] is not None]
    return max(known, key=lambda one: one['length'], default=None)


def together(found: t.Sequence[Record | None]) -> str:
    """For how long all stood still at once, by the clocks of their hosts; nothing where they did not."""
    known = [one for one in found if one is not None and one['begin'] is not None]
    if len(known) < 2 or len(known) < len(found) or len(_clusters(known)) > 1:
        return ''
    common = min(one['begin'] + one['length'] for one in known) - max(one['begin'] for one in known)
    return f'All stood still together for {duration(common)}.' if common > 0 else ''


# -- charts ---------------------------------------------------------------------------------------------------------


def charts(found: t.Sequence[Record], *, few: int) -> list[dict[str, t.Any]]:
    """A chart for each time at which guests stood still, the newest first.

    Args:
        found: windows; those of which it is not known when are left out.
        few: with more guests in a chart than this, only its lanes are unfolded.
    """
    known = [one for one in found if one['begin'] is not None]
    return [_chart(cluster, few) for cluster in reversed(_clusters(known))]


def _clusters(known: t.Sequence[Record]) -> list[list[Record]]:
    clusters: list[list[Record]] = []
    end = -math.inf
    for one in sorted(known, key=lambda one: (one['begin'], one['host'], one['guest'])):
        if one['begin'] - end > _APART_MS:
            clusters.append([])
        clusters[-1].append(one)
        end = max(end, one['begin'] + one['length'])
    return clusters


def _chart(cluster: t.Sequence[Record], few: int) -> dict[str, t.Any]:
    begin = min(one['begin'] for one in cluster)
    span = max(1.0, *(one['begin'] + one['length'] - begin for one in cluster))
    hosts: dict[str, list[dict[str, t.Any]]] = {}
    for one in cluster:
        hosts.setdefault(one['host'], []).append(_bar(one, begin, span))
    moment = datetime.datetime.fromtimestamp(begin / 1000, datetime.timezone.utc)
    return {
        'moment': f'{moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]} UTC',
        'span': duration(span),
        'count': len(cluster),
        'marks': _marks(span),
        'lanes': [_lane(name, hosts[name]) for name in sorted(hosts)],
        'open': len(cluster) <= few,
    }


def _bar(one: Record, begin: float, span: float) -> dict[str, t.Any]:
    left = (one['begin'] - begin) / span * 100
    # milliseconds since 1970 leave a span that may be a hair shorter than the window that it is of
    width = min(max(one['length'] / span * 100, _NARROWEST), 100.0)
    return {**one, 'left': round(min(left, 100 - width), 3), 'width': round(width, 3)}


def _lane(name: str, bars: t.Sequence[Record]) -> dict[str, t.Any]:
    most = max(bars, key=lambda one: one['length'])
    return {
        'host': name,
        'bars': [{**one, 'top': number * LANE} for number, one in enumerate(bars)],
        'height': len(bars) * LANE,
        'note': f'{counted(len(bars), "guest")}, {most["text"]} at most',
    }


def _marks(span: float) -> list[dict[str, t.Any]]:
    """Marks of the axis at round times, in percent of its length."""
    least = span / _MARKS
    power = 10.0 ** math.floor(math.log10(least))
    step = next((factor * power for factor in _STEPS if factor * power >= least), 10 * power)
    return [
        {'left': round(number * step / span * 100, 3), 'label': duration(number * step) if number else '0'}
        for number in range(int(span / step) + 1)
    ]
