#!/usr/bin/python
# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: disk_snapshot
short_description: Snapshot the disks of libvirt domains, each by the method that suits its storage
version_added: 1.0.0
author:
  - The disksnap.libvirt contributors (@disksnap)
description:
  - Takes a point in time of the disks of one domain, or of several as one group, goes back to it, and removes it again.
  - The guests' file systems are frozen once for all their disks, for as short as can be. A process outside this
    module thaws them if the module, its connection or the controller dies.
  - A snapshot is there for all the disks and domains of the task, or for none. What an interrupted run left is
    undone by the next one.
  - What was done is kept in the metadata of the domain. libvirt's own snapshot metadata is not used.
  - libvirt's own snapshots of the domain are left alone. What would spoil one of them is refused.
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
      - Everything is predicted but times.
  diff_mode:
    support: full
    details:
      - Shows the XML of each disk before and after.
options:
  snapshot_name:
    description:
      - Name of the snapshot, the same on all disks and domains of the task.
      - 1 to 64 of C(A-Z), C(a-z), C(0-9), C(_), C(.) and C(-), beginning with a letter or a digit.
      - A task with the name of a snapshot that is there over the same disks changes nothing and returns the same
        facts. Over other disks it is an error.
    type: str
    required: true
  state:
    description:
      - V(present) takes the snapshot.
      - V(absent) lets go of the point in time; the guest's data of now stays. For the method V(qemu) the overlay is
        merged into its backing file, as M(disksnap.libvirt.snapshot_merge) does with its defaults. For the others the
        copy is deleted.
      - V(reverted) goes back to the point in time. What was written since is lost. The snapshot is still there
        afterwards. The domain must be shut off, or O(force) be given. Each run goes back, so that the task is always
        changed.
    type: str
    choices:
      - present
      - absent
      - reverted
    default: present
  instant:
    description:
      - With O(domains), whether the snapshot is of one instant on all of them.
      - V(group) freezes all, then takes all; one that fails undoes all.
      - V(domain) takes one domain after the other, each frozen only for itself; one that fails leaves the others, and
        the task fails in the end.
    type: str
    choices:
      - group
      - domain
    default: group
  force:
    description:
      - For O(state=reverted) on a running domain, stop it, revert, and start it again. It is stopped as by pulling the
        plug.
    type: bool
    default: false
  timeout:
    description:
      - Seconds for the whole task, for O(state=absent) and O(state=reverted).
    type: int
    default: 3600
seealso:
  - module: disksnap.libvirt.snapshot_merge
  - module: disksnap.libvirt.storage_quiesce
"""

EXAMPLES = r"""
- name: Take a snapshot of all disks of a guest, its file systems frozen for the moment
  disksnap.libvirt.disk_snapshot:
    name: db1
    snapshot_name: nightly
    quiesce: required
  register: nightly

- name: Show what a backup can read now
  ansible.builtin.debug:
    msg: "{{ nightly.domains[0].disks | map(attribute='backup_source.path') | list }}"

- name: Take two guests as one group, of one of them a single disk
  disksnap.libvirt.disk_snapshot:
    snapshot_name: before-upgrade
    description: Before the upgrade of the shop
    domains:
      - name: db1
      - name: web1
        disks:
          - target: vda
            method: qemu

- name: Take each disk as it suits its storage
  disksnap.libvirt.disk_snapshot:
    name: db1
    snapshot_name: weekly
    disks:
      - target: vda
      - target: vdb
        method: lvm
        size: 10%ORIGIN
      - target: vdc
        method: reflink

- name: Go back to it; the guest is stopped and started
  disksnap.libvirt.disk_snapshot:
    name: db1
    snapshot_name: weekly
    state: reverted
    force: true

- name: Let the snapshot go; what the guest wrote since stays
  disksnap.libvirt.disk_snapshot:
    name: db1
    snapshot_name: nightly
    state: absent
"""

RETURN = r"""
space:
  description:
    - What the snapshots, or the merges that remove them, may come to need of each storage at most, in bytes.
    - Disks whose storage does not say are left out.
  returned: success, of O(state=present) and O(state=absent)
  type: list
  elements: dict
  contains:
    pool:
      description: The storage pool, or null.
      type: str
      sample: default
    path:
      description: Its directory; null for volume groups and thin pools.
      type: str
      sample: /var/lib/libvirt/images
    needed:
      description: What may be needed.
      type: int
      sample: 1073741824
    available:
      description: What was free before.
      type: int
      sample: 549755813888
    capacity:
      description: Of the storage.
      type: int
      sample: 1099511627776
