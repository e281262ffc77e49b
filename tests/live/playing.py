# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a playbook of the collection with this machine as its only hypervisor."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.disksnap.libvirt.tests.live.harness import COLLECTIONS, ROOT
from disksnap_lab import Lab


def this_machine(lab: Lab) -> dict[str, str]:
    """As a host of an inventory, which runs modules with the Python that belongs to the lab."""
    return {'ansible_connection': 'local', 'ansible_python_interpreter': lab.python}


def playbook(
    lab: Lab,
    name: str,
    directory: Path,
    variables: dict[str, Any],
    *words: str,
    timeout: float = 300,
    more: dict[str, str] | None = None,
    hosts: dict[str, dict[str, Any]] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``disksnap.libvirt.NAME``, or a file, on the host hv1, or on others; what became of it, whatever that is.

    Args:
        lab: whose libvirtd it talks to.
        name: of the playbook, or the path of one.
        directory: for the inventory and the variables.
        variables: as -e has them.
        words: more for the command line.
        timeout: seconds.
        more: of the environment.
        hosts: with their variables, instead of hv1.
    """
    inventory = directory / 'inventory.yml'
    inventory.write_text(yaml.safe_dump({'all': {'hosts': hosts or {'hv1': this_machine(lab)}}}), encoding='utf-8')
    extra = directory / 'extra.json'
    extra.write_text(json.dumps({'fleet_snapshot_uri': lab.uri, **variables}), encoding='utf-8')
    what = name if '/' in name else f'disksnap.libvirt.{name}'
    return subprocess.run(
        [str(ROOT / '.venv' / 'bin' / 'ansible-playbook'), '-i', str(inventory), '-e', f'@{extra}', *words, what],
        env={
            **os.environ,
            'ANSIBLE_COLLECTIONS_PATH': str(COLLECTIONS),
            'ANSIBLE_FORCE_COLOR': '0',
            'ANSIBLE_NOCOWS': '1',
            'ANSIBLE_SHOW_CUSTOM_STATS': '1',
            'ANSIBLE_CALLBACK_PLUGINS': str(ROOT / 'tests' / 'live' / 'callback'),
            **(more or {}),
        },
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def stat(done: subprocess.CompletedProcess[str], name: str) -> Any:
    """A custom stat that a playbook has set, from what it printed at its end."""
    [line] = [line for line in done.stdout.splitlines() if line.strip().startswith('RUN: ')]
    return json.loads(line.partition('RUN: ')[2])[name]
