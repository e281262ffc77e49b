# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ways to take a snapshot that are measured against one another, each as its users run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from disksnap_lab import Guest

REPO = Path(__file__).resolve().parents[3]
COLLECTIONS = REPO / '.build' / 'collections'
VENV = REPO / '.venv'
TIMEOUT = 180

# takes a snapshot of these guests; the name is new each time
Take = Callable[[Sequence[Guest], str], None]


@dataclass(frozen=True)
class Contender:
    """One way. ``overlays`` says that it leaves the disks on new layers, which must be merged after the round."""

    name: str
    take: Take
    overlays: bool = True


def _run(argv: Sequence[str], **extra: str) -> str:
    """Run a program; its output.

    Raises:
        RuntimeError: if it fails, with what it printed.
    """
    done = subprocess.run(
        list(argv), capture_output=True, text=True, timeout=TIMEOUT, env={**os.environ, **extra}, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f'{argv[0]} failed: {done.stdout[-2000:]} {done.stderr[-2000:]}')
    return done.stdout


def _virsh(guest: Guest, *words: str) -> None:
    _run(['virsh', '--quiet', '--connect', guest.lab.uri, *words])


def _module(name: str, arguments: dict[str, object]) -> dict[str, object]:
    """Run a module of the collection as Ansible does on the managed host: a process of the system's Python."""
    site = next((VENV / 'lib').glob('python3*/site-packages'))
    done = subprocess.run(
        ['/usr/bin/python3', str(REPO / 'plugins' / 'modules' / f'{name}.py')],
        input=json.dumps({'ANSIBLE_MODULE_ARGS': arguments}),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env={**os.environ, 'PYTHONPATH': f'{COLLECTIONS}:{site}'},
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f'{name} failed: {done.stdout[-2000:]} {done.stderr[-2000:]}')
    result: dict[str, object] = json.loads(done.stdout)
    return result


def collection(guests: Sequence[Guest], snapshot: str) -> None:
    """This collection, all guests as one group."""
    _module(
        'disk_snapshot',
        {
            'uri': guests[0].lab.uri,
            'domains': [{'name': guest.name} for guest in guests],
            'snapshot_name': snapshot,
            'quiesce': 'required',
        },
    )


def virsh_quiesce(guests: Sequence[Guest], snapshot: str) -> None:
    """One virsh call a guest, one after the other."""
    for guest in guests:
        flags = ['--disk-only', '--atomic', '--quiesce', '--no-metadata']
        _virsh(guest, 'snapshot-create-as', guest.name, snapshot, *flags)


def playbook(guests: Sequence[Guest], snapshot: str) -> None:
    """A playbook of three command tasks."""
    for guest in guests:
        _run(
            [
                str(VENV / 'bin' / 'ansible-playbook'),
                *('--inventory', 'localhost,', '--connection', 'local'),
                *('--extra-vars', json.dumps({'uri': guest.lab.uri, 'guest': guest.name, 'snapshot': snapshot})),
                str(REPO / 'tests' / 'bench' / 'three_tasks.yml'),
            ],
            ANSIBLE_PYTHON_INTERPRETER=sys.executable,
            ANSIBLE_LOCALHOST_WARNING='False',
        )


def loop(guests: Sequence[Guest], snapshot: str) -> None:
    """What a shell loop does: freeze all, snapshot all, thaw all, a process each."""
    for guest in guests:
        _virsh(guest, 'domfsfreeze', guest.name)
    for guest in guests:
        _virsh(guest, 'snapshot-create-as', guest.name, snapshot, '--disk-only', '--atomic', '--no-metadata')
    for guest in guests:
        _virsh(guest, 'domfsthaw', guest.name)


def freeze_and_thaw(guests: Sequence[Guest], _snapshot: str) -> None:
    """The floor: nothing between freeze and thaw, in one process with one connection."""
    for guest in guests:
        domain = guest.domain
        domain.fsFreeze(None, 0)
        domain.fsThaw(None, 0)


COLLECTION = Contender('this collection', collection)
VIRSH = Contender('virsh --quiesce', virsh_quiesce)
PLAYBOOK = Contender('playbook, 3 tasks', playbook)
LOOP = Contender('shell loop', loop)
FLOOR = Contender('freeze and thaw', freeze_and_thaw, overlays=False)
