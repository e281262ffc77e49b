# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host that the examples of the documentation are for: guests, images and names as these have them.

Plays run in the namespaces of the lab, where qemu:///system is the lab's libvirtd, as it would be on a hypervisor.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import yaml

from ansible_collections.disksnap.libvirt.tests.live.examples import PART, PLAY, TASK, Example
from ansible_collections.disksnap.libvirt.tests.live.harness import (
    COLLECTIONS,
    ROOT,
    Guests,
    Runner,
    chain,
    journal,
    put_back,
    ready,
)
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab, check_copy

Variables = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What became of a task on a host: ok, skipped or failed; ``action`` is the full name of its module."""

    task: str
    action: str
    host: str
    status: str
    result: dict[str, Any]


class Stage:
    """db1 with two disks, web1 on a template, and app1, on a btrfs."""

    def __init__(self, lab: Lab, guests: Guests, run_module: Runner) -> None:
        self.lab = lab
        self.run_module = run_module
        self.pond = lab.filesystem('stage', 'btrfs', size_mib=1200)
        self.images = self.pond / 'images'
        run('btrfs', 'subvolume', 'create', str(self.images))
        for name in ('db1', 'template'):
            shutil.copy(lab.base_disk(), self.images / f'{name}.qcow2')
        template = str(self.images / 'template.qcow2')
        run('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', template, str(self.images / 'web1.qcow2'))
        disks = {
            'db1': [DiskSpec(image=self.images / 'db1.qcow2'), DiskSpec(format='raw')],
            'web1': [DiskSpec(image=self.images / 'web1.qcow2')],
            'app1': [DiskSpec()],
        }
        specs = [GuestSpec(name, disks=one, directory=self.images) for name, one in disks.items()]
        self.guests: dict[str, Guest] = {spec.name: guests(spec, wait=False) for spec in specs}
        ready(*self.guests.values())

    @property
    def host(self) -> Variables:
        """Variables of the one host of the lab."""
        return {'ansible_connection': 'local', 'ansible_python_interpreter': self.lab.python}

    def snapshot(self, name: str, *guests: str, **options: Any) -> dict[str, Any]:
        """Have a snapshot of guests."""
        domains = [{'name': guest} for guest in guests]
        return self.run_module('disk_snapshot', {'snapshot_name': name, 'domains': domains, **options})

    def judge(self, copy: Path, acked: int) -> None:
        """A copy of a disk in qcow2 must be whole and have all that was acknowledged before it was made."""
        report = check_copy(copy, 'qcow2', 'ext4')
        assert report.clean
        assert not report.holes
        assert report.holds(acked)
        copy.unlink()

    def put_back(self) -> None:
        """Remove the snapshots that there are, newest first, by our module and else by hand; all guests run on."""
        for guest in self.guests.values():
            if journal(guest) is None and all(len(chain(guest, target)) == 1 for target in guest.disks):
                continue
            for target in guest.disks:
                if guest.domain.blockJobInfo(target, 0):
                    guest.domain.blockJobAbort(target, 0)
            [told] = self.run_module('disk_snapshot_info', {'name': guest.name})['domains']
            ours = [one['name'] for one in reversed(told['snapshots']) if one['made_by'] == 'disksnap']
            for name in ours:
                task = {'name': guest.name, 'snapshot_name': name, 'state': 'absent'}
                self.run_module('disk_snapshot', task)
            for snapshot in guest.domain.listAllSnapshots(0):
                snapshot.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
        put_back(*self.guests.values())
        ready(*self.guests.values())

    # -- plays ----------------------------------------------------------------------------------------------------

    def text(self, shown: Any, directory: Path) -> str:
        """Examples as they stand, but for what would be this machine's own, or another one."""
        text = yaml.safe_dump(shown, sort_keys=False)
        for there, here in {
            '/var/lib/libvirt/images/': f'{self.images}/',
            '/var/backups/': f'{directory}/',
            '/backup/': f'{directory}/',
            '/srv/shop': f'{self.pond}/shop',
            'qemu+ssh://root@hv1/system': 'qemu:///system',
        }.items():
            text = text.replace(there, here)
        return text

    def ansible(
        self,
        directory: Path,
        playbook: Path | str,
        variables: dict[str, Any],
        inventories: Sequence[Path] = (),
    ) -> list[Outcome]:
        """Run a playbook in the lab, which must go well. Without an inventory hv1 and hypervisor1 are the host."""
        inventory = directory / 'inventory.json'
        hosts = {'hosts': {'hypervisor1': self.host}, 'children': {'hypervisors': {'hosts': {'hv1': self.host}}}}
        inventory.write_text(json.dumps({'all': hosts}), encoding='utf-8')
        written = directory / 'outcomes.jsonl'
        written.unlink(missing_ok=True)
        words = [str(ROOT / '.venv' / 'bin' / 'ansible-playbook'), str(playbook), '-e', json.dumps(variables)]
        for one in inventories or [inventory]:
            words += ['-i', str(one)]
        env = {
            **os.environ,
            'ANSIBLE_CALLBACKS_ENABLED': 'outcomes',
            'ANSIBLE_CALLBACK_PLUGINS': str(ROOT / 'tests' / 'live' / 'callback'),
            'ANSIBLE_COLLECTIONS_PATH': str(COLLECTIONS),
            'ANSIBLE_FORCE_COLOR': '0',
            'ANSIBLE_PIPELINING': '1',
            'DISKSNAP_OUTCOMES': str(written),
            'DISKSNAP_TESTS': str(os.getpid()),
            'LC_ALL': 'C.UTF-8',
        }
        argv = self.lab.daemon.enter_argv(*words, own_system=False)
        done = subprocess.run(argv, env=env, cwd=directory, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return [Outcome(**json.loads(line)) for line in written.read_text(encoding='utf-8').splitlines()]


def run(*argv: str) -> str:
    """Run a program, which must go well; what it says."""
    return subprocess.run(argv, check=True, timeout=120, capture_output=True, text=True).stdout


def play(stage: Stage, shown: Sequence[Example], variables: Variables, directory: Path) -> list[Outcome]:
    """Run examples, tasks that follow one another in one play; parts are variables of a play."""
    parts = {key: value for example in shown if example.kind == PART for key, value in example.body.items()}
    plays = [example.body for example in shown if example.kind == PLAY]
    tasks = [example.body for example in shown if example.kind == TASK]
    if tasks:
        only = {'name': 'Examples', 'hosts': 'hypervisors', 'gather_facts': False, 'tasks': tasks, 'vars': variables}
        plays.append(only)
    else:
        parts |= variables
    path = directory / 'play.yml'
    path.write_text(stage.text(plays, directory), encoding='utf-8')
    return stage.ansible(directory, path, parts)


def _nothing(stage: Stage, directory: Path) -> Variables:
    return {}


def _no_more(stage: Stage, directory: Path) -> None:
    return None


@dataclass(frozen=True)
class Scene:
    """``examples`` in the order in which they run; ``before`` gets things ready and returns variables.

    ``play`` runs them, where that is not by a play of them; ``after`` looks at what they have done, beyond what each
    result says.
    """

    title: str
    examples: tuple[str, ...]
    before: Callable[[Stage, Path], Variables] = _nothing
    play: Callable[[Stage, Sequence[Example], Variables, Path], list[Outcome]] = play
    after: Callable[[Stage, Path], None] = _no_more
