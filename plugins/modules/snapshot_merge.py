#!/usr/bin/python
# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: snapshot_merge
short_description: Merge layers of the backing chains of libvirt domains, while they run or shut off
version_added: 1.0.0
author:
  - The disksnap.libvirt contributors (@disksnap)
description:
  - Merges the layer that a snapshot put on a disk with the one below it, on all disks of one domain or several side
    by side, and deletes the files that nothing refers to any more.
  - Works on running and paused domains by block jobs of QEMU, and on shut-off domains by C(qemu-img) on the hypervisor.
  - A block job that an earlier run left, whether running, ready, or done but for its files, is taken over and brought
    to its end. The journal in the metadata of the domain tells how far that run came.
  - A job is told to pivot only when libvirt says that it is ready, and the chain is compared with the plan afterwards,
    before any file is deleted.
  - Disks are merged side by side. Only pulls of one running domain come one after the other, as QEMU 7.2 was seen to
    crash when two of them end at about the same time.
  - Refused where an image that would go holds an internal snapshot; with O(snapshot_name), also where one of libvirt's
    own snapshots goes back to it. With O(base) and O(top) the latter is a warning.
extends_documentation_fragment:
  - disksnap.libvirt.attributes
  - disksnap.libvirt.attributes.action_group
  - disksnap.libvirt.attributes.platform_linux
  - disksnap.libvirt.common
attributes:
  check_mode:
    support: full
    details:
      - Everything is predicted but times. The number of bytes is what the merged layers take on the storage.
  diff_mode:
    support: full
    details:
      - Shows the XML of each disk before and after.
options:
  snapshot_name:
    description:
      - Name of the snapshot to merge away, as M(disksnap.libvirt.disk_snapshot) took it.
      - The disks are those of the snapshot that have a layer (method V(qemu)), or those of them that O(disks) names.
      - The snapshot's point in time is lost with the first byte that a commit writes. A snapshot of which all disks are
        merged is forgotten.
      - A domain that has no such snapshot is left unchanged.
      - Mutually exclusive with O(base) and O(top).
    type: str
  base:
    description:
      - Lower end of what is merged, by path, or as libvirt numbers the layers of a running domain, as V(vda[1]).
      - With O(direction=commit) the layer that receives; without it, the backing file of O(top).
      - With O(direction=pull) the layer that stays as the backing file; without it, none stays.
      - If O(disks) does not name one disk, exactly one disk of the domain must have this layer.
    type: str
  top:
    description:
      - Upper end of what is merged, by path or as V(vda[1]). Without it, the active layer.
      - With O(direction=commit) this layer and all above O(base) go. With O(direction=pull) it receives what is below.
      - A top that is a layer of no disk counts as merged already.
    type: str
  state:
    description:
      - V(merged) merges, or finishes what an earlier run began.
      - V(aborted) ends the merges that run on the disks, whoever started them. The chain stays as it was before them.
    type: str
    choices:
      - merged
      - aborted
    default: merged
  direction:
    description:
      - V(commit) writes overlays into the layer below. It is refused if another domain, another image or another disk
        stands on one of the layers, as it would be spoilt. With O(base) or O(top) it is refused, too, while a domain of
        the host has an image that cannot be read, as nobody knows what that one stands on; with O(snapshot_name) that
        is a warning.
      - V(pull) copies what is below into the overlay, and spoils nothing for others. A running domain can pull only
        into its active layer.
    type: str
    choices:
      - commit
      - pull
    default: commit
  bandwidth:
    description:
      - Most bytes per second for each disk, as V(100M) or V(1.5G), in powers of 1024. V(0) is no limit.
      - It is lifted for the last moment before a pivot. It has no effect on a pull of a shut-off domain.
    type: str
    default: "0"
  min_free:
    description:
      - What must be left of each storage if all that the merge may come to need was used up, as V(20G) (powers of 1024)
        or, of its capacity, V(10%). Else the task fails before anything is done.
      - With V(0) there is only a warning, one a storage, where what may be needed is more than what is free.
      - A merge may need what the layers that go take on the storage.
    type: str
    default: '0'
  timeout:
    description:
      - Seconds for the whole task.
    type: int
    default: 3600
  on_timeout:
    description:
      - V(abort) ends the jobs that are not ready then, and fails; the chain stays as it was.
      - V(leave) lets them run on with a warning; the same task finishes them later. A shut-off domain has no job that
        could run on, so its merge is ended.
    type: str
    choices:
      - abort
      - leave
    default: abort
  wait:
    description:
      - V(false) returns once the jobs run. The same task, run later, finishes those that need it.
      - It has no effect on a shut-off domain.
    type: bool
    default: true
