# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a fleet costs: wall time of the role against Ansible's ping, memory of the controller, and the frozen window.

Four hypervisors have five guests each that run. They also stand many times over in larger inventories, each entry with
a guest of its own that is shut off, so that what grows is Ansible's work and the role's, not that of the guests.
"""

from __future__ import annotations

import functools
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from disksnap_lab import Fleet, Guest, GuestSpec, check_copy
from disksnap_lab.watch import Watch

from .contenders import COLLECTIONS, VENV, merge_back

HERE = Path(__file__).resolve().parents[1]
HOSTS, GUESTS = 4, 5
ENTRIES = (10, 100)
FORKS = 20
PERIOD_MS = 500
AIMS = {'host': 2.0, 'fleet': 4.0}
WINDOW_AIM = 0.2
PING, HOST, FLEET = 'ping', 'host', 'fleet'
# names of tasks of the role
FREEZE, COMMIT = 'Say freeze', 'Say commit'
_TIMEOUT = 1800


@dataclass(frozen=True)
class Run:
    """One play: seconds, MiB of the controller's process at its largest, seconds of the steps with frozen guests."""

    seconds: float
    memory_mib: float
    frozen: float = 0.0


@dataclass
class Scene:
    """The fleet, its inventories by their number of entries, and where the plays keep what they need."""

    fleet: Fleet
    guests: list[Guest]
    scratch: Path
    inventories: dict[int, Path] = field(default_factory=dict)

    def play(self, playbook: str, entries: int, **extra: Any) -> Run:
        """Run a playbook over an inventory.

        Raises:
            RuntimeError: if it fails, with the end of what it printed.
        """
        argv = [str(VENV / 'bin' / 'ansible-playbook'), playbook, '--inventory', str(self.inventories[entries])]
        argv += ['--forks', str(FORKS), '--extra-vars', json.dumps(extra)]
        config = self.scratch / 'ansible.cfg'  # empty: nothing of this machine's own counts
        config.touch()
        ours = {
            'ANSIBLE_COLLECTIONS_PATH': str(COLLECTIONS),
            'ANSIBLE_CONFIG': str(config),
            'ANSIBLE_HOME': str(self.scratch / 'ansible'),
            'ANSIBLE_PIPELINING': '1',
            'ANSIBLE_CALLBACK_PLUGINS': str(HERE / 'callback'),
            'ANSIBLE_CALLBACKS_ENABLED': 'stamps',
            'STAMPS': str(self.scratch / 'stamps'),
        }
        (self.scratch / 'stamps').unlink(missing_ok=True)
        with tempfile.TemporaryFile('w+', encoding='utf-8') as said:
            started = time.monotonic()
            process = subprocess.Popen(argv, stdout=said, stderr=subprocess.STDOUT, env={**os.environ, **ours})
            try:
                memory = _wait(process)
            finally:
                process.kill()
            seconds = time.monotonic() - started
            if process.returncode != 0:
                said.seek(0)
                raise RuntimeError(f'{playbook} over {entries} hosts failed: {said.read()[-300000:]}')
        return Run(seconds, memory, self._frozen())

    def _frozen(self) -> float:
        """Seconds from the first freeze to the last answer to the commit, be there guests to freeze or not."""
        stamps = [json.loads(line) for line in (self.scratch / 'stamps').read_text(encoding='utf-8').splitlines()]
        begun = [at for name, at in stamps if name.endswith(FREEZE)]
        committed = [place for place, (name, _at) in enumerate(stamps) if name.endswith(COMMIT)]
        return stamps[committed[-1] + 1][1] - begun[0] if begun else 0.0

    def snapshot(self, consistency: str, entries: int, name: str, state: str = 'present') -> Run:
        """Run the role."""
        wanted = {'name': name, 'consistency': consistency, 'state': state, 'max_frozen': 300, 'quiesce': 'required'}
        extra = {f'fleet_snapshot_{key}': value for key, value in wanted.items()}
        return self.play('disksnap.libvirt.snapshot', entries, **extra)


def _wait(process: subprocess.Popen[bytes]) -> float:
    """Wait for the end; MiB of memory at its largest."""
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage.ru_maxrss / 1024
        time.sleep(0.01)
    raise RuntimeError(f'A play did not end within {_TIMEOUT} s')


@contextmanager
def scene(say: Callable[[str], None]) -> Iterator[Scene]:
    """A fleet of its own for the bench."""
    with tempfile.TemporaryDirectory(prefix='disksnap-bench-') as scratch, Fleet('bench', hosts=HOSTS) as fleet:
        say(f'fleet: starting {HOSTS} hosts with {GUESTS} guests each')
        guests = [
            host.define(GuestSpec(f'{host.name}-vm{number}', writer_period_ms=PERIOD_MS))
            for host in fleet.hosts
            for number in range(1, GUESTS + 1)
        ]
        for guest in guests:
            guest.wait_agent(900)
        found = Scene(fleet, guests, Path(scratch))
        found.inventories[HOSTS] = fleet.write_inventory(found.scratch / f'{HOSTS}.json')
        for entries in ENTRIES:
            found.inventories[entries] = _inventory(fleet, entries, found.scratch / f'{entries}.json')
        yield found


def _inventory(fleet: Fleet, entries: int, path: Path) -> Path:
    """An inventory that has the hosts many times over, each with a guest of its own that is shut off."""
    listed = {}
    for number in range(entries):
        host = fleet.hosts[number % len(fleet.hosts)]
        name = f'{host.name}-off{number}'
        if name not in {guest.name for guest in host.guests()}:
            host.define(GuestSpec(name, state='shutoff'))
        listed[f'{host.name}-{number}'] = {**host.inventory(), 'fleet_snapshot_domains': [name]}
    path.write_text(json.dumps({'all': {'hosts': listed}}), encoding='utf-8')
    return path


