# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Break an operation at one libvirt call, in one way, and judge what becomes of it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.disksnap.libvirt.tests.live import harness
from ansible_collections.disksnap.libvirt.tests.live.harness import difference, until
from ansible_collections.disksnap.libvirt.tests.sweep.lost import put_right
from ansible_collections.disksnap.libvirt.tests.sweep.modules import Modules
from ansible_collections.disksnap.libvirt.tests.sweep.operations import MAX_FROZEN, Operation, Task
from disksnap_lab import Guest, Lab, check_copy
from disksnap_lab.watch import Watch

FAULTS = ('kill-before', 'kill-after', 'libvirtd', 'drop')
# no guest stands still for longer, whatever dies
LIMIT_MS = (MAX_FROZEN + 2) * 1000


@dataclass
class Outcome:
    """What became of one point; it survived if there is no problem.

    call: the libvirt call that was broken; empty where the run had ended before.
    still_ms: the longest time that a guest acknowledged nothing; 0 where the operation restarts the guests.
    by_hand: what libvirt had lost, so that the guide had to be followed before the task could go on; else empty.
    """

    operation: str
    number: int
    fault: str
    call: str = ''
    still_ms: float = 0.0
    by_hand: str = ''
    problems: list[str] = field(default_factory=list)


class Point:
    """Runs points of one operation on guests that are there."""

    def __init__(self, lab: Lab, guests: Sequence[Guest], operation: Operation, modules: Modules) -> None:
        self._lab = lab
        self._guests = guests
        self._operation = operation
        self._modules = modules
        self._snapshot = 0

    def count(self) -> list[str]:
        """Run the operation unharmed; the libvirt calls that it makes."""
        self._lab.kill_libvirtd()  # once restarted, it leaves out an alias or two of the domains that run
        self._lab.wait_libvirtd()
        self._snapshot += 1
        self._do(self._operation.before)
        calls = self._harmed(0, '')
        self._do(self._operation.after)
        harness.ready(*self._guests)  # it may have started them
        return calls

    def run(self, number: int, fault: str) -> Outcome:
        """Break it at the call of this number, from 1, and judge what becomes of it."""
        outcome = Outcome(self._operation.name, number, fault)
        before = self._look()
        self._snapshot += 1
        with self._noting(outcome):
            self._do(self._operation.before)
            acked = {guest.name: guest.acked() for guest in self._guests}
            with self._watching(outcome):
                calls = self._harmed(number, fault)
                self._go_on()
            outcome.call = calls[number - 1] if len(calls) >= number else ''
            result = self._again(outcome)
            self._operation.judge(self._guests, result, acked)
            self._sound()
            self._do(self._operation.after)
            self._same(before, restarted=bool(outcome.by_hand))
        return outcome

    def _again(self, outcome: Outcome) -> dict[str, Any]:
        """Run the task again; what it returned. Where libvirt has lost what it had, do first what the guide says."""
        task = [self._operation.task]
        try:
            return self._do(task)[0]
        except harness.Failed as failed:
            if outcome.fault != 'libvirtd':
                raise
            outcome.by_hand = put_right(self._lab, self._guests, str(failed))
            if not outcome.by_hand:
                raise
        result = self._do(task)[0]
        for guest in self._guests:
            if guest.state == 'shutoff':
                guest.start()
        harness.ready(*self._guests)
        return result

    # -- steps ------------------------------------------------------------------------------------------------

    def _do(self, tasks: Sequence[Task]) -> list[dict[str, Any]]:
        return [self._modules(module, self._named(options)) for module, options in tasks]

    def _named(self, options: dict[str, Any]) -> dict[str, Any]:
        return {**options, 'snapshot_name': f's{self._snapshot}'} if 'snapshot_name' in options else options

    def _harmed(self, number: int, fault: str) -> list[str]:
        """Run the task, broken at this call; the calls that it made."""
        module, options = self._operation.task
        self._modules.harmed(module, self._named(options), number, fault)
        return self._modules.calls()

    @contextmanager
    def _noting(self, outcome: Outcome) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # pytest's own failures are no Exception
            outcome.problems.append(f'{type(error).__name__}: {error}')

    @contextmanager
    def _watching(self, outcome: Outcome) -> Iterator[None]:
        files = {
            f'{guest.name} {target}': guest.acks_path(target) for guest in self._guests for target in guest.written
        }
        with Watch(files) as watch:
            yield
        if not self._operation.restarts:
            outcome.still_ms = watch.longest_gap_ms
            assert outcome.still_ms <= LIMIT_MS, f'a guest stood still for {outcome.still_ms:.0f} ms'

    def _go_on(self) -> None:
        """Wait until libvirtd is back, and no guest that runs is frozen; then they write."""
        self._lab.wait_libvirtd()
        deadline = time.monotonic() + MAX_FROZEN + (180 if self._operation.restarts else 30)
        running = [guest for guest in self._guests if guest.state == 'running']
        for guest in running:
            guest.wait_acked(1, timeout=max(1.0, deadline - time.monotonic()))

    # -- judgement --------------------------------------------------------------------------------------------

    def _look(self) -> dict[str, Any]:
        return {guest.name: harness.state_of(self._lab, guest) for guest in self._guests}

    def _same(self, before: dict[str, Any], *, restarted: bool) -> None:
        """Nothing is left over: no overlay, journal entry, pool, job or process, and the domain is as it was."""
        until('the end of all watchdogs', lambda: not harness.watchdogs(), MAX_FROZEN + 15)
        for name, now in self._look().items():
            if self._operation.renames:
                assert len(now['files']) == len(before[name]['files']), now['files']
            for key in set(now) - self._may_differ() - ({'xml'} if restarted else set()):
                assert now[key] == before[name][key], f'{name}: {key}: {difference(before[name][key], now[key])}'

    def _may_differ(self) -> set[str]:
        return ({'xml'} if self._operation.restarts else set()) | (
            {'xml', 'files'} if self._operation.renames else set()
        )

    def _sound(self) -> None:
        """The chains are what both definitions say, and qemu-img finds nothing wrong with any layer."""
        for guest in self._guests:
            for target in guest.disks:
                live = harness.chain(guest, target)
                assert harness.chain(guest, target, inactive=True)[0] == live[0], (guest.name, target)
                wrong = [_check(layer) for layer in _layers(guest, target)[1:]]
                assert not any(wrong), wrong


