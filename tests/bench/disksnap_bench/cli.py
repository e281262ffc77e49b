# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The bench: its cases, its order, and the table at its end."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab

from . import audit, fleet, thin
from .contenders import COLLECTION, FLOOR, LOOP, PLAYBOOK, REFLINK, SHELL_REFLINK, VIRSH, Contender
from .rounds import measure

MIB = 1024 * 1024
DIRTY_MIB = 60
DIRTY_LIMIT = 20 * MIB
DIRTY_ENOUGH = 0.8
# two shared cores: a guest settles for a moment after its boot
SETTLE_RECORDS = 100
THIN = 'thin LV'
FLEET = 'fleet'
AUDIT = 'audit'


@dataclass(frozen=True)
class Aim:
    """What this collection's median over a peer's should be at most."""

    peer: Contender
    ratio: float


@dataclass(frozen=True)
class Case:
    """Guests, the contenders on them (this collection first), and the aims.

    ``filesystem`` is the kind of a file system of its own for the images.
    """

    name: str
    specs: list[GuestSpec]
    contenders: list[Contender]
    aims: list[Aim]
    dirty: bool = False
    filesystem: str | None = None

    @property
    def ours(self) -> Contender:
        """This collection."""
        return self.contenders[0]


CASES = [
    Case(
        '1 disk',
        [GuestSpec('one', disks=[DiskSpec()])],
        [COLLECTION, VIRSH, PLAYBOOK, FLOOR],
        [Aim(VIRSH, 0.95), Aim(FLOOR, 1.2), Aim(PLAYBOOK, 0.1)],
    ),
    Case(
        '4 disks',
        [GuestSpec('four', disks=[DiskSpec()] * 4)],
        [COLLECTION, VIRSH, PLAYBOOK, FLOOR],
        [Aim(VIRSH, 0.80), Aim(FLOOR, 1.2), Aim(PLAYBOOK, 0.1)],
    ),
    Case(
        '4 guests',
        [GuestSpec(f'group{number}', disks=[DiskSpec()]) for number in range(1, 5)],
        [COLLECTION, LOOP],
        [Aim(LOOP, 0.5)],
    ),
    Case(
        'dirty pages',
        [
            GuestSpec(
                'dirty',
                disks=[DiskSpec(size_mib=256, io_limit=DIRTY_LIMIT)],
                writer='nosync',
                dirty_mib=DIRTY_MIB,
                dirty_rate=1,
            )
        ],
        [COLLECTION, VIRSH],
        [Aim(VIRSH, 0.1)],
        dirty=True,
    ),
    *(
        Case(
            f'reflink, {kind}',
            [GuestSpec(kind, disks=[DiskSpec(format='raw', size_mib=256)])],
            [REFLINK, SHELL_REFLINK, FLOOR],
            [Aim(SHELL_REFLINK, 1.0)],
            filesystem=kind,
        )
        for kind in ('xfs', 'btrfs')
    ),
]


def _say(text: str) -> None:
    print(text, flush=True)


def _ready(case: Case, guests: Sequence[Guest]) -> Callable[[], None]:
    """What the guests must come to before each turn: those of the dirty case, a burst of pages not yet written back."""

    def dirty() -> None:
        for guest in guests if case.dirty else ():
            target = next(iter(guest.disks))
            size = ('bs=1M', f'count={DIRTY_MIB}', 'conv=notrunc')
            guest.exec('dd', 'if=/dev/zero', f'of=/mnt/{target}/dirty', *size, timeout=60)
            if guest.dirty_mib() < DIRTY_ENOUGH * DIRTY_MIB:
                raise RuntimeError(f'{guest.name} has only {guest.dirty_mib():.0f} MiB of dirty pages')

    return dirty


def run_case(lab: Lab, case: Case, rounds: int) -> dict[str, list[float]]:
    """Start the guests of a case, measure, and remove them."""
    _say(f'{case.name}: starting {len(case.specs)} guest{"s" if len(case.specs) > 1 else ""}')
    guests: list[Guest] = []
    try:
        directory = lab.filesystem(f'bench-{case.filesystem}', case.filesystem) if case.filesystem else None
        guests += [lab.define(replace(spec, directory=directory)) for spec in case.specs]
        for guest in guests:
            guest.wait_agent(300)
            guest.wait_acked(SETTLE_RECORDS, 120)
        return measure(case.contenders, guests, rounds, ready=_ready(case, guests), say=_say)
    finally:
        for guest in guests:
            guest.remove()
        if case.filesystem:
            lab.remove_filesystem(f'bench-{case.filesystem}')


def run_thin(rounds: int) -> tuple[Case, dict[str, list[float]]]:
    """The case of the thin LV, which has a hypervisor of its own."""
    _say(f'{THIN}: starting the hypervisor')
    with thin.hypervisor(_say) as hv:
        ours, script, floor = thin.contenders(hv)
        case = Case(THIN, [], [ours, script, floor], [Aim(script, 1.0)])
        return case, measure(case.contenders, [hv.guest(thin.GUEST)], rounds, ready=lambda: None, say=_say)


def table(results: Sequence[tuple[Case, dict[str, list[float]]]]) -> list[str]:
    """The lines of the closing table: medians, ranges, and the ratios to the peers beside their aims."""
    lines = [f'{"case":<14} {"how":<22} {"median":>8} {"min":>8} {"max":>8}   ratio of this collection to it']
    for case, gaps in results:
        ours = statistics.median(gaps[case.ours.name])
        for contender in case.contenders:
            values = gaps[contender.name]
            median = statistics.median(values)
            aim = next((aim for aim in case.aims if aim.peer is contender), None)
            verdict = ''
            if aim is not None:
                ratio = ours / median
                verdict = f'{ratio:.2f} (aim {aim.ratio:.2f}: {"met" if ratio <= aim.ratio else "missed"})'
            figures = f'{median:8.0f} {min(values):8.0f} {max(values):8.0f}'
            lines.append(f'{case.name:<14} {contender.name:<22} {figures}   {verdict}'.rstrip())
    return lines


def main() -> int:
    """Run the cases that were asked for."""
    parser = argparse.ArgumentParser(
        description='Measure how long guests stand still while they are snapshotted, and what a host and a fleet cost.'
    )
    parser.add_argument('--rounds', type=int, default=9, help='turns of each contender (default 9), of a fleet a third')
    parser.add_argument(
        '--case', action='append', choices=[*(case.name for case in CASES), AUDIT, THIN, FLEET], help='only this one'
    )
    parser.add_argument('--lab', default='bench', help='name of the lab (default bench)')
    options = parser.parse_args()
    results = []
    with Lab(options.lab) as lab:
        for case in CASES:
            if not options.case or case.name in options.case:
                results.append((case, run_case(lab, case, options.rounds)))
        of_audit = audit.run_audit(lab, options.rounds, _say) if not options.case or AUDIT in options.case else []
    if not options.case or THIN in options.case:
        results.append(run_thin(options.rounds))
    of_fleet = fleet.run_fleet(max(1, options.rounds // 3), _say) if not options.case or FLEET in options.case else []
    if results:
        _say(f'\nMilliseconds that a writer stood still at the most, {options.rounds} rounds:\n')
        for line in table(results):
            _say(line)
    for line in [*of_audit, *of_fleet]:
        _say(line)
    return 0


if __name__ == '__main__':
    sys.exit(main())
