# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One worker's points, in a lab of its own, and the table of what all found."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ansible_collections.disksnap.libvirt.tests.live.harness import ready
from ansible_collections.disksnap.libvirt.tests.sweep.operations import OPERATIONS, Operation
from ansible_collections.disksnap.libvirt.tests.sweep.points import FAULTS, Outcome, Point, whole
from disksnap_lab import Guest, Lab

# points after which the disks are read whole
READ_EVERY = 20


def sweep(options: argparse.Namespace, worker: int) -> list[Outcome]:
    """One worker's points, in a lab of its own: every so manyth of each operation."""
    lab = Lab(f'{options.lab}-{worker}')
    lab.down()
    outcomes: list[Outcome] = []
    with lab, tempfile.TemporaryDirectory(prefix='disksnap-sweep-') as scratch:
        for operation in OPERATIONS:
            if not options.operation or operation.name in options.operation:
                outcomes += _sweep(lab, operation, options, worker, Path(scratch))
    return outcomes


def _sweep(
    lab: Lab, operation: Operation, options: argparse.Namespace, worker: int, scratch: Path
) -> Iterator[Outcome]:
    guests = _guests(lab, operation)
    point = Point(lab, guests, operation, scratch)
    calls = len(point.count())
    say(f'{operation.name}: {calls} libvirt calls')
    numbers = [options.call] if options.call else range(1, calls + 1, options.every)
    wanted = [(number, fault) for number in numbers for fault in options.fault or FAULTS][worker :: options.labs]
    for done, (number, fault) in enumerate(wanted, 1):
        outcome = point.run(number, fault)
        if done % READ_EVERY == 0 or done == len(wanted):
            outcome.problems += whole(guests, scratch)
        yield outcome
        if outcome.problems:
            say(f'{operation.name}, call {number} ({outcome.call}), {fault}: {" ".join(outcome.problems)}')
            for guest in guests:
                guest.remove()
            guests = _guests(lab, operation)
            point = Point(lab, guests, operation, scratch)
            point.count()
    for guest in guests:
        guest.remove()


def _guests(lab: Lab, operation: Operation) -> list[Guest]:
    guests = [lab.define(spec) for spec in operation.specs]
    ready(*guests)
    return guests


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Lines: operation, points, faults, how many survived, and the longest that a guest stood still."""
    lines = [f'{"operation":<22} {"calls":>6} {"points":>7} {"survived":>9} {"still, ms":>10}']
    for name in dict.fromkeys(outcome.operation for outcome in outcomes):
        found = [outcome for outcome in outcomes if outcome.operation == name]
        calls = max(outcome.number for outcome in found)
        survived = sum(not outcome.problems for outcome in found)
        still = max(outcome.still_ms for outcome in found)
        lines.append(f'{name:<22} {calls:>6} {len(found):>7} {survived:>9} {still:>10.0f}')
    return lines


def say(text: str) -> None:
    """Print it at once."""
    print(text, flush=True)
