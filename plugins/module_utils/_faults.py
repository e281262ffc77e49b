# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copies that have become useless behind everyone's back, as an LVM snapshot does that runs out of space.

Nobody is told at that moment, so every task that meets the domain says it.
"""

from __future__ import annotations

from ansible_collections.disksnap.libvirt.plugins.module_utils import _records
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.registry import method_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import Journal


def useless(domain: Domain, journal: Journal, *, but: str | None = None) -> list[str]:
    """Warnings about recorded copies that cannot be used.

    Args:
        domain: whose they are.
        journal: of the domain.
        but: name of the snapshot that the task itself is about, and says more of.
    """
    warnings = []
    for snapshot in journal.snapshots.values():
        if snapshot.state != _records.PRESENT or snapshot.name == but:
            continue
        for disk in snapshot.disks:
            try:
                method = method_of(disk.method)
                fault = method.fault(domain, disk) if method.copies else None
            except DiskSnapError as error:
                fault = error.why or str(error)
            if fault is not None:
                warnings.append(
                    f'The snapshot {snapshot.name} of disk {disk.target} of the domain {domain.name} cannot be used: '
                    f'{fault}. Remove it with disk_snapshot, state: absent.'
                )
    return warnings
