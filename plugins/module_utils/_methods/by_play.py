# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a play is told of the volumes that only its tasks can have taken, and the errors where they have not."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import DiskRecord
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import volume_of

# the note of a disk that has what a task returned for it
IDENTITY = 'identity'
ROLE = 'Use the role fleet_snapshot, with the tasks for the array in fleet_snapshot_array_tasks.'


def may_have(domain: Domain, record: DiskRecord, name: str) -> DiskSnapError:
    """The error where an interrupted run has left something that only tasks of a play can remove."""
    return DiskSnapError(
        f'Failed to undo the snapshot {name}, which a storage array may have',
        domain=domain.name,
        disk=record.target,
        why='an interrupted run has left it, and only tasks of a play can ask the array',
        hint=f'Use the role fleet_snapshot with fleet_snapshot_name={name}, fleet_snapshot_state=absent and the tasks '
        'for the array in fleet_snapshot_array_tasks.',
    )


def not_back(domain: Domain, record: DiskRecord) -> DiskSnapError:
    """The error where the array is to take a volume back first."""
    return DiskSnapError(
        'Failed to revert to a snapshot that a storage array has',
        domain=domain.name,
        disk=record.target,
        why='the array has not taken its volume back, as far as the journal knows',
        hint=f'{ROLE} With fleet_snapshot_state=reverted it does so, and goes on with what was begun.',
    )


def key_of(domain: Domain, record: DiskRecord) -> str:
    """What tells one disk from all others of a play."""
    return f'{domain.uuid}/{record.target}'


def volume(domain: Domain, record: DiskRecord, group: str) -> dict[str, t.Any]:
    """What the play is told of the volume below one disk; ``key`` is what it answers under.

    Args:
        group: of the snapshot.
    """
    return {
        'key': key_of(domain, record),
        'domain': domain.name,
        'target': record.target,
        'snapshot_group': group,
        'volume': volume_of(record.method_xml),
        'method_xml': record.method_xml,
        'identity': json.loads(record.identity) if record.identity else None,
    }
