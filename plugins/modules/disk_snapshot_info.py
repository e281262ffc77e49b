#!/usr/bin/python
# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: disk_snapshot_info
short_description: Show the snapshots, backing chains and jobs of libvirt guests, and what is wrong with them
version_added: 1.0.0
author:
  - The disksnap.libvirt contributors (@disksnap)
description:
  - Tells of one domain, of some, or of the whole host, what snapshots there are, whoever made them, on which storage,
    how old and how big, and what their removal would cost.
  - Holds the journals of the domains against the storage, in both directions, and names what does not fit.
  - Asks libvirt once or twice for each domain of the host, and reads the directories of the images itself. Only the
    disks of running domains that stand on an overlay are asked for one by one, whether a block job runs on them.
  - What a guest can have written at the start of a raw disk is not believed.
  - A domain on which another task of this collection is at work has no problems told, and a warning.
  - Fails where a domain that is named cannot be read. Where none is named, that is one of the C(problems) of the host.
extends_documentation_fragment:
  - disksnap.libvirt.attributes
  - disksnap.libvirt.attributes.action_group
  - disksnap.libvirt.attributes.info_module
  - disksnap.libvirt.attributes.platform_linux
  - disksnap.libvirt.common
notes:
  - Without O(name) and O(domains) it is about the whole host.
  - The suboptions of C(disks) but C(target) have no meaning here. Snapshots of which a disk is named are told whole.
  - Where the module does not run on the hypervisor itself, as with V(qemu+ssh://...), snapshots of the methods V(lvm)
    and V(btrfs) are told as the journal has them, and snapshots within qcow2 images that libvirt does not know are not
    seen.
  - Storage pools are refreshed, as C(virsh pool-refresh) does, only where the module cannot read the images itself, be
    it that it does not run on the hypervisor or that its user may not. Then it also asks libvirt for each volume.
seealso:
  - module: disksnap.libvirt.disk_snapshot
  - module: disksnap.libvirt.snapshot_merge
"""

EXAMPLES = r"""
- name: Look at the whole host
  disksnap.libvirt.disk_snapshot_info:
  register: host

- name: Show what is wrong there
  ansible.builtin.debug:
    msg: "{{ item.0.name }}: {{ item.1.message }} {{ item.1.remedy }}"
  loop: "{{ host.domains | subelements('problems') }}"
  loop_control:
    label: "{{ item.0.name }} {{ item.1.code }}"

- name: Look at two guests
  disksnap.libvirt.disk_snapshot_info:
    domains:
      - name: app1
      - name: db1
  register: guests

- name: Name their snapshots that are older than this month
  ansible.builtin.debug:
    msg: "{{ guests.domains | map(attribute='snapshots') | flatten | selectattr('created_at', 'lt', '2026-03') }}"
"""

RETURN = r"""
domains:
  description: Each domain, in the order of the task, or of their names.
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
      description: V(running), V(paused) or V(off).
      type: str
      sample: running
    agent:
      description: Whether the guest agent is connected; null if the domain has no channel for one.
      type: bool
    frozen:
      description: Whether the file systems of the guest are frozen; null if its agent does not say.
      type: bool
    snapshots:
      description: The snapshots of the domain, whoever made them, the oldest first.
      type: list
      elements: dict
      contains:
        name:
          description: Name of the snapshot.
          type: str
          sample: nightly
        made_by:
          description:
            - V(disksnap) for this collection, V(libvirt) for a snapshot that C(virsh snapshot-list) shows, V(other) for
              one within a qcow2 image of which libvirt does not know.
            - An overlay that something else made without telling libvirt is no snapshot with a name. It is seen in
              C(disks[].chain).
          type: str
          sample: disksnap
        state:
          description:
            - V(present), or what is being done, or was when a run was interrupted, which is V(preparing),
              V(committing), V(committed), V(removing) or V(reverting).
            - Null unless this collection made it.
          type: str
          sample: present
        created_at:
          description: When it was taken, in UTC, if that is known.
          type: str
          sample: "2026-03-01T02:00:00.123Z"
        group:
          description: Equal for all domains that were taken together.
          type: str
        description:
          description: What whoever took it said of it.
          type: str
        consistency:
          description: V(filesystem), V(crash) or V(offline); null unless this collection made it.
          type: str
          sample: filesystem
        freeze:
          description:
            - How the guest stood still, as RV(disksnap.libvirt.disk_snapshot#module:domains[].freeze), or null.
          type: dict
        needed_by:
          description: What stands in the way of its removal now, a sentence each.
          type: list
          elements: str
          sample: []
        allocation:
          description: Bytes that it takes on the storage, which is at most what comes back. Null if that is not known.
          type: int
          sample: 1073741824
        merge_bytes:
          description: Bytes that have to be copied to remove it. Null unless this collection made it.
          type: int
          sample: 1073741824
        disks:
          description:
            - The disks that it is of, as RV(disksnap.libvirt.disk_snapshot#module:domains[].disks), with C(allocation),
              the bytes that the snapshot of this disk takes, and C(fault), why it cannot be used, or null.
            - The C(method) of one that this collection did not make is V(internal) or V(external), and most of the rest
              is null.
          type: list
          elements: dict
    disks:
      description: The disks of the domain that have an image, CD-ROMs and floppies among them.
      type: list
      elements: dict
      contains:
        target:
          description: Target name of the disk.
          type: str
          sample: vda
        device:
          description: V(disk), V(cdrom), V(floppy) or V(lun).
          type: str
          sample: disk
        type:
          description: V(file), V(block), V(volume), V(network) or another type of libvirt's.
          type: str
          sample: file
        format:
          description: Format of the image.
          type: str
          sample: qcow2
        path:
          description: What the guest writes to.
          type: str
          sample: /var/lib/libvirt/images/db1-vda.nightly.qcow2
        left_out:
          description: Why a snapshot leaves it out where nobody names it; null if it takes part.
          type: str
        chain:
          description: Every layer, from the one that the guest writes to down.
          type: list
          elements: dict
          contains:
            path:
              description: The file or device, or what else names the storage.
              type: str
              sample: /var/lib/libvirt/images/db1-vda.nightly.qcow2
            format:
              description: Format of the image.
              type: str
              sample: qcow2
            capacity:
              description: Bytes that the guest sees, or null.
              type: int
              sample: 21474836480
            allocation:
              description: Bytes that it takes on the storage, or null.
              type: int
              sample: 1073741824
            pool:
              description: The storage pool that holds it, or null.
              type: str
              sample: default
            volume:
              description: Its name there, or null.
              type: str
              sample: db1-vda.nightly.qcow2
            made_by:
              description: Who put it over the layer below, as with C(snapshots). Null if nothing is below.
              type: str
              sample: disksnap
            snapshot:
              description: The snapshot that it was made for, if that is known.
              type: str
              sample: nightly
    jobs:
      description: The block jobs that run on its disks.
      type: list
      elements: dict
      contains:
        target:
          description: Target name of the disk.
          type: str
          sample: vda
        kind:
          description: V(commit), V(active-commit), V(pull), V(copy) or V(other).
          type: str
          sample: active-commit
        made_by:
          description: V(disksnap) or V(other).
          type: str
          sample: disksnap
        cur:
          description: Bytes done.
          type: int
          sample: 1073741824
        end:
          description: Bytes to do in all; it grows while the guest writes.
          type: int
          sample: 4294967296
        ready:
          description: Whether it is up with the guest, and waits for somebody to end it.
          type: bool
    problems:
      description: What is wrong, the worst first.
      type: list
      elements: dict
      contains:
        code:
          description:
            - What kind of problem it is. A code keeps its meaning.
            - Of a guest, V(frozen_guest), V(lost_domain), V(unreadable).
            - Of a chain, V(base_written), V(missing_image), V(missing_backing), V(broken_chain), V(image_format),
              V(backing_format), V(backing_differs), V(definitions_differ).
            - Of a snapshot, V(base_modified), V(snapshot_lost), V(snapshot_unused), V(snapshot_unusable),
              V(snapshot_filling).
            - Of what was begun, V(unfinished_snapshot), V(unfinished_revert), V(unfinished_removal),
              V(unfinished_merge), V(unfinished_job).
            - Of the journal, V(journal_damaged), V(journals_differ).
            - Of what nobody knows, V(orphaned_overlay), V(orphaned_copy).
          type: str
          sample: base_modified
        disk:
          description: Target name of the disk, or null.
          type: str
          sample: vda
        snapshot:
          description: The snapshot, or null.
          type: str
          sample: nightly
        path:
          description: The file or device, or null.
          type: str
          sample: /var/lib/libvirt/images/db1.qcow2
        message:
          description: What is wrong, in a sentence.
          type: str
        remedy:
          description: What to do.
          type: str
problems:
  description:
    - What is wrong and belongs to no domain, or to several, with the same keys.
    - Empty unless the whole host is looked at.
  returned: success
  type: list
  elements: dict
pools:
  description: The active storage pools of the host.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the pool.
      type: str
      sample: default
    type:
      description: Its type, as V(dir) or V(logical).
      type: str
      sample: dir
    path:
      description: Its directory, or null.
      type: str
      sample: /var/lib/libvirt/images
    capacity:
      description: Bytes.
      type: int
      sample: 1099511627776
    available:
      description: Bytes that are free.
      type: int
      sample: 549755813888
"""

from ansible_collections.disksnap.libvirt.plugins.module_utils._disk_snapshot_info import run
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import (
    COMMON_RULES,
    DiskSnapModule,
    common_spec,
    run_module,
)


def main() -> None:
    module = DiskSnapModule(
        argument_spec=common_spec(),
        mutually_exclusive=COMMON_RULES['mutually_exclusive'],
        supports_check_mode=True,
    )
    run_module(module, run)


if __name__ == '__main__':
    main()
