# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the template of a report shows of a fleet."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible.utils.unsafe_proxy import wrap_var

from ansible_collections.disksnap.libvirt.plugins.plugin_utils.report import build

DOCUMENTATION = r"""
name: fleet_report
short_description: What a report shows of a fleet
version_added: 1.0.0
author:
  - The disksnap.libvirt contributors (@disksnap)
description:
  - Puts what the role P(disksnap.libvirt.fleet_snapshot#role) has done on each host, and what
    M(disksnap.libvirt.disk_snapshot_info) has found there, into the order and the shapes in which the template of the
    role's report shows them.
options:
  _input:
    description:
      - What M(disksnap.libvirt.disk_snapshot_info) returned of each host, keyed by host; empty where it did not run.
    type: dict
    required: true
  results:
    description: The fact C(fleet_snapshot_result) of those hosts that have one, keyed by host.
    type: dict
    default: {}
  asked:
    description: What was to be done, as C(snapshot_name) and C(state). Empty for a report of what is there alone.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Look at the host
  disksnap.libvirt.disk_snapshot_info:
  register: host

- name: Say what a report would show first
  ansible.builtin.debug:
    msg: "{{ ({'hv1': host} | disksnap.libvirt.fleet_report).lead }}"
"""

RETURN = r"""
_value:
  description:
    - The page, as the templates in C(roles/fleet_snapshot/templates/) take it. Its keys may change in any release.
  type: dict
"""


def fleet_report(infos: t.Any, results: t.Any = None, asked: t.Any = None) -> dict[str, t.Any]:
    """The page."""
    for one in (infos, results or {}, asked or {}):
        if not isinstance(one, t.Mapping):
            raise AnsibleFilterError('fleet_report takes what each host has answered, in dictionaries keyed by host.')
    hosts = {host: {'info': info or {}, 'result': (results or {}).get(host) or {}} for host, info in infos.items()}
    # names of guests and paths of files are the hosts' own words: never a template
    return t.cast('dict[str, t.Any]', wrap_var(build(hosts, asked or {})))


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter of this file."""
        return {'fleet_report': fleet_report}
