# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A pivot that was asked for and of which libvirt does not know whether it happened.

QEMU pivots in a moment, and libvirt writes that down some milliseconds later (qemuBlockJobEventProcessConcluded in its
qemu_blockjob.c). A libvirtd that dies in between takes the overlay for the disk from then on, with a ``<mirror>`` that
no job belongs to, while the guest writes to the base. At its next start the guest would find the overlay, which is
older. So QEMU itself is asked where the guest writes, or, where it has ended, the two images are compared.
"""

from __future__ import annotations

import json
import os
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _chain
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained, xml_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt_qemu
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_model import DiskMerge
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.change import domain_with_disk, with_active_layer
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk, read_domain

# seconds that libvirt has for the consequences of a job that is gone, until it is taken to have lost track
LOST_AFTER = 10.0
_QUERY = json.dumps({'execute': 'query-block'})


def written_file(domain: Domain, disk: Disk) -> str | None:
    """The image that QEMU has as a disk's uppermost; None if it does not tell.

    It is QEMU's own monitor that is asked, which marks the domain as tainted (custom-monitor).

    Raises:
        DiskSnapError: if libvirt fails.
    """
    with explained('Failed to ask QEMU for its disks', domain=domain.name, disk=disk.target):
        answer = libvirt_qemu.qemuMonitorCommand(domain.handle, _QUERY, 0)
    try:
        for device in json.loads(answer)['return']:
            if disk.alias and disk.alias in str(device.get('qdev', '')).split('/'):
                return t.cast('str | None', device['inserted']['image']['filename'])
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return None


def pivoted(domain: Domain, disk: Disk, merge: DiskMerge) -> bool | None:
    """Whether the guest writes to the base of an active commit; None if that cannot be told.

    Raises:
        DiskSnapError: if libvirt fails.
    """
    file, canonical = written_file(domain, disk), domain.host.pools.canonical
    if file is None:
        return None
    if merge.base is not None and merge.base.path and canonical(file) == canonical(merge.base.path):
        return True
    return False if canonical(file) == canonical(merge.top.path or '') else None


def correct_lasting(domain: Domain, merge: DiskMerge) -> bool:
    """Have the next start of a live domain find the base of an active commit, where it would find what was above it.

    libvirt saves the live definition first, and a libvirtd that dies then leaves the other one as it was.

    Returns:
        Whether that was so.

    Raises:
        DiskSnapError: if libvirt refuses.
    """
    if merge.base is None or not merge.active or not domain.handle.isPersistent():
        return False
    with explained('Failed to define the domain with its merged disk', domain=domain.name, disk=merge.target):
        before = xml_of(domain.handle, inactive=True, secure=True)
        disk = read_domain(before).disk(merge.target)
        if disk is None or disk.source is None:
            return False
        named = _chain.local_path(disk.source, domain.host.pools) or disk.source.key
        if named not in merge.layers:
            return False
        after = with_active_layer(disk, merge.base)
        domain.host.connection.defineXML(domain_with_disk(before, merge.target, after))
        return True


def lost(merge: DiskMerge, *, happened: bool | None) -> tuple[str, str]:
    """Why a merge cannot go on from here, and what to do."""
    overlay, base = merge.top.key, merge.receiver.key
    if happened:
        return (
            f'libvirtd was restarted in the moment of the pivot and lost track of it: the guest writes to {base}, and '
            f'libvirt takes {overlay} for its disk',
            'Nothing is lost, and its definition names the base now. Neither save nor migrate it: shut it off, start '
            'it, and run the task again.',
        )
    where = f'the guest writes to {overlay}' if happened is False else 'QEMU does not tell where the guest writes'
    return (
        f'libvirtd was restarted in the moment of the pivot and lost track of its job; {where}',
        f'Shut the domain off, and run the task again before it is started. {base} may be newer than {overlay}.'
        if happened is None
        else 'Nothing is lost. Shut the domain off, start it, and run the task again.',
    )


# -- shut off -------------------------------------------------------------------------------------------------------


def comparison(merge: DiskMerge) -> list[str] | None:
    """The qemu-img call that must find no difference before the overlay may be committed; None if it surely may.

    An overlay that was written to after its base is the newer one. After a pivot nothing writes to it any more.
    """
    overlay, base = merge.top.path or '', merge.receiver.path or ''
    try:
        if os.stat(overlay).st_mtime_ns > os.stat(base).st_mtime_ns:
            return None
    except OSError:  # a missing one is for qemu-img to say
        pass
    formats = ['-f', merge.top.format or 'qcow2', '-F', merge.receiver.format or 'raw']
    return ['compare', '-q', *formats, overlay, base]


def different(merge: DiskMerge) -> tuple[str, str]:
    """Why two images that differ are not merged, and what to do."""
    overlay, base = merge.top.key, merge.receiver.key
    return (
        f'an earlier run had asked for the pivot when the domain stopped, {base} was written to later than {overlay}, '
        'and they differ: which one the guest used last cannot be proved',
        f'Look at both. If it is {base}, have the definition of the domain name that and run the task again; if it is '
        f'{overlay}, run snapshot_merge with state: aborted, and then the task again.',
    )
