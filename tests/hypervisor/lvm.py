# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of the method lvm share: tasks on the guest that runs, and a look at the logical volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.disksnap.libvirt.tests.hypervisor.harness import RemoteRunner, check_remote
from disksnap_lab import Report
from disksnap_lab.hypervisor import Hypervisor

# emulated in an emulated machine, one command of LVM takes seconds
SLOW: dict[str, Any] = {'name': 'inner', 'max_frozen': 120, 'agent_timeout': 60}
FRESH = {'classic', 'images', 'spare', 'thin', 'tpool', 'other'}


class Patient:
    """Runs modules with more time than the harness gives them."""

    def __init__(self, runner: RemoteRunner) -> None:
        self._runner = runner
        self.start = runner.start

    def __call__(self, name: str, args: dict[str, Any], **options: Any) -> dict[str, Any]:
        return self._runner(name, args, timeout=900, **options)

    def fails(self, name: str, args: dict[str, Any], **options: Any) -> dict[str, Any]:
        return self._runner.fails(name, args, timeout=900, **options)


def volumes(hv: Hypervisor, field: str = 'lv_attr') -> dict[str, str]:
    """LV -> one of its fields."""
    lines = hv.run(['lvs', '--noheadings', '--separator', ' ', '-o', f'lv_name,{field}']).stdout.splitlines()
    pairs = [line.strip().partition(' ') for line in lines]
    return {name: value.strip() for name, _space, value in pairs}


def task(*disks: Any, **options: Any) -> dict[str, Any]:
    """A task on the guest that runs."""
    entries = [disk if isinstance(disk, dict) else {'target': disk} for disk in disks]
    return {**SLOW, 'snapshot_name': 's1', 'disks': entries, **options}


def disks_of(result: dict[str, Any]) -> dict[str, Any]:
    """Target -> what the module returned of it."""
    [domain] = result['domains']
    return {disk['target']: disk for disk in domain['disks']}


def denials(hv: Hypervisor) -> list[str]:
    """What AppArmor has kept from happening."""
    return [line for line in hv.run(['dmesg']).stdout.splitlines() if 'apparmor="DENIED"' in line]


def judge(hv: Hypervisor, path: str, scratch: Path, acked: int) -> Report:
    report = check_remote(hv, path, scratch)
    assert report.clean, report.problem
    assert report.holds(acked)
    return report
