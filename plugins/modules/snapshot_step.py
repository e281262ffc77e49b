#!/usr/bin/python
# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: snapshot_step
short_description: Take one host's part in a disk snapshot that spans hosts, step by step
version_added: 1.0.0
author:
  - The disksnap.libvirt contributors (@disksnap)
description:
  - The role P(disksnap.libvirt.fleet_snapshot#role) with C(fleet_snapshot_consistency=fleet) is made of it; take the
    role. The module is for plays that must do more between the steps.
  - V(prepare) leaves a process on the host that has everything ready, overlays and connections included. It then
    waits, without a guest standing still, for the words C(freeze), C(commit), with several patterns in O(order)
    C(thaw), and C(finish), or for C(abandon). RV(command) is the shell command that brings it a word.
  - The process goes by the play's word alone. Should that stay away for O(patience) seconds, or O(max_frozen) while
    guests stand still, or should the play hang up while a step runs, it thaws and undoes everything.
  - After the last step before C(finish) the snapshot is C(committed). C(finish) says that all hosts have it, C(abandon)
    undoes it. Where neither comes, the first run on the domain after O(patience) seconds undoes it.
extends_documentation_fragment:
  - disksnap.libvirt.attributes
  - disksnap.libvirt.attributes.action_group
  - disksnap.libvirt.attributes.platform_linux
  - disksnap.libvirt.common
  - disksnap.libvirt.freeze
  - disksnap.libvirt.freeze.snapshot
attributes:
  check_mode:
    support: full
    details:
      - V(prepare) predicts the snapshot and leaves no process, so that there is no RV(command).
  diff_mode:
    support: full
    details:
      - Shows the XML of each disk before and after.
options:
  step:
    description:
      - V(prepare) gets everything ready; what an interrupted run left on the domains is undone first.
      - V(finish) notes that all hosts have taken the snapshot, where there is no process to be told.
      - V(abandon) undoes what there is of it on this host.
      - V(volumes) tells of which volumes a storage array has the snapshot, or may have it. It changes nothing.
      - V(removing) tells the same, and notes that the arrays are about to remove it, so that nobody counts on it any
        more.
      - V(removed) notes that no array has it any more, once tasks of the play have seen to that.
      - V(stop) is the first half of a revert in which an array takes part. It stops the domains, if O(force) allows.
      - V(reverted) notes that the array has taken its volumes back. M(disksnap.libvirt.disk_snapshot) with
        C(state=reverted) then does the rest.
    type: str
    choices:
      - prepare
      - finish
      - abandon
      - volumes
      - removing
      - removed
      - stop
      - reverted
    required: true
  snapshot_name:
    description:
      - Name of the snapshot, the same on all hosts.
    type: str
    required: true
  group:
    description:
      - What tells this snapshot from any other of its name; the same on all hosts.
      - Required with V(prepare), V(finish) and V(abandon). Without it, V(volumes), V(removing) and V(removed) are
        about any.
    type: str
  order:
    description:
      - Patterns of names, in the order in which the domains are to be frozen, the same on all hosts. Each pattern is a
        step of its own; domains are thawed in the reverse order. V(*) stands for any characters and V(?) for any one.
      - A domain goes with the first pattern that it matches; one that matches none goes with the first of all.
    type: list
    elements: str
    default: []
  patience:
    description:
      - Seconds that the play may leave this host without a word while no guest stands still.
    type: float
    default: 600
  force:
    description:
      - With V(stop), stop domains that run.
    type: bool
    default: false
  timeout:
    description:
      - Seconds for V(prepare), and for V(stop) to wait for other runs.
    type: int
    default: 3600
seealso:
  - module: disksnap.libvirt.disk_snapshot
"""

EXAMPLES = r"""
- name: Get everything ready, on all hosts of the play
  disksnap.libvirt.snapshot_step:
    step: prepare
    snapshot_name: nightly
    group: 2026-03-01-nightly
    domains:
      - name: app1
      - name: db1
    order: [app*, db*]
  register: prepared
"""

RETURN = r"""
state:
  description:
    - V(prepared) where a process waits for the next word.
    - V(committed) where the snapshot is taken, and not yet said to be taken everywhere.
    - V(present) where it is there, V(absent) where it is not.
    - V(nothing) where no domain is selected.
    - V(left) where an interrupted run has left a snapshot that an array may have, and that only the play can remove.
  returned: when O(step) is V(prepare), V(finish) or V(abandon)
  type: str
  sample: prepared
group:
  description: The group of the snapshot that is there.
  returned: when RV(state) is V(committed), V(present) or V(left)
  type: str
names:
  description: The domains that the snapshot is of, by name.
  returned: when O(step) is not V(abandon)
  type: list
  elements: str
volumes:
  description:
    - The volumes that tasks of the play are to have an array take (V(prepare)), or of which one may have the snapshot.
    - The word C(commit) must bring their identities with it, as C(commit {"identities":{KEY:IDENTITY}}). Of an
      identity, C(path) or C(xml), which is a C(<source>), and C(format) make the backup source.
  returned: when O(step) is V(volumes), V(removing) or V(stop), or RV(state) is V(prepared) and there is a process
  type: list
  elements: dict
  contains:
    key:
      description: What tells the disk from all others of the play.
      type: str
    domain:
      description: Name of the domain.
      type: str
    target:
      description: Target name of the disk.
      type: str
    snapshot_group:
      description: The group of the snapshot.
      type: str
    volume:
      description: What identifies the volume, as the task that took the snapshot said.
      type: dict
    method_xml:
      description: The same as a C(<diskSnapshot>) element.
      type: str
    identity:
      description: What the tasks returned when the snapshot was taken; null if that has not come to pass.
      type: dict
command:
  description:
    - The shell command that brings the process a word; append the word. It prints a line of JSON, in which C(failed)
      says whether the step went wrong and C(msg) why, and C(next) is the word that is waited for.
    - The answer to the last step before C(finish), and that to C(finish), have the keys that this module returns.
  returned: when RV(state) is V(prepared), and not in check mode
  type: str
domains:
  description: What is known of the snapshot on each domain, as M(disksnap.libvirt.disk_snapshot) returns it.
  returned: when RV(state) is V(committed) or V(present), and with V(stop)
  type: list
  elements: dict
"""

from ansible_collections.disksnap.libvirt.plugins.module_utils._snapshot_step import run
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import (
    SNAPSHOT_RULES,
    DiskSnapModule,
    common_spec,
    run_module,
    snapshot_spec,
)


def main() -> None:
    module = DiskSnapModule(
        argument_spec={
            **common_spec(),
            **snapshot_spec(),
            'step': {
                'type': 'str',
                'choices': ['prepare', 'finish', 'abandon', 'volumes', 'removing', 'removed', 'stop', 'reverted'],
                'required': True,
            },
            'group': {'type': 'str'},
            'force': {'type': 'bool', 'default': False},
            'order': {'type': 'list', 'elements': 'str', 'default': []},
            'patience': {'type': 'float', 'default': 600},
            'timeout': {'type': 'int', 'default': 3600},
        },
        supports_check_mode=True,
        required_if=[('step', step, ['group']) for step in ('prepare', 'finish', 'abandon')],
        **SNAPSHOT_RULES,
    )
    run_module(module, run)


if __name__ == '__main__':
    main()
