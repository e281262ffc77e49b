# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a module on hosts of a fleet as users do: ansible on this machine, and ssh."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from disksnap_lab import Fleet

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


class Play:
    """A run of the playbook snapshot over all hosts, with all guests at one instant; extra are more variables."""

    def __init__(self, fleet: Fleet, scratch: Path, snapshot: str, **extra: Any) -> None:
        wanted = {
            'fleet_snapshot_name': snapshot,
            'fleet_snapshot_consistency': 'fleet',
            'fleet_snapshot_quiesce': 'required',
            **extra,
        }
        program = str(Path(sys.executable).with_name('ansible-playbook'))
        inventory = fleet.write_inventory(scratch / 'hosts.json')
        self.process = subprocess.Popen(
            [program, 'disksnap.libvirt.snapshot', '-i', str(inventory), '-e', json.dumps(wanted)],
            env=_environment(scratch),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ''

    def wait(self, timeout: float = 300) -> dict[str, Any]:
        """Host -> its fleet_snapshot_result; what was printed is in said."""
        self.said = self.process.communicate(timeout=timeout)[0]
        stats = re.search(r'RUN: (\{.*\})$', self.said, re.MULTILINE)
        return dict(json.loads(stats[1])['fleet_snapshot']) if stats else {}


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
