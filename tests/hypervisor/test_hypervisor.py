# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hypervisor itself: Debian's AppArmor around a guest, going back, and a copy of a volume fetched and judged."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.disksnap.libvirt.tests.hypervisor.harness import check_remote
from disksnap_lab.hypervisor import Hypervisor, HypervisorGuest


def test_the_guest_runs_under_apparmor(hv: Hypervisor, inner: HypervisorGuest) -> None:
    assert inner.running()
    profile = f'libvirt-{inner.xml().findtext("uuid")}'
    [line] = [line for line in hv.run(['aa-status']).stdout.splitlines() if 'qemu-system' in line]
    assert line.split()[-1] == profile
    assert hv.run(['ps', '-o', 'user=', '-C', 'qemu-system-x86_64']).stdout.strip() == 'libvirt-qemu'


def test_goes_back(hv: Hypervisor, inner: HypervisorGuest) -> None:
    hv.run(['lvremove', '-y', 'vg0/spare'])
    hv.run(['virsh', 'destroy', 'inner'])

    hv.reset()

    assert inner.running()
    assert 'spare' in hv.run(['lvs', '--noheadings', '-o', 'lv_name', 'vg0']).stdout.split()
    inner.wait_acked()


def test_a_volume_copied_while_frozen_is_clean(hv: Hypervisor, inner: HypervisorGuest, tmp_path: Path) -> None:
    acked = inner.wait_acked()
    hv.run(['virsh', 'domfsfreeze', 'inner'])
    frozen = inner.acked()
    hv.run(['lvcreate', '-s', '-L', '64M', '-n', 'copy', 'vg0/classic'])
    hv.run(['virsh', 'domfsthaw', 'inner'])
    inner.wait_acked_beyond(frozen)

    report = check_remote(hv, '/dev/vg0/copy', tmp_path)

    assert report.clean, report.problem
    assert report.holds(acked['vdb'])
    assert report.holds(frozen['vdb'])


def test_the_guest_that_is_shut_off_has_a_log(hv: Hypervisor, tmp_path: Path) -> None:
    assert not hv.guest('spare').running()
    report = check_remote(hv, '/dev/vg0/spare', tmp_path)
    assert report.clean, report.problem
    assert report.holds(1)
