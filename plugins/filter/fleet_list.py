# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A list that may come as text: by the command line, or as the answer to a question of a survey."""

from __future__ import annotations

import re
import typing as t

DOCUMENTATION = r"""
name: fleet_list
short_description: A list that may come as text
version_added: 1.0.0
author:
  - The disksnap.libvirt contributors (@disksnap)
description:
  - Makes a list of text that has an entry a line, or several parted by commas, as the surveys of AWX and the command
    line give it. The role P(disksnap.libvirt.fleet_snapshot#role) and the playbooks use it.
options:
  _input:
    description: Text or a list. Entries of a list are taken as they are, but for numbers, which become text.
    type: raw
    required: true
  key:
    description: For a list of dictionaries, the key that is meant by an entry which is text.
    type: str
"""

EXAMPLES = r"""
- name: Two names
  ansible.builtin.debug:
    msg: "{{ 'db1\nweb*' | disksnap.libvirt.fleet_list }}"

- name: Two disks
  ansible.builtin.debug:
    msg: "{{ 'vda, vdb' | disksnap.libvirt.fleet_list(key='target') }}"
"""

RETURN = r"""
_value:
  description: The list. It is null where there is no answer, that is for null and for text without an entry.
  type: list
  elements: raw
"""


def fleet_list(value: t.Any, key: str | None = None) -> list[t.Any] | None:
    """The entries of text or of a list; None where nothing was said. An empty list says that there is none."""
    if value is None:
        return None
    if isinstance(value, str):
        named = [entry.strip() for entry in re.split(r'[\n,]', value) if entry.strip()]
        return [_entry(entry, key) for entry in named] or None
    return [_entry(entry, key) for entry in (value if isinstance(value, (list, tuple)) else [value])]


def _entry(entry: t.Any, key: str | None) -> t.Any:
    if isinstance(entry, dict):
        return entry
    return str(entry) if key is None else {key: str(entry)}


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter of this file."""
        return {'fleet_list': fleet_list}
