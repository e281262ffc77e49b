# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One worker's points, in a lab of its own, each written down as soon as it is known."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from ansible_collections.disksnap.libvirt.tests.live.harness import ready
from ansible_collections.disksnap.libvirt.tests.sweep.log import Log
from ansible_collections.disksnap.libvirt.tests.sweep.modules import Modules
from ansible_collections.disksnap.libvirt.tests.sweep.operations import OPERATIONS, Operation
from ansible_collections.disksnap.libvirt.tests.sweep.points import FAULTS, Outcome, Point, whole
from disksnap_lab import Guest, Lab

# points after which the disks are read whole
READ_EVERY = 20


def sweep(options: argparse.Namespace, worker: int) -> None:
    """Run one worker's share of the points, in a lab of its own, but for those that the log has."""
    lab = Lab(f'{options.lab}-{worker}')
    lab.down()
    with lab, tempfile.TemporaryDirectory(prefix='disksnap-sweep-') as name:
        scratch = Path(name)
        with Modules(lab, scratch) as modules:
            for operation in OPERATIONS:
                if not options.operation or operation.name in options.operation:
                    _Share(lab, operation, modules, scratch).run(options, worker)


class _Share:
    """A worker's share of the points of one operation, and the guests that it is run on."""

    def __init__(self, lab: Lab, operation: Operation, modules: Modules, scratch: Path) -> None:
        self._lab = lab
        self._operation = operation
        self._modules = modules
        self._scratch = scratch
        self._guests: list[Guest] = []

    def run(self, options: argparse.Namespace, worker: int) -> None:
        log = Log(options.log)
        point = self._begin()
        calls = len(point.count())
        say(f'{self._operation.name}: {calls} libvirt calls')
        numbers = [options.call] if options.call else range(1, calls + 1, options.every)
        wanted = [(number, fault) for number in numbers for fault in options.fault or FAULTS][worker :: options.labs]
        known = {(one.number, one.fault) for one in log.outcomes() if one.operation == self._operation.name}
        left = [one for one in wanted if one not in known]
        for done, (number, fault) in enumerate(left, 1):
            outcome = point.run(number, fault)
            if done % READ_EVERY == 0 or done == len(left) or outcome.by_hand:
                outcome.problems += whole(self._guests, self._scratch)
            log.add(outcome)
            if outcome.problems:
                say(_words(outcome))
            if outcome.problems or outcome.by_hand:
                self._end()
                point = self._begin()
        self._end()

    def _begin(self) -> Point:
        self._guests = [self._lab.define(spec) for spec in self._operation.specs]
        ready(*self._guests)
        point = Point(self._lab, self._guests, self._operation, self._modules)
        point.count()
        return point

    def _end(self) -> None:
        for guest in self._guests:
            guest.remove()


def _words(outcome: Outcome) -> str:
    where = f'{outcome.operation}, call {outcome.number} ({outcome.call}), {outcome.fault}'
    return f'{where}: {" ".join(outcome.problems)}'


def say(text: str) -> None:
    """Print it at once."""
    print(text, flush=True)
