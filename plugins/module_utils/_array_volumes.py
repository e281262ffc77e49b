# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which volumes of storage arrays a snapshot is on, and who else is on them."""

from __future__ import annotations

import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _journal
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import all_domains
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain, Host
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.by_play import volume
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.registry import method_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    DiskRecord,
    SnapshotRecord,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import volume_of


def by_play(record: SnapshotRecord) -> list[DiskRecord]:
    """The disks of which a storage array has the snapshot, or may have it."""
    return [disk for disk in record.disks if method_of(disk.method).by_play and not disk.gone]


def volumes_of(pairs: t.Iterable[tuple[Domain, SnapshotRecord]]) -> list[dict[str, t.Any]]:
    """What the play is told of the volumes of which an array has these snapshots, or may have them."""
    return [volume(domain, disk, record.group) for domain, record in pairs for disk in by_play(record)]


def refuse_shared(host: Host, domains: t.Sequence[Domain], records: t.Sequence[SnapshotRecord]) -> None:
    """Refuse to leave out a domain of this host: an array knows whole volumes, and groups of them.

    Args:
        domains: those that are meant.
        records: of their snapshots.

    Raises:
        DiskSnapError: if another one has the same snapshot on the same volume or group.
    """
    ours = {domain.uuid for domain in domains}
    wanted = {(record.name, _of_array(disk)): (record, disk) for record in records for disk in by_play(record)}
    for handle in all_domains(host.connection) if wanted else ():
        if handle.UUIDString() in ours:
            continue
        for record in _journal.load(handle).snapshots.values():
            for disk in by_play(record):
                if (record.name, _of_array(disk)) in wanted:
                    raise DiskSnapError(
                        f'Failed to use the snapshot {record.name} that a storage array has',
                        disk=disk.target,
                        why=f'the domain {handle.name()} has it on the same volume or group, and was not named',
                        hint='Name it as well. Nothing was changed.',
                    )


def _of_array(disk: DiskRecord) -> str:
    """What an array does something to: the group that the volume is of, else the volume."""
    group = volume_of(disk.method_xml).get('group')
    return f'group {group}' if group else disk.method_xml
