# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The chain of a disk as a drawing: a box for each layer, the base on the left, and below it the copies."""

from __future__ import annotations

import posixpath
import typing as t

from ansible_collections.disksnap.libvirt.plugins.plugin_utils.sizes import human

Record = t.Mapping[str, t.Any]

# pixels
_BOX = (212, 66)
_GAP = (30, 16)
_EDGE = 4
# within a box: its padding, and the characters of a fixed width that fit in
_PAD = 9
_FITS = 26
# methods whose snapshots are copies beside the image, not layers over it
_COPIES = ('lvm', 'btrfs', 'reflink', 'array')


def disks(domain: Record) -> list[dict[str, t.Any]]:
    """The disks of one domain of disk_snapshot_info, each with its drawing; drives without a chain are left out."""
    return [_disk(disk, domain) for disk in domain.get('disks', ()) if disk['chain']]


def _disk(disk: Record, domain: Record) -> dict[str, t.Any]:
    faults: dict[str, str] = {}
    for problem in domain['problems']:
        if problem['path'] and problem['disk'] in (disk['target'], None):
            faults.setdefault(problem['path'], problem['code'])
    layers = list(reversed(disk['chain']))
    boxes = [
        _layer(layer, number, number == len(layers) - 1, faults.get(layer['path']))
        for number, layer in enumerate(layers)
    ]
    lines = [_between(before, after) for before, after in zip(boxes, boxes[1:])]
    for number, (snapshot, copy) in enumerate(_copies(disk['target'], domain)):
        box = _copy(snapshot, copy, len(layers) - 1, number + 1, faults)
        lines.append(_below(boxes[len(layers) - 1], box))
        boxes.append(box)
    right = max(box['x'] for box in boxes) + _BOX[0]
    bottom = max(box['y'] for box in boxes) + _BOX[1]
    return {
        'target': disk['target'],
        'about': ', '.join(word for word in (disk['device'], disk['type'], disk['left_out']) if word),
        'says': ' on '.join(posixpath.basename(layer['path'] or '?') for layer in disk['chain']),
        'boxes': boxes,
        'lines': lines,
        'width': right + _EDGE,
        'height': bottom + _EDGE,
    }


def _copies(target: str, domain: Record) -> t.Iterator[tuple[Record, Record]]:
    """The snapshots that stand beside the image of a disk, with what they are of it."""
    for snapshot in domain.get('snapshots', ()):
        for one in snapshot['disks']:
            if one['target'] == target and one['method'] in _COPIES:
                yield snapshot, one


def _layer(layer: Record, column: int, active: bool, fault: str | None) -> dict[str, t.Any]:
    words = []
    if layer['snapshot'] or layer['made_by']:
        by = '' if layer['made_by'] == 'disksnap' else f' by {layer["made_by"]}'
        words.append(f'{layer["snapshot"] or "overlay"}{by}')
    if layer['pool']:
        words.append(f'pool {layer["pool"]}')
    return _box(
        column,
        0,
        path=layer['path'],
        size=_size(layer['format'], layer['allocation'], layer['capacity']),
        note=fault or ', '.join(words),
        kind='bad' if fault else 'active' if active else 'layer',
        share=_share(layer['allocation'], layer['capacity']),
    )


def _copy(snapshot: Record, copy: Record, column: int, row: int, faults: t.Mapping[str, str]) -> dict[str, t.Any]:
    source = copy['backup_source'] or {}
    path = source.get('path') or next((volume['path'] for volume in copy['volumes']), None)
    fault = copy['fault'] or faults.get(path or '')
    return _box(
        column,
        row,
        path=path,
        size=_size(source.get('format'), copy['allocation'], None),
        note=fault or f'{snapshot["name"]}, a copy by {copy["method"]}',
        kind='bad' if fault else 'copy',
        share=0.0,
    )


def _size(form: str | None, allocation: int | None, capacity: int | None) -> str:
    taken = human(allocation) if allocation is not None else 'size unknown'
    return f'{form or "?"}, {taken}' + (f' of {human(capacity)}' if capacity else '')


def _share(allocation: int | None, capacity: int | None) -> float:
    """How much of the bar of a box is filled, from 0 to 1; an image may be larger than what the guest sees."""
    return min(1.0, (allocation or 0) / capacity) if capacity else 0.0


def _box(column: int, row: int, *, path: str | None, size: str, note: str, kind: str, share: float) -> dict[str, t.Any]:
    x, y = _EDGE + column * (_BOX[0] + _GAP[0]), _EDGE + row * (_BOX[1] + _GAP[1])
    return {
        'x': x,
        'y': y,
        'width': _BOX[0],
        'height': _BOX[1],
        'left': x + _PAD,
        'bar': _BOX[0] - 2 * _PAD,
        'filled': round(share * (_BOX[0] - 2 * _PAD), 1),
        'name': fit(posixpath.basename(path) if path else 'not known'),
        'size': size,
        'note': fit(note, _FITS + 4),
        'kind': kind,
        'title': f'{path or "not known"}\n{size}\n{note}'.strip(),
    }


def _between(lower: Record, upper: Record) -> dict[str, t.Any]:
    """An arrow from an overlay to what it stands on."""
    middle = lower['y'] + lower['height'] / 2
    return {'x1': upper['x'], 'y1': middle, 'x2': lower['x'] + lower['width'] + 3, 'y2': middle, 'kind': 'backing'}


def _below(image: Record, copy: Record) -> dict[str, t.Any]:
    middle = image['x'] + image['width'] / 2
    return {'x1': middle, 'y1': copy['y'], 'x2': middle, 'y2': copy['y'] - _GAP[1], 'kind': 'copy'}


def fit(text: str, length: int = _FITS) -> str:
    """A text that is not longer than this: what is left out is in its middle, as the ends of names tell most."""
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f'{text[:head]}…{text[len(text) - (length - 1 - head) :]}'
