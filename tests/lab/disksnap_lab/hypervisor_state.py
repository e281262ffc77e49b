# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A hypervisor saved with everything up: first boot, storage, pools, a guest that runs; kept under a content hash."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import hypervisor_layout as layout
from .base_disks import copy_disk
from .commands import run
from .debian import digest
from .guest_image import GuestImage, guest_image
from .hypervisor_guest import HypervisorGuest
from .hypervisor_image import HypervisorImage, hypervisor_image, hypervisor_root
from .hypervisor_qemu import emulator
from .hypervisor_ssh import Connection
from .hypervisor_vm import DISKS, Machine, end
from .paths import SOURCE, locked
from .records import Record, pack
from .waiting import wait_for

READY = 'ready'  # the name of the saved state
_RECIPE = ['hypervisor/storage', 'disksnap_lab/domain_xml.py']
_RECIPE += [f'disksnap_lab/hypervisor_{name}.py' for name in ('layout', 'state', 'vm')]
SPARE_RECORDS = 100  # on each disk of the guest that is shut off
_BOOT_S = 600
_GUEST_S = 900


@dataclass(frozen=True)
class HypervisorState:
    """Disks of a VM, with the VM itself saved in them: directory hypervisor/state-HASH."""

    directory: Path
    image: HypervisorImage

    def copy_to(self, directory: Path) -> Machine:
        """A machine of its own in this state."""
        machine = Machine(directory, self.image)
        for name in ('root', *DISKS):
            copy_disk(self.directory / f'{name}.qcow2', machine.disk(name))
        return machine


def hypervisor_state(say: Callable[[str], None] = lambda _text: None) -> HypervisorState:
    """The state that this recipe, these images and this machine's QEMU make; made when it isn't there yet (minutes)."""
    guest = guest_image()
    image = hypervisor_image()
    qemu = run([*emulator(), '--version']).stdout
    recipe = [(SOURCE / name).read_bytes() for name in _RECIPE]
    name = digest(image.directory.name, guest.directory.name, qemu, *recipe)
    state = HypervisorState(hypervisor_root() / f'state-{name}', image)
    if not state.directory.exists():  # a rename makes it, so it is whole once it is there
        with locked(hypervisor_root() / 'state.lock', timeout=1800):
            if not state.directory.exists():
                _make(state, guest, say)
    return state


def _make(state: HypervisorState, guest: GuestImage, say: Callable[[str], None]) -> None:
    """Make it beside the final place and rename, so that a half-made state is never used."""
    scratch = hypervisor_root() / 'new-state'
    end(scratch)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    machine = Machine(scratch, state.image)
    machine.make_disks()
    say('booting a new hypervisor')
    machine.start()
    try:
        _furnish(machine, guest, say)
        say('saving it')
        machine.monitor(f'savevm {READY}', 600)
    finally:
        end(scratch)
    scratch.rename(state.directory)


def _furnish(machine: Machine, guest: GuestImage, say: Callable[[str], None]) -> None:
    ssh = Connection(machine.directory, machine.port, machine.image.key)
    try:
        wait_for(f'ssh to the new hypervisor (see {machine.console})', ssh.answers, _BOOT_S, 0.5)
        say('making its storage')
        _make_storage(ssh, guest, machine.directory)
        _define(ssh, machine.directory)
        say('starting its guest')
        _start(ssh)
    finally:
        ssh.close()


def _make_storage(ssh: Connection, guest: GuestImage, scratch: Path) -> None:
    ssh.run(['mkdir', '-p', layout.BOOT.directory])
    ssh.put(guest.kernel, str(layout.BOOT.kernel))
    ssh.put(guest.initrd(), str(layout.BOOT.initrd()))
    ssh.put(SOURCE / 'hypervisor' / 'storage', '/root/storage')
    for target in layout.DISKS['spare']:
        ssh.put(_written_log(target, scratch), f'/root/{target}.log')
    ssh.run(['sh', '/root/storage'], timeout=300)


def _written_log(target: str, directory: Path) -> Path:
    """What a writer would have left on a disk of a guest that was shut off."""
    log = directory / 'log'
    times = [(seq, seq * layout.PERIOD_MS * 1_000_000) for seq in range(1, SPARE_RECORDS + 1)]
    found = [Record(seq, at, at, at, 1, layout.PERIOD_MS, target) for seq, at in times]
    log.write_bytes(b''.join(pack(record) for record in found))
    return log


def _define(ssh: Connection, scratch: Path) -> None:
    wanted = [('pool', name, xml) for name, xml in layout.pools_xml().items()]
    wanted += [('domain', name, layout.domain_xml(name)) for name in layout.DISKS]
    for kind, name, xml in wanted:
        local = scratch / 'xml'
        local.write_text(xml, encoding='utf-8')
        ssh.put(local, '/root/xml')
        if kind == 'pool':
            for action in (['pool-define', '/root/xml'], ['pool-start', name], ['pool-autostart', name]):
                ssh.run(['virsh', '-q', *action], timeout=120)
        else:
            ssh.run(['mkdir', '-p', layout.guest_files(name).directory])
            ssh.run(['virsh', '-q', 'define', '/root/xml'], timeout=120)


def _start(ssh: Connection) -> None:
    guest = HypervisorGuest(ssh, 'inner')
    ssh.run(['virsh', '-q', 'start', guest.name], timeout=300)
    guest.wait_agent(_GUEST_S)
    guest.wait_acked(20, _GUEST_S)
