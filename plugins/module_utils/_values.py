# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a value that was written down, and that anybody may have changed since, can be.

A check takes the value and returns what is wrong with it, as a clause, or None.
"""

from __future__ import annotations

import datetime
import json
import math
import typing as t

Check = t.Callable[[str], t.Optional[str]]

_TIMESTAMP = '%Y-%m-%dT%H:%M:%S.%fZ'
_MOST = 2**64 - 1


def one_of(*words: str) -> Check:
    """One of a few words."""

    def check(value: str) -> str | None:
        return None if value in words else f'{value!r} is none of {", ".join(words)}'

    return check


def something(value: str) -> str | None:
    """Any text but none."""
    return None if value else 'it is empty'


def path(value: str) -> str | None:
    """An absolute path."""
    return None if value.startswith('/') else f'{value!r} is no absolute path'


def moment(value: str) -> str | None:
    """A timestamp."""
    return None if parsed(value) is not None else f'{value!r} is no timestamp'


def json_object(value: str) -> str | None:
    """A JSON object."""
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        found = None
    return None if isinstance(found, dict) else 'it is not a JSON object'


def parsed(timestamp: str) -> datetime.datetime | None:
    """The moment that a timestamp means; None if it is none."""
    try:
        return datetime.datetime.strptime(timestamp, _TIMESTAMP).replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        return None


# -- conversions --------------------------------------------------------------------------------------------------


def count(text: str) -> int:
    """A whole number that a 64-bit counter holds.

    Raises:
        ValueError: if it is none.
    """
    value = int(text)
    if not 0 <= value <= _MOST:
        raise ValueError(f'{text[:40]} is not within 0 and {_MOST}')
    return value


def amount(text: str) -> float:
    """A number that is neither below zero nor infinite.

    Raises:
        ValueError: if it is none.
    """
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f'{text[:40]} is not a number from 0 upwards')
    return value


def truth(text: str) -> bool:
    """Whether it says yes.

    Raises:
        ValueError: if it says neither yes nor no.
    """
    if text not in ('yes', 'no'):
        raise ValueError(f'{text[:40]!r} is neither yes nor no')
    return text == 'yes'
