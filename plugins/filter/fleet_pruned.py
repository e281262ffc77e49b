# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a retention's plan was removed."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible.utils.unsafe_proxy import wrap_var

from ansible_collections.disksnap.libvirt.plugins.plugin_utils.retention import OURS, name_of

DOCUMENTATION = r"""
name: fleet_pruned
short_description: What of a retention's plan was removed
version_added: 1.0.0
author:
  - The disksnap.libvirt contributors (@disksnap)
description:
  - A removal from several guests that fails may have removed the snapshot from some of them. This filter tells from
    which. The role P(disksnap.libvirt.fleet_snapshot#role) and the playbook C(disksnap.libvirt.prune) use it.
options:
  _input:
    description: What P(disksnap.libvirt.fleet_prune#filter) returned.
    type: dict
    required: true
  results:
    description: The results of M(disksnap.libvirt.disk_snapshot), one for each of its C(removals).
    type: list
    elements: dict
    required: true
  left:
    description:
      - The guests of those that failed, as the C(domains) of M(disksnap.libvirt.disk_snapshot_info) show them
        afterwards. Of a guest that is not among them, what failed was not removed.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Name what is gone
  ansible.builtin.debug:
    msg: "{{ plan | disksnap.libvirt.fleet_pruned(removal.results, left.domains | default([])) }}"
"""

RETURN = r"""
_value:
  description: Those entries of C(removed) of the plan whose snapshots are gone.
  type: list
  elements: dict
"""


def fleet_pruned(
    plan: t.Any,
    results: t.Sequence[t.Mapping[str, t.Any]],
    left: t.Sequence[t.Mapping[str, t.Any]] | None = None,
) -> list[dict[str, t.Any]]:
    """Entries of the plan whose snapshots are gone."""
    if not isinstance(plan, t.Mapping) or not isinstance(plan.get('removed'), (list, tuple)):
        raise AnsibleFilterError('fleet_pruned takes what fleet_prune returned, with its removed.')
    done = {one['item']['name'] for one in results if not one.get('failed')}
    tried = {one['item']['name'] for one in results}
    there = {
        domain['name']: {name_of(one) for one in domain['snapshots'] if one.get('made_by', OURS) == OURS}
        for domain in left or ()
    }
    gone = [
        one
        for one in plan['removed']
        if one['name'] in done
        or (one['name'] in tried and one['domain'] in there and one['name'] not in there[one['domain']])
    ]
    # hosts have said this: it is never a template
    return t.cast('list[dict[str, t.Any]]', wrap_var(gone))


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter of this file."""
        return {'fleet_pruned': fleet_pruned}