def _layers(guest: Guest, target: str) -> list[dict[str, Any]]:
    """What qemu-img says of each layer of a disk, from the active one down."""
    argv = ['qemu-img', 'info', '-U', '--backing-chain', '--output=json', guest.source_file(target)]
    done = subprocess.run(argv, check=True, capture_output=True, timeout=60)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def _check(layer: dict[str, Any]) -> str:
    """What qemu-img finds wrong with a layer; empty where there is nothing."""
    argv = ['qemu-img', 'check', '-U', '-f', layer['format'], layer['filename']]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    return '' if done.returncode == 0 else f'{layer["filename"]}: {done.stdout}{done.stderr}'


def whole(guests: Sequence[Guest], scratch: Path) -> list[str]:
    """What is wrong with the disks, or lacks of what their guests have ever had acknowledged, as sentences."""
    found: list[str] = []
    for guest in guests:
        for target, made in guest.disks.items():
            acked = guest.acked()[target]
            layer = guest.source_file(target)
            guest.domain.fsFreeze(None, 0)
            try:
                found += filter(None, map(_check, _layers(guest, target)))
                copy = harness.copy_out(layer, 'qcow2', scratch / f'{guest.name}-{target}.copy')
            finally:
                guest.domain.fsThaw(None, 0)
            report = check_copy(copy, 'qcow2', made.fs)
            copy.unlink()
            if not report.clean or not report.holds(acked):
                found.append(f'{guest.name} {target}: acknowledged up to {acked}, and the disk is {report}')
    return found
