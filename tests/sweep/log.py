# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What became of each point, in a file that outlives a sweep that is interrupted, and the table of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ansible_collections.disksnap.libvirt.tests.live.harness import ROOT
from ansible_collections.disksnap.libvirt.tests.sweep.points import Outcome


def _code() -> str:
    """A digest of all that a module may run."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / 'plugins').rglob('*.py')):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class Log:
    """Lines of JSON, a point each. What was found of other code than that of now does not count."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._code = _code()

    def add(self, outcome: Outcome) -> None:
        """Write a point down; several processes may at once."""
        line = json.dumps({'code': self._code, **asdict(outcome)}) + '\n'
        with open(self._path, 'a', encoding='utf-8', buffering=len(line) + 1) as log:
            log.write(line)

    def outcomes(self) -> list[Outcome]:
        """All points that were found with the code of now."""
        if not self._path.exists():
            return []
        lines = [json.loads(line) for line in self._path.read_text(encoding='utf-8').splitlines()]
        return [Outcome(**line) for line in lines if line.pop('code') == self._code]


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Lines: operation, points, faults, how many survived, and the longest that a guest stood still.

    Of those that survived, ``by hand`` needed somebody to put right what libvirt itself had lost.

    A run may make fewer calls than another; a point that no call was broken at is not one.
    """
    lines = [
        f'{"operation":<22} {"calls":>6} {"faults":>6} {"points":>7} {"survived":>9} {"by hand":>8} {"still, ms":>10}'
    ]
    broken = [outcome for outcome in outcomes if outcome.call or outcome.problems]
    for name in dict.fromkeys(outcome.operation for outcome in broken):
        found = [outcome for outcome in broken if outcome.operation == name]
        calls = max(outcome.number for outcome in found)
        faults = len({outcome.fault for outcome in found})
        survived = sum(not outcome.problems for outcome in found)
        by_hand = sum(bool(outcome.by_hand) for outcome in found if not outcome.problems)
        still = max(outcome.still_ms for outcome in found)
        lines.append(f'{name:<22} {calls:>6} {faults:>6} {len(found):>7} {survived:>9} {by_hand:>8} {still:>10.0f}')
    return lines
