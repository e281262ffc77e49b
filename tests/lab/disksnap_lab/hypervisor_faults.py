# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a hypervisor failed since QEMU emulated it wrongly, which says nothing about what was done on it.

Each fault has a sign that no program of the hypervisor can give.
"""

from __future__ import annotations

import re
import socket
import time

from .errors import LabError
from .hypervisor_vm import Machine, running

# the kernel's own words for a CPU that went round without end, or that answers no other CPU
_LOCKUP = re.compile(rb'BUG: soft lockup|hard LOCKUP|rcu: INFO: \S+ (self-)?detected stall')

# registers of no interest here
_DULL = ('FCW', 'FPR', 'XMM', 'YMM', 'ZMM', 'Opmask', 'DR', 'GDT', 'IDT', 'LDT')


def fault(machine: Machine, patience_s: float = 60) -> str | None:
    """What broke down, or None where it is not the emulation that did; it has patience where nobody can log in."""
    said = machine.console.read_bytes() if machine.console.exists() else b''
    if running(machine.directory) is None:
        return 'its kernel panicked in KVM' if _panicked(said) else None
    network = _when_silent(machine, patience_s)
    if 'SYN_SENT' in network:
        return 'its kernel does not answer'
    return 'its kernel reports a CPU that is stuck' if network and _LOCKUP.search(said) else None


def _panicked(said: bytes) -> bool:
    """Whether the emulation of AMD's SVM failed: the kernel inside has panicked in KVM, and so QEMU has ended.

    QEMU 7.2 delivers a timer interrupt right after the exit of a nested guest, though KVM has cleared the global
    interrupt flag: the kernel then runs with the guest's GS base and overruns its stack. It happens about once in
    half an hour. Any other panic counts as what it is.
    """
    return b'Kernel panic' in said and b'__svm_vcpu_run+' in said and b'stack guard page' in said


def _when_silent(machine: Machine, seconds: float) -> str:
    """The state of the VM's network where its sshd says nothing; empty where it does, or cannot be reached at all.

    QEMU's user network takes a connection itself, then begins one with the VM. That one stays in SYN_SENT where the
    kernel leaves the handshake unanswered, which it does not as long as it gets interrupts, whatever becomes of sshd.
    """
    try:
        with socket.create_connection(('127.0.0.1', machine.port), seconds) as connection:
            try:
                connection.recv(1)
            except TimeoutError:
                return machine.ask('info usernet')
    except (OSError, LabError):
        pass
    return ''


def witnesses(machine: Machine) -> dict[str, str]:
    """What tells most of why nobody can log in, as QEMU says."""
    found = {}
    # twice, as one sees by the program counters what goes round
    for title, command in (
        ('the CPUs', 'info registers -a'),
        ('the CPUs a second later', 'info registers -a'),
        ('the network', 'info usernet'),
        ('the interrupt controller of CPU 0', 'info lapic 0'),
        ('the interrupt controller of CPU 1', 'info lapic 1'),
    ):
        try:
            lines = machine.ask(command).splitlines()
            found[title] = '\n'.join(line.rstrip() for line in lines if not line.startswith(_DULL))
        except LabError as error:
            found[title] = f'not known: {error}'
        time.sleep(1)
    said = machine.console.read_bytes() if machine.console.exists() else b''
    found['its console'] = said[-4000:].decode('utf-8', 'replace')
    return found
