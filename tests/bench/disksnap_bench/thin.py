# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A thin LV, on the hypervisor VM: this collection by Ansible over ssh, and the shortest script, run there.

What Ansible and ssh take does not count: the guest's own writers say how long they stood still.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from disksnap_lab.hypervisor import Hypervisor

from .contenders import COLLECTIONS, VENV, Contender, _run

GUEST, TARGET, ORIGIN = 'inner', 'vdc', 'vg0/thin'
# the shell's own name for what it makes
_COPY = 'vg0/copy.{}'


@contextmanager
def hypervisor(say: Callable[[str], None]) -> Iterator[Hypervisor]:
    """A hypervisor of its own for the bench."""
    found = Hypervisor.start('bench', say)
    try:
        yield found
    finally:
        found.stop()


def contenders(hv: Hypervisor) -> list[Contender]:
    """This collection, the script, and the floor."""
    inventory = json.dumps({'all': {'hosts': {'hv': hv.inventory()}}})
    listing = hv.directory / 'inventory.json'
    listing.write_text(inventory, encoding='utf-8')
    settings = hv.directory / 'ansible.cfg'  # an empty one: not what the user of this machine has set
    settings.write_text('', encoding='utf-8')

    def disk_snapshot(snapshot: str, **options: Any) -> None:
        arguments = {'name': GUEST, 'snapshot_name': snapshot, 'disks': [{'target': TARGET}], **options}
        _run(
            [
                str(VENV / 'bin' / 'ansible'),
                *('hv', '--inventory', str(listing), '--module-name', 'disksnap.libvirt.disk_snapshot'),
                *('--args', json.dumps(arguments)),
            ],
            ANSIBLE_COLLECTIONS_PATH=str(COLLECTIONS),
            ANSIBLE_CONFIG=str(settings),
            ANSIBLE_PIPELINING='1',
        )

    def shell(*steps: Sequence[str]) -> None:
        hv.run(['sh', '-c', ' && '.join(shlex.join(step) for step in steps)], timeout=180)

    freeze, thaw = ['virsh', '-q', 'domfsfreeze', GUEST], ['virsh', '-q', 'domfsthaw', GUEST]

    def script(_guests: Any, snapshot: str) -> None:
        name = _COPY.format(snapshot).partition('/')[2]
        shell(freeze, ['lvcreate', '-q', '-q', '--snapshot', '--setactivationskip', 'n', '--name', name, ORIGIN], thaw)

    return [
        Contender(
            'this collection',
            lambda _guests, snapshot: disk_snapshot(snapshot, quiesce='required'),
            lambda _guests, snapshot: disk_snapshot(snapshot, state='absent'),
        ),
        Contender(
            'freeze, lvcreate, thaw',
            script,
            lambda _guests, snapshot: shell(['lvremove', '-q', '-q', '--yes', _COPY.format(snapshot)]),
        ),
        Contender('freeze and thaw', lambda _guests, _snapshot: shell(freeze, thaw)),
    ]
