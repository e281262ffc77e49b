# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which guests a host of the role fleet_snapshot takes, as the modules want to hear it."""

from __future__ import annotations

import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils._patterns import matches

DOCUMENTATION = r"""
name: fleet_domains
short_description: The guests of a host, as the option domains of the modules takes them
version_added: 1.0.0
author:
  - The disksnap.libvirt contributors (@disksnap)
description:
  - Leaves out guests, and gives each of the others its disks. The role
    P(disksnap.libvirt.fleet_snapshot#role) uses it.
options:
  _input:
    description: Names of guests. Empty ones are passed over.
    type: list
    elements: str
    required: true
  exclude:
    description: Patterns of names to leave out; V(*) stands for any characters and V(?) for any one character.
    type: list
    elements: str
    default: []
  disks:
    description: For guests of which not all disks are meant, the disks, keyed by the guest's name.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: All but those for trying things out
  ansible.builtin.debug:
    msg: "{{ ['db1', 'scratch-1'] | disksnap.libvirt.fleet_domains(exclude=['scratch-*']) }}"
"""

RETURN = r"""
_value:
  description: An entry a guest, with its name, and its disks where they are not all.
  type: list
  elements: dict
"""


def fleet_domains(
    names: t.Iterable[str],
    exclude: t.Sequence[str] = (),
    disks: dict[str, t.Any] | None = None,
) -> list[dict[str, t.Any]]:
    """Entries of ``domains``, in the order of the names."""
    chosen = [name for name in dict.fromkeys(names) if name and not any(matches(name, one) for one in exclude)]
    return [{'name': name, 'disks': (disks or {}).get(name)} for name in chosen]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter of this file."""
        return {'fleet_domains': fleet_domains}
