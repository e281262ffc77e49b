# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The short table at the end."""

from __future__ import annotations

from collections.abc import Sequence

from .proof import Proof

_HEAD = ('guest', 'disk', 'holds', 'method', 'consistency', 'frozen', 'stood still', 'records', 'copy', 'after merge')


def table(proofs: Sequence[Proof], domains: dict[str, dict[str, object]], merged: dict[str, bool]) -> list[str]:
    """Lines of text, a disk a line."""
    rows = [_HEAD, *(_row(proof, domains[proof.guest.name], merged[proof.guest.name]) for proof in proofs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ['  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    return [lines[0], '-' * max(map(len, lines)), *lines[1:]]


def _row(proof: Proof, domain: dict[str, object], merged: bool) -> tuple[str, ...]:
    made = proof.guest.disks[proof.target]
    freeze = domain['freeze']
    window = freeze['window_ms'] if isinstance(freeze, dict) else None
    return (
        proof.guest.name,
        proof.target,
        f'{made.fs} in {made.format}',
        str(proof.taken['method']),
        str(domain['consistency']),
        '-' if window is None else f'{window:.0f} ms',
        f'{proof.stood_still_ms:.0f} ms',
        str(proof.copy.records),
        'clean, complete' if proof.copy.clean and proof.copy.holds(proof.acked) else 'BAD',
        'as before' if merged else 'CHANGED',
    )
