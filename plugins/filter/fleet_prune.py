# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a retention removes from all the guests of a host, as tasks that disk_snapshot can do."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible.utils.unsafe_proxy import wrap_var

from ansible_collections.disksnap.libvirt.plugins.module_utils._patterns import matches
from ansible_collections.disksnap.libvirt.plugins.plugin_utils.retention import BadInput, judge, name_of
from ansible_collections.disksnap.libvirt.plugins.plugin_utils.sizes import human

DOCUMENTATION = r"""
name: fleet_prune
short_description: What a retention removes from all the guests of a host
version_added: 1.0.0
author:
  - The disksnap.libvirt contributors (@disksnap)
description:
  - Applies P(disksnap.libvirt.snapshots_to_remove#filter) to each guest of a host. The role
    P(disksnap.libvirt.fleet_snapshot#role) and the playbook C(disksnap.libvirt.prune) use it.
options:
  _input:
    description: What M(disksnap.libvirt.disk_snapshot_info) returned.
    type: dict
    required: true
  keep:
    description: The rules, as P(disksnap.libvirt.snapshots_to_remove#filter) has them.
    type: dict
    required: true
  names:
    description:
      - Patterns of the names of snapshots that are judged; V(*) stands for any characters and V(?) for any one
        character. Others stay, and do not count.
    type: list
    elements: str
    default: ['*']
  exclude:
    description: Patterns of guests to leave out.
    type: list
    elements: str
    default: []
  taken:
    description:
      - What M(disksnap.libvirt.disk_snapshot) has just taken, or would take, as its C(domains). It counts, and stays.
    type: list
    elements: dict
    default: []
  now:
    description: What time it is, as P(disksnap.libvirt.snapshots_to_remove#filter) has it.
    type: raw
"""

EXAMPLES = r"""
- name: Look at the host
  disksnap.libvirt.disk_snapshot_info:
  register: host

- name: Show what would go
  ansible.builtin.debug:
    msg: "{{ (host | disksnap.libvirt.fleet_prune({'daily': 7}, names=['nightly-*'], now=now(utc=true))).lines }}"
"""

RETURN = r"""
_value:
  description: What goes and what stays.
  type: dict
  contains:
    removals:
      description: A dictionary a snapshot, with its C(name) and the C(domains) that it is removed from.
      type: list
      elements: dict
    removed:
      description:
        - The same, an entry a guest and snapshot, with C(domain), C(name), C(created_at), C(allocation) and
          C(merge_bytes).
      type: list
      elements: dict
    lines:
      description: Which guests cannot be read, and what goes, a line of text each, and the sum.
      type: list
      elements: str
    kept:
      description: What stays, a line of text each, with the rules that keep it.
      type: list
      elements: str
"""


def fleet_prune(
    info: t.Any,
    keep: t.Any,
    names: t.Sequence[str] | None = None,
    exclude: t.Sequence[str] | None = None,
    taken: t.Sequence[t.Mapping[str, t.Any]] | None = None,
    now: t.Any = None,
) -> dict[str, t.Any]:
    """What goes from one host, and what stays."""
    if not isinstance(info, t.Mapping) or not isinstance(info.get('domains'), (list, tuple)):
        raise AnsibleFilterError('fleet_prune takes what disk_snapshot_info returned, with its domains.')
    fresh = {one['name']: one for one in taken or ()}
    removed: list[dict[str, t.Any]] = []
    kept: list[str] = []
    for domain in info['domains']:
        if any(matches(domain['name'], pattern) for pattern in exclude or ()):
            continue
        try:
            gone, stay = _of_domain(domain, keep, now, names or ['*'], fresh.get(domain['name']))
        except BadInput as error:
            raise AnsibleFilterError(f'fleet_prune: {error}') from error
        removed += [_told(domain['name'], one) for one in gone]
        kept += [f'{domain["name"]} {name_of(one)}: {", ".join(one["kept_by"])}' for one in stay]
    plan = {'removals': _tasks(removed), 'removed': removed, 'lines': _unread(info) + _lines(removed), 'kept': kept}
    # hosts have said this: it is never a template
    return t.cast('dict[str, t.Any]', wrap_var(plan))


def _of_domain(
    domain: t.Mapping[str, t.Any],
    keep: t.Any,
    now: t.Any,
    names: t.Sequence[str],
    fresh: t.Mapping[str, t.Any] | None,
) -> tuple[list[dict[str, t.Any]], list[dict[str, t.Any]]]:
    snapshots = list(domain['snapshots'])
    if fresh is not None and not any(_is(one, fresh) for one in snapshots):
        snapshots.append({**fresh, 'name': name_of(fresh)})  # in check mode it is not there yet
    judged = [one for one in snapshots if any(matches(name_of(one), pattern) for pattern in names)]
    gone, stay = judge(judged, keep, now)
    if fresh is not None:
        stay += [{**one, 'kept_by': ['just taken']} for one in gone if _is(one, fresh)]
        gone = [one for one in gone if not _is(one, fresh)]
    return gone, stay


def _is(snapshot: t.Mapping[str, t.Any], fresh: t.Mapping[str, t.Any]) -> bool:
    return snapshot.get('made_by', 'disksnap') == 'disksnap' and name_of(snapshot) == name_of(fresh)


def _told(domain: str, snapshot: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {
        'domain': domain,
        'name': name_of(snapshot),
        **{key: snapshot.get(key) for key in ('created_at', 'allocation', 'merge_bytes')},
    }


def _tasks(removed: t.Sequence[dict[str, t.Any]]) -> list[dict[str, t.Any]]:
    """A task for each snapshot, the oldest first."""
    tasks: dict[str, list[dict[str, str]]] = {}
    for one in sorted(removed, key=lambda one: one['created_at'] or ''):
        tasks.setdefault(one['name'], []).append({'name': one['domain']})
    return [{'name': name, 'domains': domains} for name, domains in tasks.items()]


def _unread(info: t.Mapping[str, t.Any]) -> list[str]:
    problems = [one for one in info.get('problems') or () if one.get('code') == 'unreadable']
    return [f'{one["message"]} Nothing of it goes.' for one in problems]


def _lines(removed: t.Sequence[dict[str, t.Any]]) -> list[str]:
    lines = [
        f'{one["domain"]} {one["name"]}: {human(one["allocation"])} come back at most, '
        f'{human(one["merge_bytes"])} to copy'
        for one in removed
    ]
    if len(lines) > 1:
        known = sum(one['allocation'] or 0 for one in removed)
        copied = sum(one['merge_bytes'] or 0 for one in removed)
        lines.append(f'{len(removed)} in all: {human(known)} come back at most, {human(copied)} to copy')
    return lines


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter of this file."""
        return {'fleet_prune': fleet_prune}
