# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Amounts as people read them."""

from __future__ import annotations

_UNITS = ('KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB')


def human(count: float | None) -> str:
    """Bytes with three digits or so: ``1.2 GiB``; ``unknown`` for None."""
    if count is None:
        return 'unknown'
    size, unit = float(count), 'B'
    for larger in _UNITS:
        if size < 1024:
            break
        size, unit = size / 1024, larger
    if unit == 'B':
        return f'{size:.0f} B'
    return f'{size:.0f} {unit}' if size >= 100 else f'{size:.1f} {unit}'


def counted(number: int, thing: str) -> str:
    """So many of a thing: ``1 guest``, ``2 guests``."""
    return f'{number} {thing}{"" if number == 1 else "s"}'
