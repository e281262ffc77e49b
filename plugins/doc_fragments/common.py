# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that every module has: the connection, the domains and their disks."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  uri:
    description:
      - The libvirt connection, as C(virsh --connect) takes it.
      - A password in it is left out of results and logs.
    type: str
    default: qemu:///system
  name:
    description:
      - One domain, by its name or UUID.
      - Mutually exclusive with O(domains).
    type: str
    aliases:
      - guest
      - domain
  disks:
    description:
      - The disks of the domain O(name) that the task is about.
      - Without it, all disks that can be snapshotted. CD-ROMs, floppies, read-only disks and empty drives are left out
        then; to name one of these here is an error. Disks with C(snapshot='no') in the domain's XML are left out, too.
      - Disks that no method can take (shareable, transient, pass-through, vhost-user) are left out with a warning.
      - Mutually exclusive with O(domains).
    type: list
    elements: dict
    suboptions: &disk
      target:
        description:
          - The disk, by its target name (C(vda)), its source path or its alias.
        type: str
        required: true
      method:
        description:
          - How to snapshot this disk. Without it, what the task says for all disks.
          - V(auto) takes the method by the disk's type and storage pool; the result says which one it took.
          - V(qemu) puts a qcow2 overlay over the disk.
          - V(lvm) takes an LVM snapshot of the logical volume below the disk.
          - V(btrfs) takes a read-only snapshot of the subvolume that the image is in.
          - V(reflink) clones the image within its file system.
          - V(array) has a storage array take the snapshot, by tasks of the play. Only the role
            P(disksnap.libvirt.fleet_snapshot#role) can do so, and M(disksnap.libvirt.snapshot_step).
        type: str
        choices:
          - auto
          - qemu
          - lvm
          - btrfs
          - reflink
          - array
      method_xml:
        description:
          - The same as the method and its options, as the text of a C(<diskSnapshot>) element, for example
            V(<diskSnapshot method='lvm'><device path='/dev/vg/lv4'/></diskSnapshot>).
          - Excludes the options that it stands for, which are C(method), C(device), C(pool), C(file),
            C(size) and C(volume).
        type: str
      device:
        description:
          - For V(lvm), the absolute path of the logical volume to snapshot, as V(/dev/vg/lv4), where that is not the
            disk itself. It may hold the file system, or the partition, that the image is in.
        type: str
      pool:
        description:
          - For V(qemu) and V(reflink), the storage pool in which the new file is made. Without it, the pool that holds
            the disk's present one.
        type: str
      file:
        description:
          - For V(qemu) and V(reflink), the name or the absolute path of the new file. Without it, a name made of those
            of the domain, the disk and the snapshot, beside the image.
          - For V(btrfs), the name or the absolute path of the snapshot of the subvolume. A mere name is taken beside
            the subvolume.
        type: str
      size:
        description:
          - For V(lvm), the space reserved for copy-on-write data, as a whole number with K, M, G, T or P (powers of
            1024) or with V(%ORIGIN), as V(2G) or V(20%ORIGIN). Thin volumes have none.
        type: str
      volume:
        description:
          - For V(array), what identifies the volume below the disk to its array, as a serial number or a name. The keys
            are the array's business, and that of the tasks that ask it; they get them as they stand here.
          - Volumes with an equal C(group) are handed to these tasks together.
        type: dict
  domains:
    description:
      - Several domains, handled as one group.
      - Mutually exclusive with O(name) and O(disks).
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - The domain, by its name or UUID.
        type: str
        required: true
      disks:
        description:
          - The disks of this domain that the task is about. Without it, all disks that can be snapshotted.
        type: list
        elements: dict
        suboptions: *disk
requirements:
  - libvirt-python on the managed host, as C(python3-libvirt) of the distribution
  - lxml on the managed host, as C(python3-lxml) of the distribution
  - Python >= 3.9 on the managed host
"""
