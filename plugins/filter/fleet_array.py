# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What storage arrays are asked for all hosts of a fleet at once: which volumes go together."""

from __future__ import annotations

import typing as t

DOCUMENTATION = r"""
name: fleet_array
short_description: The volumes of all hosts of a fleet, in the groups in which storage arrays are asked for them
version_added: 1.0.0
author:
  - The disksnap.libvirt contributors (@disksnap)
description:
  - Brings together the C(volumes) that M(disksnap.libvirt.snapshot_step) returns on each host. A volume that holds
    several disks comes once. The role P(disksnap.libvirt.fleet_snapshot#role) uses it.
options:
  _input:
    description:
      - The registered result of each host, of a loop too, keyed by the host's name. One without volumes is passed over.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: What the arrays are to be asked for
  ansible.builtin.debug:
    msg: "{{ {'hv1': prepared} | disksnap.libvirt.fleet_array }}"
"""

RETURN = r"""
_value:
  description: A dictionary for each group of volumes, by the attribute C(group) of their identity.
  type: list
  elements: dict
  contains:
    group:
      description: The name of the group; empty for volumes that name none.
      type: str
    volumes:
      description:
        - A dictionary for each volume, with C(volume) and C(method_xml), which identify it, C(identity), what the
          tasks returned when the snapshot was taken, or null, and C(disks), a list of what is on it, each with C(host),
          C(domain), C(target) and C(key).
      type: list
      elements: dict
"""

_OF_DISK = ('domain', 'target', 'key')
_OF_VOLUME = ('volume', 'method_xml', 'identity')


def fleet_array(results: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
    """The groups, in the order of their names."""
    groups: dict[str, dict[str, dict[str, t.Any]]] = {}
    for host, result in results.items():
        for one in _volumes(result):
            group = groups.setdefault(str(one['volume'].get('group', '')), {})
            volume = group.setdefault(one['method_xml'], {**{key: one[key] for key in _OF_VOLUME}, 'disks': []})
            volume['identity'] = volume['identity'] or one['identity']
            volume['disks'].append({'host': host, **{key: one[key] for key in _OF_DISK}})
    return [{'group': name, 'volumes': list(groups[name].values())} for name in sorted(groups)]


def _volumes(result: t.Any) -> list[t.Any]:
    """Those of one host's result, or of the results of a loop."""
    if not isinstance(result, t.Mapping):
        return []
    several = result.get('results')
    if isinstance(several, (list, tuple)):
        return [volume for one in several for volume in _volumes(one)]
    return list(result.get('volumes') or ())


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filters of this file."""
        return {'fleet_array': fleet_array}