domains:
  description: What is known of the snapshot on each domain, in the order of the task.
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
    snapshot_name:
      description: Name of the snapshot.
      type: str
      sample: nightly
    created_at:
      description: When it was taken, by the clock of the host that ran the module, in UTC.
      type: str
      sample: "2026-03-01T02:00:00.123Z"
    description:
      description: The text kept with it, or null.
      type: str
    consistency:
      description:
        - V(filesystem) if the guest was proved to be frozen until its last disk was taken, V(offline) if the domain was
          shut off, else V(crash).
      type: str
      sample: filesystem
    freeze:
      description: How the guest stood still; null if it was not frozen.
      type: dict
      contains:
        filesystems:
          description: How many file systems were frozen; 0 if something else had frozen the guest before the task.
          type: int
          sample: 3
        presynced:
          description: Whether the guest wrote its dirty pages before.
          type: bool
        frozen_at:
          description:
            - When the freeze was asked for, by the clock of the host that ran the module, in UTC.
            - Null in check mode, and if the task did not freeze it.
          type: str
          sample: "2026-03-01T02:00:00.456Z"
        window_ms:
          description:
            - Milliseconds from the moment that the freeze was asked for until the thaw was confirmed.
            - Null in check mode, and if the task did not freeze or thaw it.
          type: float
          sample: 48.3
        thawed_by:
          description: V(module), V(watchdog) or V(guest); null if the guest was left frozen, as it was found.
          type: str
          sample: module
    disks:
      description: The disks of the snapshot.
      type: list
      elements: dict
      contains:
        target:
          description: Target name.
          type: str
          sample: vda
        method:
          description: The method that was taken.
          type: str
          sample: qemu
        reason:
          description: Why this method, as it was named by the task or found by V(auto).
          type: str
          sample: "auto: its image is a qcow2 file"
        method_xml:
          description: The same as a C(<diskSnapshot>) element, with all that was made out.
          type: str
          sample: <diskSnapshot method="qemu"><target pool="images" file="db1-vda.nightly.qcow2"/></diskSnapshot>
        modified_disk:
          description: The C(<disk>) as the domain uses it since; null if it still uses the original.
          type: str
        backup_source:
          description: A read-only view of the disk at the point in time. Do not write to it.
          type: dict
          contains:
            xml:
              description: Its C(<source>) element.
              type: str
              sample: <source file="/var/lib/libvirt/images/db1.qcow2"/>
            type:
              description: V(file), V(block), V(volume) or V(network).
              type: str
              sample: file
            path:
              description: Its path; null for a network source.
              type: str
              sample: /var/lib/libvirt/images/db1.qcow2
            format:
              description: Its format.
              type: str
              sample: qcow2
            pool:
              description: The storage pool that holds it; null if none does.
              type: str
              sample: images
            volume:
              description: Its name in that pool, or null.
              type: str
              sample: db1.qcow2
        volumes:
          description: The storage volumes that were made.
          type: list
          elements: dict
          contains:
            path:
              description: Path.
              type: str
              sample: /var/lib/libvirt/images/db1-vda.nightly.qcow2
            name:
              description: Name in its pool.
              type: str
              sample: db1-vda.nightly.qcow2
            format:
              description: Format.
              type: str
              sample: qcow2
            pool:
              description: The storage pool that holds it; null if a transient one was opened to make it.
              type: str
              sample: images
            capacity:
              description: Virtual size in bytes.
              type: int
              sample: 10737418240
"""

from ansible_collections.disksnap.libvirt.plugins.module_utils._disk_snapshot import run
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
            'state': {'type': 'str', 'choices': ['present', 'absent', 'reverted'], 'default': 'present'},
            'instant': {'type': 'str', 'choices': ['group', 'domain'], 'default': 'group'},
            'force': {'type': 'bool', 'default': False},
            'timeout': {'type': 'int', 'default': 3600},
        },
        supports_check_mode=True,
        **SNAPSHOT_RULES,
    )
    run_module(module, run)


if __name__ == '__main__':
    main()
