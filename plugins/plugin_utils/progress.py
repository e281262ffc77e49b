# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lines that say how far a merge is. Pure: samples in, text out."""

from __future__ import annotations

import json
import math
import typing as t
from dataclasses import dataclass

from ansible_collections.disksnap.libvirt.plugins.plugin_utils.sizes import human

_STEPS = (('TiB', 1 << 40), ('GiB', 1 << 30), ('MiB', 1 << 20), ('KiB', 1 << 10), ('B', 1))
# no disk of anybody's takes longer
_LONGEST = 100 * 3600


@dataclass(frozen=True)
class Sample:
    """One disk at one moment: seconds since its run began, and bytes."""

    domain: str
    target: str
    seconds: float
    cur: int
    end: int


def read(text: str) -> list[Sample]:
    """The samples in a progress file; none of one that is damaged, or not there yet."""
    try:
        found = json.loads(text)
        seconds = float(found['seconds'])
        return [
            Sample(str(one['domain']), str(one['target']), seconds, max(0, int(one['cur'])), max(0, int(one['end'])))
            for one in found['disks']
        ]
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return []


def clock(seconds: float) -> str:
    """``0:52``, ``12:07`` or ``1:02:33``."""
    whole = math.ceil(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f'{hours}:{minutes:02}:{whole % 60:02}' if hours else f'{minutes}:{whole % 60:02}'


def line(now: Sample, before: Sample | None = None) -> str:
    """One disk, as ``db1 vdb merging 43% 12.1/28.0 GiB 310 MiB/s 0:52 left``.

    Args:
        now: how far it is.
        before: an earlier sample, from which the rate is told; None leaves that out.
    """
    end = max(now.end, now.cur)
    if not end:
        return f'{now.domain} {now.target} merging'
    unit, size = next((name, step) for name, step in _STEPS if end >= step)
    digits = 0 if unit == 'B' else 1
    percent = now.cur * 100 // end
    text = f'{now.domain} {now.target} merging {percent}% {now.cur / size:.{digits}f}/{end / size:.{digits}f} {unit}'
    passed = now.seconds - before.seconds if before is not None else 0.0
    done = now.cur - before.cur if before is not None else 0
    rate = done / passed if passed > 0 else 0.0
    if not 0 < rate < float('inf'):
        return text
    left = (end - now.cur) / rate
    return f'{text} {human(rate)}/s' + (f' {clock(left)} left' if left <= _LONGEST else '')


class Teller:
    """Which lines to show, sample by sample: each disk now and then, by the rate since its last line."""

    def __init__(self, every: float) -> None:
        self._every = every
        self._first: dict[tuple[str, str], Sample] = {}
        self._shown: dict[tuple[str, str], Sample] = {}

    def lines(self, samples: t.Iterable[Sample]) -> list[str]:
        """The lines that are due."""
        due = []
        for now in samples:
            key = now.domain, now.target
            first = self._first.setdefault(key, now)
            last = self._shown.get(key, first)
            # the first line comes sooner, so that one sees that something goes on
            wait = self._every if key in self._shown else min(self._every, 5.0)
            if now.seconds - (last.seconds if key in self._shown else 0.0) >= wait:
                due.append(line(now, last if last is not now else None))
                self._shown[key] = now
        return due
