# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests on the hypervisor share: run a module there by Ansible over ssh, and judge a copy of a disk."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from ansible_collections.disksnap.libvirt.tests.live.harness import COLLECTIONS, Background, Runner
from disksnap_lab import Report, check_copy
from disksnap_lab.hypervisor import Hypervisor

CALLBACKS = Path(__file__).with_name('callback')
HOST = 'hv'


class RemoteRunner(Runner):
    """Runs modules as users do: ansible on this machine, ssh, the Python and the libvirt of the hypervisor.

    Called, it returns the result and raises ``Failed`` where the module failed; ``fails`` is the reverse.
    """

    def __init__(self, hypervisor: Hypervisor, directory: Path) -> None:
        super().__init__('qemu:///system')
        self._inventory = directory / 'inventory.json'
        hosts = {'all': {'hosts': {HOST: hypervisor.inventory()}}}
        self._inventory.write_text(json.dumps(hosts), encoding='utf-8')
        config = directory / 'ansible.cfg'  # empty: nothing of this machine's own counts
        config.touch()
        self._env = {
            'ANSIBLE_CALLBACK_PLUGINS': str(CALLBACKS),
            'ANSIBLE_COLLECTIONS_PATH': str(COLLECTIONS),
            'ANSIBLE_CONFIG': str(config),
            'ANSIBLE_HOME': str(directory / 'ansible'),
            'ANSIBLE_LOAD_CALLBACK_PLUGINS': '1',
            'ANSIBLE_PIPELINING': '1',
            'ANSIBLE_STDOUT_CALLBACK': 'as_json',
            'ANSIBLE_TIMEOUT': '60',
            'LC_ALL': 'C.UTF-8',
        }

    def start(
        self, name: str, args: dict[str, Any], *, check: bool = False, diff: bool = False, **options: Any
    ) -> Background:
        """Start a module of the collection; options are subprocess.Popen's."""
        command = [str(Path(sys.executable).with_name('ansible')), HOST, '--inventory', str(self._inventory)]
        command += ['--module-name', f'disksnap.libvirt.{name}', '--args', json.dumps(args)]
        command += [flag for flag, wanted in (('--check', check), ('--diff', diff)) if wanted]
        return Background(command, '', {**os.environ, **self._env}, **options)

    def __call__(self, name: str, args: dict[str, Any], *, timeout: float = 300, **options: Any) -> dict[str, Any]:
        return super().__call__(name, args, timeout=timeout, **options)

    def fails(self, name: str, args: dict[str, Any], *, timeout: float = 300, **options: Any) -> dict[str, Any]:
        """Run a module that must fail, with one sentence and no traceback; its result."""
        return super().fails(name, args, timeout=timeout, **options)


def check_remote(hv: Hypervisor, path: str, scratch: Path, fs: str = 'ext4') -> Report:
    """Fetch a raw copy of a guest's disk, a file or a device, and judge it."""
    local = hv.fetch(path, scratch / 'fetched.raw')
    try:
        return check_copy(local, 'raw', fs)
    finally:
        local.unlink()
