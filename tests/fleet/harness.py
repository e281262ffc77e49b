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

_UNREACHABLE = re.compile(r'^(\S+) \| UNREACHABLE!', re.MULTILINE)
_RESULT = re.compile(r'^(\S+) \| [A-Z!]+ => (\{.*\})$', re.MULTILINE)


def ansible(inventory: Path, scratch: Path, module: str, *words: str, timeout: float = 180) -> dict[str, Any]:
    """Host -> result of a module on all hosts; words are further ones on the command line."""
    config = scratch / 'ansible.cfg'  # empty: nothing of this machine's own counts
    config.touch()
    env = {'ANSIBLE_CONFIG': str(config), 'ANSIBLE_HOME': str(scratch / 'ansible'), 'ANSIBLE_TIMEOUT': '60'}
    program = str(Path(sys.executable).with_name('ansible'))
    done = subprocess.run(
        [program, 'all', '--one-line', '--inventory', str(inventory), '--module-name', module, *words],
        env={**os.environ, **env, 'LC_ALL': 'C.UTF-8'},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    results: dict[str, Any] = {host: {'unreachable': True} for host in _UNREACHABLE.findall(done.stdout)}
    return {**results, **{host: json.loads(result) for host, result in _RESULT.findall(done.stdout)}}
