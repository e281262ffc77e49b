# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks that the README shows, run as they stand there, on a guest of the lab."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.disksnap.libvirt.tests.live.harness import Guests, chain, journal, ready
from ansible_collections.disksnap.libvirt.tests.live.playing import this_machine
from disksnap_lab import DiskSpec, GuestSpec, Lab, check_copy

ROOT = Path(__file__).resolve().parents[2]
BACKUPS = '/var/backups/'


def examples() -> list[str]:
    return re.findall(
        r'^```yaml\n(.*?)^```', (ROOT / 'README.md').read_text(encoding='utf-8'), re.DOTALL | re.MULTILINE
    )


def play(lab: Lab, playbook: Any, directory: Path) -> str:
    """Run a playbook against this machine as the one hypervisor; what it printed."""
    for one in playbook:
        one['module_defaults'] = {'group/disksnap.libvirt.snapshot': {'uri': lab.uri}}
        one['gather_facts'] = False
    path = directory / 'play.yml'
    path.write_text(yaml.safe_dump(playbook), encoding='utf-8')
    inventory = directory / 'inventory.yml'
    hosts = {'hv1': this_machine(lab)}
    inventory.write_text(yaml.safe_dump({'hypervisors': {'hosts': hosts}}), encoding='utf-8')
    done = subprocess.run(
        [str(ROOT / '.venv' / 'bin' / 'ansible-playbook'), '-i', str(inventory), str(path)],
        env={
            **os.environ,
            'ANSIBLE_COLLECTIONS_PATH': str(ROOT / '.build' / 'collections'),
            'ANSIBLE_FORCE_COLOR': '0',
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_backup_of_the_readme_runs_and_its_copies_are_whole(lab: Lab, guest: Guests, tmp_path: Path) -> None:
    [text] = [one for one in examples() if BACKUPS in one]
    db1 = guest(GuestSpec('db1', disks=[DiskSpec(), DiskSpec(format='raw')]))
    ready(db1)
    before = {target: chain(db1, target) for target in db1.disks}
    acked = db1.acked()
    printed = play(lab, yaml.safe_load(text.replace(BACKUPS, f'{tmp_path}/')), tmp_path)
    assert 'changed=3' in printed
    assert 'failed=0' in printed
    for target in db1.disks:
        report = check_copy(tmp_path / f'db1-{target}.qcow2', 'qcow2', 'ext4')
        assert report.clean
        assert not report.holes
        assert report.holds(acked[target])
        assert chain(db1, target) == before[target]
    assert journal(db1) is None
