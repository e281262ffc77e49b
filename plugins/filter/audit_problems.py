# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The problems of one host as one list, each with a line of text."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible.utils.unsafe_proxy import wrap_var

DOCUMENTATION = r"""
name: audit_problems
short_description: All problems that disk_snapshot_info has found on a host
version_added: 1.0.0
author:
  - The disksnap.libvirt contributors (@disksnap)
description:
  - Puts the problems of all domains and those of the host in one list, and says each in one line of text.
options:
  _input:
    description:
      - What M(disksnap.libvirt.disk_snapshot_info) returned.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what is wrong on this host
  ansible.builtin.debug:
    msg: "{{ host | disksnap.libvirt.audit_problems | map(attribute='text') }}"
"""

RETURN = r"""
_value:
  description:
    - The problems, as the module has them, each with C(domain), the name of the domain or null, and C(text).
  type: list
  elements: dict
"""


def audit_problems(info: t.Any) -> list[dict[str, t.Any]]:
    """The problems of one host, those of its domains first."""
    if not isinstance(info, t.Mapping) or not isinstance(info.get('domains'), (list, tuple)):
        raise AnsibleFilterError('audit_problems takes what disk_snapshot_info returned, with its domains.')
    found = [_told(domain['name'], one) for domain in info['domains'] for one in domain['problems']]
    found += [_told(None, one) for one in info.get('problems', ())]
    # paths and names are the host's own words: never a template
    return t.cast('list[dict[str, t.Any]]', wrap_var(found))


def _told(domain: str | None, problem: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    place = ' '.join(one for one in (domain or 'this host', problem.get('disk')) if one)
    text = f'{place}: {problem["code"]}: {problem["message"]} {problem["remedy"]}'.strip()
    return {**problem, 'domain': domain, 'text': text}


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter of this file."""
        return {'audit_problems': audit_problems}
