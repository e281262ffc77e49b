# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What counts as a fault of the emulation, for which a test is run again, and what does not."""

from __future__ import annotations

from ansible_collections.disksnap.libvirt.tests.live.harness import until
from disksnap_lab.hypervisor import Hypervisor
from disksnap_lab.hypervisor_faults import fault, witnesses
from disksnap_lab.hypervisor_vm import running

PATIENCE_S = 10


def test_a_kernel_that_stands_still(hv: Hypervisor) -> None:
    assert fault(hv.machine, PATIENCE_S) is None
    hv.machine.monitor('stop')
    assert fault(hv.machine, PATIENCE_S) == 'its kernel does not answer'
    assert 'RIP=' in witnesses(hv.machine)['the CPUs']
    hv.machine.monitor('cont')
    assert fault(hv.machine, PATIENCE_S) is None


def test_a_daemon_that_hangs_is_no_fault_of_the_emulation(hv: Hypervisor) -> None:
    """The kernel takes the connection all the same."""
    hv.run(['sh', '-c', 'kill -STOP $(systemctl show --property MainPID --value ssh)'])
    try:
        assert fault(hv.machine, PATIENCE_S) is None
    finally:
        hv.run(['sh', '-c', 'kill -CONT $(systemctl show --property MainPID --value ssh)'])


def test_a_kernel_that_panicked_by_itself_is_no_fault_of_the_emulation(hv: Hypervisor) -> None:
    hv.run(['sh', '-c', '(sleep 1; echo c > /proc/sysrq-trigger) > /dev/null 2>&1 &'])
    until('the end of its QEMU', lambda: running(hv.machine.directory) is None, 120)
    assert fault(hv.machine, PATIENCE_S) is None
