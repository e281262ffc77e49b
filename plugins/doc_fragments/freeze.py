# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of a freeze, and of the snapshot that is taken meanwhile."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  mountpoints:
    description:
      - Freeze only the file systems that the guest has mounted here. All, if left out.
      - One that the guest does not have counts as a freeze that failed.
    type: list
    elements: str
  max_frozen:
    description:
      - Seconds after which a guest is thawed, whatever happens to the play, the module or the connection.
    type: float
    default: 10
  agent_timeout:
    description:
      - Seconds that one command of the guest agent may take. libvirt counts whole seconds, so it is rounded up.
    type: float
    default: 5
  presync:
    description:
      - Have the guest write its dirty pages before it is frozen, so that the freeze has little left to write while all
        else waits.
      - Runs C(sync) in the guest by the agent's C(guest-exec). Where the agent does not allow that, as by RHEL's
        default, or the guest has no C(sync), the snapshot goes on without.
    type: bool
    default: true
"""

    SNAPSHOT = r"""
options:
  running:
    description:
      - All domains that run, handled as one group. Those that are paused or shut off are left out, but for those with a
        snapshot that an interrupted run left half taken, half removed or half gone back to.
      - Nothing is done where none runs.
      - Mutually exclusive with O(name), O(domains) and O(disks).
    type: dict
    suboptions:
      exclude:
        description:
          - Domains to leave out, by name. V(*) stands for any characters and V(?) for any one character.
        type: list
        elements: str
        default: []
      disks:
        description:
          - For domains of which not all disks are meant, the disks, as O(disks) takes them.
          - A dictionary, keyed by the domain's name. Keys that are not among the domains do nothing.
        type: dict
        default: {}
  method:
    description:
      - How to snapshot the disks that name no method of their own.
      - V(auto) takes V(qemu) for qcow2 and raw files, V(lvm) for volumes of a logical pool and for thin logical
        volumes, and guesses nothing else. The result and C(--diff) say what it took and why.
      - V(qemu) puts a qcow2 overlay over the disk; the image below stands still and is the backup source.
      - V(lvm) takes a snapshot volume of the logical volume that the disk is, or lies on (C(device) of the disk).
      - V(btrfs) takes a read-only snapshot of the subvolume that holds the image.
      - V(reflink) clones the image file, on btrfs or xfs.
    type: str
    choices:
      - auto
      - qemu
      - lvm
      - btrfs
      - reflink
    default: auto
  quiesce:
    description:
      - V(required) fails, with nothing changed, if the file systems of a running guest cannot be frozen, or did not
        stay frozen until the last of its disks was taken.
      - V(preferred) warns then and takes a crash-consistent snapshot.
      - V(none) does not try.
      - A domain that is shut off needs none of it.
    type: str
    choices:
      - required
      - preferred
      - none
    default: preferred
  description:
    description:
      - Free text that is kept with the snapshot.
    type: str
  min_free:
    description:
      - What must be left of each storage if all that the snapshot may come to need was used up, as V(20G) (powers of
        1024) or, of its capacity, V(10%). Else the task fails before anything is done.
      - With V(0) there is only a warning, one a storage, where what may be needed is more than what is free.
      - A snapshot may come to need what its disks take now, as all of that may be written anew; a classic LVM snapshot
        takes its copy-on-write space at once. To remove one by a merge needs what its overlays take.
    type: str
    default: '0'
"""
