# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a module or the role on hosts of a fleet as users do: ansible on this machine, and ssh."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from disksnap_lab import Fleet, Guest, GuestSpec

CALLBACKS = Path(__file__).with_name('callback')
COLLECTIONS = Path(__file__).resolve().parents[2] / '.build' / 'collections'

_UNREACHABLE = re.compile(r'^(\S+) \| UNREACHABLE!', re.MULTILINE)
_RESULT = re.compile(r'^(\S+) \| [A-Z!]+ => (\{.*\})$', re.MULTILINE)


def _environment(scratch: Path) -> dict[str, str]:
    config = scratch / 'ansible.cfg'  # empty: nothing of this machine's own counts
    config.touch()
    ours = {
        'ANSIBLE_COLLECTIONS_PATH': str(COLLECTIONS),
        'ANSIBLE_CONFIG': str(config),
        'ANSIBLE_HOME': str(scratch / 'ansible'),
        'ANSIBLE_NOCOLOR': '1',
        'ANSIBLE_PIPELINING': '1',
        'ANSIBLE_SHOW_CUSTOM_STATS': '1',
        'ANSIBLE_TIMEOUT': '20',
    }
    return {**os.environ, **ours, 'LC_ALL': 'C.UTF-8'}


def until(what: str, ask: Callable[[], bool], timeout: float = 60) -> None:
    """Ask until it is so."""
    deadline = time.monotonic() + timeout
    while not ask():
        assert time.monotonic() < deadline, f'{what}: still not so after {timeout:g} s'
        time.sleep(0.02)


def frozen(guest: Guest) -> bool:
    """Whether its agent says so."""
    return bool(guest.agent_command('guest-fsfreeze-status') == 'frozen')


def layers(guest: Guest) -> list[str]:
    """Names of the images of its first disk."""
    return sorted(path.name for path in guest.images.glob(f'{guest.name}-vda*'))


def one_each(fleet: Fleet, name: str) -> list[Guest]:
    """A guest on each host, which writes and has an agent; what other tests have left there goes."""
    for host in fleet.hosts:
        for other in host.guests():
            other.remove()
    made = [host.define(GuestSpec(f'{host.name}-{name}', writer_period_ms=50)) for host in fleet.hosts]
    for guest in made:
        guest.wait_agent()
        guest.wait_acked()
    return made


class Gate:
    """Where a play is held: before its first task of this name."""

    def __init__(self, scratch: Path, task: str) -> None:
        self._directory = scratch / f'gate-{task.replace(" ", "-")}'
        self._directory.mkdir()
        self.environment = {
            'ANSIBLE_CALLBACK_PLUGINS': str(CALLBACKS),
            'ANSIBLE_CALLBACKS_ENABLED': 'gate',
            'GATE': str(self._directory),
            'GATE_TASK': task,
        }

    def wait(self, play: Play, timeout: float = 180) -> None:
        """Until the play has come to it."""
        reached = self._directory / 'reached'
        until('the play at its gate', lambda: reached.exists() or play.process.poll() is not None, timeout)
        assert reached.exists(), play.wait() and play.said

    def open(self) -> None:
        """Let it go on."""
        (self._directory / 'open').touch()


class Play:
    """A run of a playbook over all hosts, with all guests at one instant.

    Args:
        gate: where to hold it.
        words: further ones on the command line.
        playbook: another one.
        inventory: another one than that of all hosts.
        environment: more of it, for Ansible.
        extra: more variables.
    """

    def __init__(
        self,
        fleet: Fleet,
        scratch: Path,
        snapshot: str,
        *,
        gate: Gate | None = None,
        words: tuple[str, ...] = (),
        playbook: Path | str = 'disksnap.libvirt.snapshot',
        inventory: Path | None = None,
        environment: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        wanted = {
            'fleet_snapshot_name': snapshot,
            'fleet_snapshot_consistency': 'fleet',
            'fleet_snapshot_quiesce': 'required',
            **extra,
        }
        program = str(Path(sys.executable).with_name('ansible-playbook'))
        listed = inventory or fleet.write_inventory(scratch / 'hosts.json')
        self.process = subprocess.Popen(
            [program, str(playbook), '-i', str(listed), '-e', json.dumps(wanted), *words],
            env={**_environment(scratch), **(gate.environment if gate else {}), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.said = ''

    def wait(self, timeout: float = 300) -> dict[str, Any]:
        """Host -> its fleet_snapshot_result; what was printed is in said."""
        self.said = self.process.communicate(timeout=timeout)[0]
        return self.stat('fleet_snapshot')

    def stat(self, name: str) -> dict[str, Any]:
        """Host -> what it has added to this custom stat of a play that has ended; empty without one."""
        stats = re.search(r'RUN: (\{.*\})$', self.said, re.MULTILINE)
        return dict(json.loads(stats[1]).get(name, {})) if stats else {}

    def succeed(self, timeout: float = 300) -> dict[str, Any]:
        """What wait returns, of a play that must go well."""
        results = self.wait(timeout)
        assert self.process.returncode == 0, self.said
        return results

    def kill(self) -> None:
        """As the controller would die: the play, its forks and its connections at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate(timeout=60)


def ansible(inventory: Path, scratch: Path, module: str, *words: str, timeout: float = 180) -> dict[str, Any]:
    """Host -> result of a module on all hosts; words are further ones on the command line."""
    program = str(Path(sys.executable).with_name('ansible'))
    done = subprocess.run(
        [program, 'all', '--one-line', '--inventory', str(inventory), '--module-name', module, *words],
        env=_environment(scratch),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    results: dict[str, Any] = {host: {'unreachable': True} for host in _UNREACHABLE.findall(done.stdout)}
    return {**results, **{host: json.loads(result) for host, result in _RESULT.findall(done.stdout)}}
