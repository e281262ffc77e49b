# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which snapshots of one domain are too old."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError
from ansible.utils.unsafe_proxy import wrap_var

from ansible_collections.disksnap.libvirt.plugins.plugin_utils.retention import BadInput, judge

DOCUMENTATION = r"""
name: snapshots_to_remove
short_description: The snapshots of a domain that a retention does not keep
version_added: 1.0.0
author:
  - The disksnap.libvirt contributors (@disksnap)
description:
  - Takes the snapshots of one domain and rules, and returns those that no rule keeps, the oldest first.
  - The rules are those of C(restic forget). Each keeps the newest snapshot of each of its last so many periods that
    have one, whatever other rules keep, and the oldest of all as long as it may keep more. What any rule keeps is kept.
  - C(borg prune) differs. It does not count for a rule what a shorter rule keeps already, so the same numbers keep more
    and reach further back there.
  - Periods are those of UTC, where those of restic and borg are of local time; weeks begin on Monday.
  - One that is broken, of which a disk has a C(fault), and one that is dated after O(now) take the place of no other.
    They go when they would go if they counted.
  - Only snapshots that this collection made go, and count. One that a block job or another image needs stays, as does
    one that is being taken or reverted, and one of which it is not known when it was taken.
  - One whose removal was interrupted is a point in time no more. It counts for no rule and goes, unless no rule is set.
  - Without a rule, or where all are 0, nothing goes.
options:
  _input:
    description:
      - The snapshots of one domain, as M(disksnap.libvirt.disk_snapshot_info) returns them.
      - An entry without C(made_by) counts as one of this collection.
    type: list
    elements: dict
    required: true
  keep:
    description: The rules.
    type: dict
    required: true
    suboptions:
      last:
        description: Keep so many of the newest. V(-1) keeps all, here and below.
        type: int
      hourly:
        description: Keep the newest of each of the last so many hours that have one.
        type: int
      daily:
        description: Keep the newest of each of the last so many days that have one.
        type: int
      weekly:
        description: Keep the newest of each of the last so many weeks that have one.
        type: int
      monthly:
        description: Keep the newest of each of the last so many months that have one.
        type: int
      within:
        description:
          - Keep all that are no older than this, counted from the newest one before O(now), as V(7d), V(2w) or V(1y6m).
            The units are C(y), C(m) for months, C(w), C(d) and C(h), in this order.
          - Months are those of the calendar, and a month before 31 March is the end of February; restic takes it for 3
            March, and keeps less.
        type: str
  explain:
    description: Return a dictionary that also has those that stay, and why.
    type: bool
    default: false
  now:
    description:
      - What time it is, as C(now(utc=true)) or as text, V(2026-03-01T02:00:00Z); UTC if it names no zone.
      - Without it no snapshot is taken to be of the future, and one that a wrong clock dated there counts as the
        newest. So that it cannot have C(within) remove all others, C(within) then counts anew after each gap that is as
        long as it is itself, and keeps what lies before the gap as though nothing came after it.
    type: raw
"""

EXAMPLES = r"""
- name: Look at one guest
  disksnap.libvirt.disk_snapshot_info:
    name: db1
  register: guest

- name: Name what a week of days and a month of weeks would not keep
  ansible.builtin.debug:
    msg: >-
      {{ guest.domains[0].snapshots
         | disksnap.libvirt.snapshots_to_remove({'daily': 7, 'weekly': 4}, now=now(utc=true))
         | map(attribute='name') }}

- name: Say by which rule each of the others is kept
  ansible.builtin.debug:
    msg: "{{ item.name }}: {{ item.kept_by | join(', ') }}"
  loop: "{{ (guest.domains[0].snapshots | disksnap.libvirt.snapshots_to_remove({'daily': 7}, explain=true)).keep }}"
  loop_control:
    label: "{{ item.name }}"
"""

RETURN = r"""
_value:
  description:
    - The snapshots to remove, as they were given.
    - With O(explain), a dictionary with C(remove), the same list, and C(keep), the others, each with C(kept_by), a list
      of the rules that keep it, as V(daily 2026-03-01), or of the reasons why it is not touched.
  type: raw
"""


def snapshots_to_remove(snapshots: t.Any, keep: t.Any, explain: bool = False, now: t.Any = None) -> t.Any:
    """The snapshots that no rule keeps."""
    try:
        gone, stay = judge(snapshots, keep, now)
    except BadInput as error:
        raise AnsibleFilterError(f'snapshots_to_remove: {error}') from error
    # names and descriptions are the host's own words: never a template
    return wrap_var(_plain({'remove': gone, 'keep': stay} if explain else gone))


def _plain(value: t.Any) -> t.Any:
    """Lists and dictionaries of Python's own: wrap_var makes new ones of their types, and templates have their own."""
    if isinstance(value, t.Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter of this file."""
        return {'snapshots_to_remove': snapshots_to_remove}
