# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What LVM allows: names, and how much copy-on-write space a snapshot is given. Nothing here asks LVM."""

from __future__ import annotations

import re

# lvm(8), "VALID NAMES", and the strings in the program of 2.03.16
_VALID_NAME = re.compile(r'[A-Za-z0-9+_.][A-Za-z0-9+_.-]*')
_RESERVED_BEGINNINGS = ('snapshot', 'pvmove')
_RESERVED_PARTS = (
    *('_cdata', '_cmeta', '_corig', '_cpool', '_cvol', '_imeta', '_iorig', '_mimage', '_mlog', '_pmspare'),
    *('_rimage', '_rmeta', '_tdata', '_tmeta', '_vdata', '_vorigin', '_wcorig'),
)
# The device-mapper takes names of 127 bytes, "VG-LV" with doubled hyphens and, below a classic snapshot, a suffix of
# LVM's. Beyond that lvcreate 2.03.16 fails half-way ("Manual intervention may be required"): it must not be asked.
_MAPPER_LIMIT = 127
_LAYER = '-real'

_UNITS = {'K': 1024, 'M': 1024**2, 'G': 1024**3, 'T': 1024**4, 'P': 1024**5}
DEFAULT_SIZE = '20%ORIGIN'
_LEAST = 16 * 1024**2
_LEAST_EXTENTS = 4
# lvcreate's default for classic snapshots, in bytes; 16 bytes of each chunk of exceptions tell where one chunk is
_CHUNK = 4096
_EXCEPTION = 16
_SPARE_CHUNKS = 3


def name_fault(vg: str, name: str) -> str | None:
    """Why LVM would not take ``name`` for an LV of ``vg``, as a clause; None if it would."""
    if not _VALID_NAME.fullmatch(name) or name in ('.', '..'):
        return 'a logical volume is named with A-Z a-z 0-9 + _ . - and does not begin with -'
    for word in _RESERVED_BEGINNINGS:
        if name.startswith(word):
            return f'LVM keeps names that begin with {word} for itself'
    for word in _RESERVED_PARTS:
        if word in name:
            return f'LVM keeps names with {word} in them for itself'
    mapped = f'{vg.replace("-", "--")}-{name.replace("-", "--")}{_LAYER}'
    if len(mapped) > _MAPPER_LIMIT:
        most = _MAPPER_LIMIT - len(_LAYER)
        return f'the device-mapper calls it {mapped[: -len(_LAYER)]}, which must not be longer than {most} characters'
    return None


def snapshot_name(origin: str, snapshot: str, domain: str | None) -> str:
    """The name of a snapshot LV. What comes after the origin's name tells the two kinds apart: ``.`` or ``-``.

    Args:
        origin: name of the LV that it is of.
        snapshot: the task's snapshot_name.
        domain: the domain, where the LV holds more than the disk: several domains may have images there.
    """
    if domain is None:
        return f'{origin}.{snapshot}'
    return f'{origin}-{re.sub("[^A-Za-z0-9+_.-]", "_", domain)}.{snapshot}'


def _up(value: int, step: int) -> int:
    return -(-value // step) * step


def most_useful(origin: int) -> int:
    """Bytes beyond which a classic snapshot of an LV of ``origin`` bytes cannot use more: it then never overflows.

    The origin's chunks, a header, and the tables that say where they are (_cow_max_size in LVM's snapshot_manip.c).
    """
    chunks = -(-origin // _CHUNK)
    tables = chunks // (_CHUNK // _EXCEPTION) + 1
    return (1 + chunks + tables + _SPARE_CHUNKS) * _CHUNK


def cow_size(wanted: str | None, origin: int, extent: int) -> int:
    """Bytes of copy-on-write space, whole extents.

    The default is a fifth of the origin, but no less than 4 extents and 16 MiB. Nothing gets more than it can use.

    Args:
        wanted: the option ``size``; None for the default.
        origin: bytes of the LV.
        extent: bytes of an extent of its VG.
    """
    match = re.fullmatch(r'([0-9]+)(.+)', wanted or DEFAULT_SIZE)
    number, unit = (int(match.group(1)), match.group(2)) if match else (0, '')
    size = number * _UNITS[unit.upper()] if unit.upper() in _UNITS else -(-origin * number // 100)
    if wanted is None:
        size = max(size, _LEAST, _LEAST_EXTENTS * extent)
    return min(_up(max(size, 1), extent), _up(most_useful(origin), extent))


def size_option(size: int) -> str:
    """A size in bytes as the option ``size`` says it, in the largest unit that holds it whole."""
    for unit in reversed(_UNITS):
        if size % _UNITS[unit] == 0:
            return f'{size // _UNITS[unit]}{unit}'
    return f'{-(-size // 1024)}K'


def words(size: int) -> str:
    """A size in bytes for a message."""
    for unit in ('T', 'G', 'M', 'K'):
        if size >= _UNITS[unit]:
            return f'{size / _UNITS[unit]:.1f}'.removesuffix('.0') + f' {unit}iB'
    return f'{size} bytes'
