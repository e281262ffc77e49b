# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ``<domainsnapshot>`` that virDomainSnapshotCreateXML takes for an external, disk-only snapshot."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import etree
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import child, to_text


@dataclasses.dataclass(frozen=True)
class ExternalDisk:
    """A disk that gets an overlay.

    Attributes:
        target: target name of the disk (``vda``).
        path: absolute path of the overlay; libvirt refuses a relative one.
        type: ``file``, or ``block`` where the overlay lives on a device (an LV).
        format: format of the overlay; the QEMU driver takes qcow2 and qed only
            (qemuSnapshotPrepare in libvirt's qemu_snapshot.c).
    """

    target: str
    path: str
    type: t.Literal['file', 'block'] = 'file'
    format: str = 'qcow2'


def external(name: str, description: str | None, disks: t.Sequence[ExternalDisk], omit: t.Sequence[str]) -> str:
    """Return ``<domainsnapshot>`` as text.

    There is no ``<memory>``: with VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY, which the caller must set, libvirt makes
    it ``no`` itself (qemuSnapshotCreateAlignDisks in libvirt's qemu_snapshot.c).

    Args:
        name: name of the snapshot; in libvirt's list only if VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA is not set.
        description: free text, or None.
        disks: the disks that get an overlay.
        omit: target names of **all** other disks of the domain, empty drives and CD-ROMs too: libvirt
            snapshots each disk that the document does not name (virDomainSnapshotAlignDisks).

    Raises:
        DiskSnapError: a value has characters that XML cannot hold.
    """
    root = etree.Element('domainsnapshot')
    child(root, 'name', name)
    if description is not None:
        child(root, 'description', description)
    listed = child(root, 'disks')
    for disk in disks:
        element = child(listed, 'disk', name=disk.target, snapshot='external', type=disk.type)
        child(element, 'driver', type=disk.format)
        child(element, 'source', **{'dev' if disk.type == 'block' else 'file': disk.path})
    for target in omit:
        child(listed, 'disk', name=target, snapshot='no')
    return to_text(root)
