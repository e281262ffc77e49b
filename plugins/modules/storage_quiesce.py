#!/usr/bin/python
# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: storage_quiesce
short_description: Freeze and thaw the file systems of libvirt guests, for a bounded time
version_added: 1.0.0
author:
  - The disksnap.libvirt contributors (@disksnap)
description:
  - Freezes the file systems of one guest, or of several side by side, and leaves them frozen when the task has ended,
    so that other tasks can snapshot the storage below.
  - A process outside the module thaws them after O(max_frozen) seconds, though the play, the controller or the
    connection is gone.
extends_documentation_fragment:
  - disksnap.libvirt.attributes
  - disksnap.libvirt.attributes.action_group
  - disksnap.libvirt.attributes.platform_linux
  - disksnap.libvirt.common
  - disksnap.libvirt.freeze
attributes:
  check_mode:
    support: full
    details:
      - Everything is predicted but times.
  diff_mode:
    support: none
    details:
      - Nothing that lasts is changed.
options:
  state:
    description:
      - V(quiesced) freezes. A guest that an earlier task of this module froze is left as it is; one that something else
        froze is put under the watchdog.
      - V(thawed) thaws, whoever froze.
    type: str
    choices:
      - quiesced
      - thawed
    required: true
  quiesce:
    description:
      - V(required) fails if one of the guests cannot be frozen, and thaws those that are.
      - V(preferred) warns and leaves that one running.
    type: str
    choices:
      - required
      - preferred
    default: required
  mountpoints:
    description:
      - Freeze only the file systems that the guest has mounted here. All, if left out.
      - With O(disks) and without this, those that are on the disks named.
    type: list
    elements: str
seealso:
  - module: disksnap.libvirt.disk_snapshot
"""

EXAMPLES = r"""
- name: Freeze two guests
  disksnap.libvirt.storage_quiesce:
    domains:
      - name: app1
      - name: db1
    state: quiesced
    max_frozen: 20

- name: Thaw them, and hear whether they were frozen all the while
  disksnap.libvirt.storage_quiesce:
    domains:
      - name: app1
      - name: db1
    state: thawed
  register: thaw
  failed_when: thaw is failed or thaw.domains | rejectattr('thawed_by', 'eq', 'module') | list | length > 0
"""

RETURN = r"""
domains:
  description: What became of each domain, in the order of the task.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the domain.
      type: str
      sample: db1
    uuid:
      description: UUID of the domain.
      type: str
      sample: 6d5a7f4e-3f0e-4a0b-9f57-0c4d3a2f1b60
    state:
      description: V(quiesced) or V(thawed).
      type: str
      sample: quiesced
    filesystems:
      description: How many file systems were frozen; 0 if something else had frozen the guest before.
      type: int
      sample: 3
    presynced:
      description: Whether the guest wrote its dirty pages before.
      type: bool
    frozen_at:
      description: When it was frozen, in UTC; null if it was not.
      type: str
      sample: "2026-03-01T02:00:00.123Z"
    thawed_at:
      description: When it was thawed, in UTC; null if it is frozen or never was.
      type: str
      sample: "2026-03-01T02:00:01.456Z"
    window_ms:
      description: Milliseconds from the moment that the freeze was asked for until the thaw was confirmed, or null.
      type: float
      sample: 1333.1
    thawed_by:
      description: V(module), V(watchdog) or V(guest), or null.
      type: str
      sample: module
"""

from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import (
    COMMON_RULES,
    DiskSnapModule,
    common_spec,
    freeze_spec,
    run_module,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._storage_quiesce import run


def main() -> None:
    module = DiskSnapModule(
        argument_spec={
            **common_spec(),
            **freeze_spec(quiesce=('required', 'preferred'), default='required'),
            'state': {'type': 'str', 'choices': ['quiesced', 'thawed'], 'required': True},
        },
        supports_check_mode=True,
        **COMMON_RULES,
    )
    run_module(module, run)


if __name__ == '__main__':
    main()
