# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ways to take a snapshot that are measured against one another, each as its users run it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt

from disksnap_lab import Guest

REPO = Path(__file__).resolve().parents[3]
COLLECTIONS = REPO / '.build' / 'collections'
VENV = REPO / '.venv'
TIMEOUT = 180

MERGE_TIMEOUT = 120.0

# does something to a snapshot of these guests, of whatever lab they are; the name is new each time
Step = Callable[[Sequence[Any], str], None]


@dataclass(frozen=True)
class Contender:
    """One way. ``back`` removes what ``take`` left, so that the next turn finds the disks as this one did."""

    name: str
    take: Step
    back: Step | None = None


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


def _disk_snapshot(guests: Sequence[Guest], snapshot: str, **options: str) -> None:
    domains = [{'name': guest.name} for guest in guests]
    _module('disk_snapshot', {'uri': guests[0].lab.uri, 'domains': domains, 'snapshot_name': snapshot, **options})


def collection(guests: Sequence[Guest], snapshot: str) -> None:
    """This collection, all guests as one group."""
    _disk_snapshot(guests, snapshot, quiesce='required')


def collection_reflink(guests: Sequence[Guest], snapshot: str) -> None:
    """This collection, by clones of the images."""
    _disk_snapshot(guests, snapshot, quiesce='required', method='reflink')


def collection_back(guests: Sequence[Guest], snapshot: str) -> None:
    """Remove it again."""
    _disk_snapshot(guests, snapshot, state='absent')


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


def _copies(guests: Sequence[Guest], snapshot: str) -> list[tuple[str, str]]:
    images = [made.image for guest in guests for made in guest.disks.values()]
    return [(image, f'{image}.{snapshot}') for image in images]


def shell_reflink(guests: Sequence[Guest], snapshot: str) -> None:
    """The shortest script that does it: freeze, cp --reflink, thaw, in one shell, with nothing looked at."""
    [guest] = guests
    virsh = shlex.join(['virsh', '--quiet', '--connect', guest.lab.uri])
    copies = [shlex.join(['cp', '--reflink=always', *pair]) for pair in _copies(guests, snapshot)]
    steps = [f'{virsh} domfsfreeze {guest.name}', *copies, f'{virsh} domfsthaw {guest.name}']
    _run(['sh', '-c', ' && '.join(steps)])


def delete_copies(guests: Sequence[Guest], snapshot: str) -> None:
    """Delete what the script made."""
    for _image, copy in _copies(guests, snapshot):
        Path(copy).unlink()


def merge_back(guests: Sequence[Guest], _snapshot: str) -> None:
    """Merge new layers away, and delete them."""
    for guest in guests:
        for target in guest.disks:
            _commit(guest, target)


def _commit(guest: Guest, target: str) -> None:
    overlay = guest.source_file(target)
    base = guest.disks[target].image
    domain = guest.domain
    domain.blockCommit(target, base, None, 0, libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE)
    deadline = time.monotonic() + MERGE_TIMEOUT
    while time.monotonic() < deadline:
        if "ready='yes'" in domain.XMLDesc(0):
            domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
            break
        time.sleep(0.05)
    while guest.source_file(target) != base:
        if time.monotonic() > deadline:
            raise RuntimeError(f'the merge of {overlay} did not end')
        time.sleep(0.05)
    Path(overlay).unlink()


COLLECTION = Contender('this collection', collection, collection_back)
REFLINK = Contender('this collection', collection_reflink, collection_back)
VIRSH = Contender('virsh --quiesce', virsh_quiesce, merge_back)
PLAYBOOK = Contender('playbook, 3 tasks', playbook, merge_back)
LOOP = Contender('shell loop', loop, merge_back)
SHELL_REFLINK = Contender('freeze, cp, thaw', shell_reflink, delete_copies)
FLOOR = Contender('freeze and thaw', freeze_and_thaw)
