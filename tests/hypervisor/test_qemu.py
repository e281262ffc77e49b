# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The method qemu as users have it: Ansible over ssh, Debian's Python, AppArmor on."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.disksnap.libvirt.tests.hypervisor.harness import RemoteRunner, check_remote
from disksnap_lab.hypervisor import Hypervisor, HypervisorGuest

IMAGE = '/var/lib/libvirt/images/inner-vda.qcow2'


def test_a_snapshot_and_its_merge(
    hv: Hypervisor, inner: HypervisorGuest, run_module: RemoteRunner, tmp_path: Path
) -> None:
    acked = inner.wait_acked()
    task = {'name': 'inner', 'snapshot_name': 's1', 'disks': [{'target': 'vda'}], 'quiesce': 'required'}

    predicted = run_module('disk_snapshot', task, check=True)
    assert predicted['changed'] is True
    assert inner.chain('vda') == [IMAGE]

    taken = run_module('disk_snapshot', task)

    assert taken['changed'] is True
    overlay, base = inner.chain('vda')
    assert base == IMAGE
    assert overlay != IMAGE
    assert not inner.frozen()
    hv.run(['qemu-img', 'convert', '-U', '-f', 'qcow2', '-O', 'raw', base, '/srv/images/copy.raw'], timeout=300)
    report = check_remote(hv, '/srv/images/copy.raw', tmp_path)
    assert report.clean, report.problem
    assert report.holds(acked['vda'])

    again = run_module('disk_snapshot', task)
    assert again['changed'] is False

    merged = run_module('snapshot_merge', {'name': 'inner', 'snapshot_name': 's1'})

    assert merged['changed'] is True
    assert inner.chain('vda') == [IMAGE]
    assert hv.run(['test', '-e', overlay], check=False).returncode == 1
    inner.wait_acked()
    denied = [line for line in hv.run(['dmesg']).stdout.splitlines() if 'apparmor="DENIED"' in line]
    assert denied == []
