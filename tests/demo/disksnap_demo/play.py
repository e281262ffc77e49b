# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run ansible-playbook as an operator would, on this machine as the only hypervisor of the fleet."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from disksnap_lab import LabError

from .ledger import Ledger

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / 'tests' / 'demo' / 'ansible.cfg'
LOG = ROOT / '.build' / 'log' / 'demo-ansible.log'
HYPERVISOR = 'hypervisor1'
SECONDS = 300
_CONNECTION = {'ansible_connection': 'local', 'ansible_python_interpreter': '/usr/bin/python3'}


def play(playbook: str, variables: dict[str, Any], ledger: Ledger) -> None:
    """Run a playbook, its output to a log.

    Raises:
        LabError: if it fails; its output was printed.
    """
    plain = [f'-e {shlex.quote(f"{name}={value}")}' for name, value in variables.items()]
    ledger.say(f'ansible-playbook {playbook} -i {HYPERVISOR}, {" ".join(plain)}')
    argv = [ROOT / '.venv' / 'bin' / 'ansible-playbook', playbook, '-i', f'{HYPERVISOR},']
    argv += ['-e', json.dumps({**_CONNECTION, **variables})]
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with open(LOG, 'w', encoding='utf-8') as log, _running(argv, log) as process:
        status = process.wait(SECONDS)
    if status != 0:
        print(LOG.read_text(encoding='utf-8', errors='replace'))
        raise LabError(f'ansible-playbook {playbook} ended with {status}; its output stands above')


@contextlib.contextmanager
def _running(argv: list[Any], log: Any) -> Iterator[subprocess.Popen[bytes]]:
    """In a session of its own, so that Ctrl-C reaches it once, from here; it has ended when this ends."""
    env = {name: value for name, value in os.environ.items() if not name.startswith('ANSIBLE_')}
    env['ANSIBLE_CONFIG'] = str(CONFIG)
    process = subprocess.Popen(
        argv, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