def costs(found: Scene, rounds: int, say: Callable[[str], None]) -> list[str]:
    """Lines of a table: what the role costs over each inventory, against ping."""
    runs: dict[tuple[int, str], list[Run]] = {}
    for entries in (HOSTS, *ENTRIES):
        found.play(str(HERE / 'ping.yml'), entries)  # opens the connections
        for number in range(rounds):
            for kind in (PING, HOST, FLEET):
                runs.setdefault((entries, kind), []).append(_cost(found, entries, kind, f'{kind}{number}'))
            said = ', '.join(f'{kind} {runs[entries, kind][-1].seconds:.1f} s' for kind in (PING, HOST, FLEET))
            say(f'  {entries} hosts, round {number + 1} of {rounds}: {said}')
    lines = [f'{"hosts":>5} {"what":<6} {"median":>8} {"min":>8} {"max":>8} {"MiB":>6}   ratio to ping']
    for (entries, kind), of_kind in runs.items():
        seconds = [run.seconds for run in of_kind]
        figures = f'{statistics.median(seconds):8.2f} {min(seconds):8.2f} {max(seconds):8.2f}'
        memory = max(run.memory_mib for run in of_kind)
        ratio = statistics.median(seconds) / statistics.median(run.seconds for run in runs[entries, PING])
        lines.append(f'{entries:>5} {kind:<6} {figures} {memory:6.0f}   {_verdict(ratio, AIMS.get(kind))}'.rstrip())
    return [*lines, *_growth(runs)]


def _cost(found: Scene, entries: int, kind: str, name: str) -> Run:
    if kind == PING:
        return found.play(str(HERE / 'ping.yml'), entries)
    run = found.snapshot(kind, entries, name)
    found.snapshot(HOST, entries, name, 'absent')
    return run


def _growth(runs: dict[tuple[int, str], list[Run]]) -> Iterator[str]:
    few, many = ENTRIES
    steps = [statistics.median(run.frozen for run in runs[entries, FLEET]) for entries in ENTRIES]
    yield (
        f'fleet: from the word freeze to the last answer to commit: {steps[0]:.2f} s with {few} hosts, '
        f'{steps[1]:.2f} s with {many} and {FORKS} forks, '
        f'{(steps[1] - steps[0]) / (many - few) * 1000:.0f} ms for each more'
    )
    for kind in (PING, HOST, FLEET):
        seconds = [statistics.median(run.seconds for run in runs[entries, kind]) for entries in ENTRIES]
        memory = [max(run.memory_mib for run in runs[entries, kind]) for entries in ENTRIES]
        a_host = (seconds[1] - seconds[0]) / (many - few)
        kib = (memory[1] - memory[0]) / (many - few) * 1024
        yield (
            f'{kind}: {few} to {many} hosts take {seconds[1] / seconds[0]:.1f} times as long, '
            f'{a_host * 1000:.0f} ms and {kib:.0f} KiB of the controller for each more host'
        )


def _verdict(ratio: float, aim: float | None) -> str:
    if aim is None:
        return ''
    return f'{ratio:.2f} (aim {aim:.2f}: {"met" if ratio <= aim else "missed"})'


def windows(found: Scene, rounds: int, say: Callable[[str], None]) -> list[str]:
    """Lines of a table: from the first guest of the fleet that stands still to the last one that runs again."""
    found.inventories[0] = _with_guests(found)
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(rounds):
        name = f'window{number}'
        ours.append(_standstill(found.guests, functools.partial(found.snapshot, FLEET, HOSTS, name)))
        found.snapshot(HOST, HOSTS, name, 'absent')
        by_hand = functools.partial(found.play, str(HERE / 'virsh_fleet.yml'), 0, snapshot=name)
        theirs.append(_standstill(found.guests, by_hand))
        merge_back(found.guests, name)
        say(f'  window, round {number + 1} of {rounds}: role {ours[-1]:.0f} ms, playbook of virsh {theirs[-1]:.0f} ms')
    medians = statistics.median(ours), statistics.median(theirs)
    return [
        f'window of {HOSTS} hosts x {GUESTS} guests: role {medians[0]:.0f} ms, playbook of virsh {medians[1]:.0f} ms: '
        + _verdict(medians[0] / medians[1], WINDOW_AIM)
    ]


def _with_guests(found: Scene) -> Path:
    """The inventory of the playbook of virsh, which has to be told the guests."""
    listed = {
        host.name: {**host.inventory(), 'guests': [one.name for one in found.guests if one.lab.name == host.name]}
        for host in found.fleet.hosts
    }
    path = found.scratch / 'by-hand.json'
    path.write_text(json.dumps({'all': {'hosts': listed}}), encoding='utf-8')
    return path


def _standstill(guests: Sequence[Guest], take: Callable[[], object]) -> float:
    for guest in guests:
        guest.wait_acked(timeout=120)
    with Watch({guest.name: guest.acks_path('vda') for guest in guests}) as watch:
        take()
        for guest in guests:
            guest.wait_acked(timeout=120)
    # around the instant of the copies: a guest may have paused for other reasons at other times
    silences = [watch.around(guest.name, _held(guest)) for guest in guests]
    return (max(end for _begin, end in silences) - min(begin for begin, _end in silences)) * 1000


def _held(guest: Guest) -> int:
    """The last record of what the first layer holds, while another is above it."""
    held = check_copy(Path(guest.disks['vda'].image)).last
    if held is None:
        raise RuntimeError(f'The copy of {guest.name} holds no record')
    return held


def run_fleet(rounds: int, say: Callable[[str], None]) -> list[str]:
    """All of it; the lines of the tables."""
    with scene(say) as found:
        return ['', *windows(found, rounds, say), *costs(found, rounds, say)]