notes:
  - While it merges, a line a disk is shown every 10 seconds, as
    C(db1 vdb merging 43% 12.1/28.0 GiB 310 MiB/s 0:52 left). The variable C(disksnap_libvirt_progress) sets other
    seconds; 0 shows none. None is shown with O(wait=false), in check mode, with C(async), with C(no_log), and under a
    stdout callback that has C(json) in its name or is C(oneline), C(null), C(dense), C(junit) or C(tree).
  - For this the module runs in the background of the managed host, as with C(async). Where the play is broken off, it
    goes on to its end.
  - The method and the other suboptions of C(disks) have no meaning here, but for C(target).
seealso:
  - module: disksnap.libvirt.disk_snapshot
"""

EXAMPLES = r"""
- name: Merge a snapshot away while the guest runs
  disksnap.libvirt.snapshot_merge:
    name: db1
    snapshot_name: nightly
    bandwidth: 100M

- name: Start the merge of two domains, and finish it in another task
  disksnap.libvirt.snapshot_merge:
    domains:
      - name: app1
      - name: db1
    snapshot_name: nightly
    wait: false

- name: Finish it, however often it takes
  disksnap.libvirt.snapshot_merge:
    domains:
      - name: app1
      - name: db1
    snapshot_name: nightly
    timeout: 7200
    on_timeout: leave

- name: Merge a chain that something else made
  disksnap.libvirt.snapshot_merge:
    name: db1
    base: /var/lib/libvirt/images/db1.qcow2
    top: /var/lib/libvirt/images/db1.snap2

- name: Make a disk independent of a shared template
  disksnap.libvirt.snapshot_merge:
    name: web1
    top: /var/lib/libvirt/images/web1.qcow2
    direction: pull

- name: End whatever merge runs on one disk
  disksnap.libvirt.snapshot_merge:
    name: db1
    disks:
      - target: vdb
    state: aborted
"""

RETURN = r"""
space:
  description: What the merges may come to need of each storage, in bytes.
  returned: success, of O(state=merged)
  type: list
  elements: dict
  sample:
    - pool: default
      path: /var/lib/libvirt/images
      needed: 1073741824
      available: 549755813888
      capacity: 1099511627776
domains:
  description: What became of each domain, in the order of the task.
  returned: success, and failure once a merge had begun
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
    disks:
      description: The disks on which there was anything to merge.
      type: list
      elements: dict
      contains:
        target:
          description: Target name of the disk.
          type: str
          sample: vda
        direction:
          description: V(commit) or V(pull).
          type: str
          sample: commit
        bytes:
          description:
            - Bytes that the job worked through, or what the merged layers took on the storage where it was too quick to
              be seen.
          type: int
          sample: 1073741824
        seconds:
          description: How long it took.
          type: float
          sample: 12.345
        modified_disk:
          description: The XML of the disk that the domain uses now; null if that did not change.
          type: str
        chain_before:
          description: The layers of the disk before, from the active one down.
          type: list
          elements: str
          sample:
            - /var/lib/libvirt/images/db1-vda.nightly.qcow2
            - /var/lib/libvirt/images/db1.qcow2
        chain_after:
          description: The layers of the disk afterwards.
          type: list
          elements: str
          sample:
            - /var/lib/libvirt/images/db1.qcow2
        removed:
          description: Files that were deleted, as nothing refers to them any more.
          type: list
          elements: str
          sample:
            - /var/lib/libvirt/images/db1-vda.nightly.qcow2
        state:
          description: V(merged), V(running), V(aborted) or V(failed).
          type: str
          sample: merged
"""

from ansible_collections.disksnap.libvirt.plugins.module_utils._snapshot_merge import run
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import (
    COMMON_RULES,
    DiskSnapModule,
    common_spec,
    run_module,
)


def main() -> None:
    module = DiskSnapModule(
        argument_spec={
            **common_spec(),
            'snapshot_name': {'type': 'str'},
            'base': {'type': 'str'},
            'top': {'type': 'str'},
            'state': {'type': 'str', 'choices': ['merged', 'aborted'], 'default': 'merged'},
            'direction': {'type': 'str', 'choices': ['commit', 'pull'], 'default': 'commit'},
            'bandwidth': {'type': 'str', 'default': '0'},
            'min_free': {'type': 'str', 'default': '0'},
            'timeout': {'type': 'int', 'default': 3600},
            'on_timeout': {'type': 'str', 'choices': ['abort', 'leave'], 'default': 'abort'},
            'wait': {'type': 'bool', 'default': True},
        },
        mutually_exclusive=[
            *COMMON_RULES['mutually_exclusive'],
            ('snapshot_name', 'base'),
            ('snapshot_name', 'top'),
        ],
        required_one_of=COMMON_RULES['required_one_of'],
        required_if=[('state', 'merged', ('snapshot_name', 'base', 'top'), True)],
        supports_check_mode=True,
    )
    run_module(module, run)


if __name__ == '__main__':
    main()
