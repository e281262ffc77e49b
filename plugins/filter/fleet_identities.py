# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What storage arrays answered for a group of volumes: whose answer is whose."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: fleet_identities
short_description: What a storage array returned for a group of volumes, by host
version_added: 1.0.0
author:
  - The disksnap.libvirt contributors (@disksnap)
description:
  - Says whose disks the identities belong to that the tasks for a storage array returned. The role
    P(disksnap.libvirt.fleet_snapshot#role) uses it.
options:
  _input:
    description: A group of volumes, as P(disksnap.libvirt.fleet_array#filter) returns it.
    type: dict
    required: true
  answers:
    description: One identity for each volume of the group, in their order. Anything else is an error.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Whose they are
  ansible.builtin.debug:
    msg: "{{ group | disksnap.libvirt.fleet_identities([{'path': '/dev/mapper/clone1'}]) }}"
"""

RETURN = r"""
_value:
  description: For each host, the identity of the snapshot of each of its disks, by the key of the disk.
  type: dict
"""


def fleet_identities(group: t.Mapping[str, t.Any], answers: t.Any) -> dict[str, dict[str, t.Any]]:
    """What each host has to know of what the tasks returned for one group: host -> key -> identity.

    Raises:
        AnsibleFilterError: if they did not return one identity for each volume.
    """
    volumes = group['volumes']
    if not isinstance(answers, (list, tuple)) or len(answers) != len(volumes):
        raise AnsibleFilterError(
            f'The tasks for the array must set fleet_snapshot_array_result to a list of {len(volumes)} identities, one '
            f'for each volume of group "{group["group"]}", in the order of fleet_snapshot_array_volumes.'
        )
    found: dict[str, dict[str, t.Any]] = {}
    for volume, identity in zip(volumes, answers):
        for disk in volume['disks']:
            found.setdefault(disk['host'], {})[disk['key']] = identity
    return found


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filters of this file."""
        return {'fleet_identities': fleet_identities}
