# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The overlay file of a recorded snapshot: make it, and make it anew where the guest goes back to what is below.

libvirt verifies nothing of an image that it is told to reuse (measured with 9.0), so it is verified here.
"""

from __future__ import annotations

import posixpath
from urllib.parse import quote

from ansible_collections.disksnap.libvirt.plugins.module_utils import _chain, _journal, _records
from ansible_collections.disksnap.libvirt.plugins.module_utils._command import run
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import DiskRecord
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk, Source
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.volume import VolumeInfo

_REBASE_TIMEOUT = 60.0
WHAT_REVERT = 'Failed to revert the disk'


def create(domain: Domain, record: DiskRecord, *, like: VolumeInfo | None = None) -> None:
    """Make the empty overlay that the record speaks of, over its backup source.

    Args:
        domain: whose disk it is.
        record: of which ``volumes`` is emptied if a file of that name is there already: it is not ours to delete.
        like: the volume whose owner, group and mode it gets; None for the image below.

    Raises:
        DiskSnapError: if the storage refuses, or the file did not come out as it was asked for.
    """
    volume, base, pools = record.volumes[0], record.backup_source.path, domain.host.pools
    source = _records.original_disk(record).active
    with explained(f'Failed to create the overlay {volume.path}', domain=domain.name, disk=record.target):
        try:
            made = pools.create_overlay(
                volume.path,
                None if base else volume.capacity,
                backing_path=base,
                backing_format=(source.format or 'raw') if base else None,
                like=like or (pools.volume(base) if base else None),
            )
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_STORAGE_VOL_EXIST:
                record.volumes.clear()
            raise
    record.made = True
    if base is None:
        _name_network_base(domain, record, source)
    elif made.capacity != volume.capacity or made.backing_path != base:
        raise DiskSnapError(
            'Failed to create the overlay',
            domain=domain.name,
            disk=record.target,
            why=f'{volume.path} came out with {made.capacity} bytes over {made.backing_path}, '
            f'not {volume.capacity} over {base}',
        )


def _name_network_base(domain: Domain, record: DiskRecord, source: Source) -> None:
    """libvirt's pools look for a backing file in the file system, so qemu-img writes this one into the header."""
    path = record.volumes[0].path
    run(
        ['qemu-img', 'rebase', '-u', '-f', 'qcow2', '-F', source.format or 'raw', '-b', _header_name(source), path],
        f'Failed to name the backing file in {path}',
        timeout=_REBASE_TIMEOUT,
        domain=domain.name,
        disk=record.target,
    )


def _header_name(source: Source) -> str:
    """What a qcow2 header names an NBD export: ``nbd://host:port/name`` or ``nbd+unix:///name?socket=PATH``."""
    host = source.hosts[0] if source.hosts else ''
    name = quote((source.name or '').lstrip('/'))
    if host.startswith('unix:'):
        return f'nbd+unix:///{name}?socket={quote(host[len("unix:") :])}'
    return f'nbd://{quote(host, safe="[]:")}/{name}'


# -- revert -----------------------------------------------------------------------------------------------------


def renew(domain: Domain, record: DiskRecord) -> None:
    """Put an empty overlay in the place of the one that the guest wrote to; of a domain that is shut off.

    The definition stays as it is. Where a run that died has deleted the old one already, only the new one is made.

    Raises:
        DiskSnapError: if the storage refuses; the same call can be made again.
    """
    path, pools = record.volumes[0].path, domain.host.pools
    like = pools.volume(path)
    with explained(f'Failed to delete the overlay {path}', domain=domain.name, disk=record.target):
        pools.delete(path)
    create(domain, record, like=like)


def refuse_renewal(domain: Domain, record: DiskRecord) -> None:
    """Look whether what was written above the backup source can be dropped.

    Raises:
        DiskSnapError: if the overlay is not there, or newer layers stand on it.
    """
    disk = domain.read().disk(record.target)
    if disk is None:
        raise DiskSnapError(WHAT_REVERT, domain=domain.name, disk=record.target, why='the domain has no such disk now')
    disk = _chain.whole(disk, domain.host.pools, domain.name)
    overlay = record.volumes[0].path
    place = disk.layer(overlay)
    if place is None:
        raise DiskSnapError(
            WHAT_REVERT,
            domain=domain.name,
            disk=record.target,
            why=f'its layer {overlay} is not in the backing chain any more',
            hint='Something else merged or reverted it. state: absent clears the entry.',
        )
    if place > 0:
        raise newer_layers(domain, disk, place)
    users = _chain.Users(domain.host.connection, domain.host.pools)
    others = users.images_on(overlay) | (users.domains_on(overlay) - {domain.name})
    if others:
        raise DiskSnapError(
            WHAT_REVERT,
            domain=domain.name,
            disk=record.target,
            why=f'its overlay {overlay}, which would be emptied, is in use by {", ".join(sorted(others))}',
            hint='Remove what uses it first. Nothing was changed.',
        )


def below(domain: Domain, record: DiskRecord) -> str | None:
    """Path of the image that the overlay stands on now; None if it is not in the chain, or that has no path."""
    disk = domain.read().disk(record.target)
    if disk is None:
        return None
    disk = _chain.whole(disk, domain.host.pools, domain.name)
    place = disk.layer(record.volumes[0].path)
    if place is None or place + 1 >= len(disk.chain):
        return None
    return _chain.local_path(disk.chain[place + 1], domain.host.pools)


def newer_layers(domain: Domain, disk: Disk, count: int) -> DiskSnapError:
    """The error that names the layers above a snapshot, and the snapshots that they belong to."""
    owners = {
        volume.path: snapshot.name
        for snapshot in _journal.load(domain.handle).snapshots.values()
        for one in snapshot.disks
        for volume in one.volumes
    }
    layers = disk.chain[:count]
    names = [
        f'{layer.key} (snapshot {owners[layer.key]})' if layer.key in owners else posixpath.normpath(layer.key)
        for layer in layers
    ]
    known = list(dict.fromkeys(owners[layer.key] for layer in layers if layer.key in owners))
    hint = f'Remove {", ".join(known)} first with state: absent.' if known else 'Merge them first with snapshot_merge.'
    return DiskSnapError(
        WHAT_REVERT,
        domain=domain.name,
        disk=disk.target,
        why=f'layers newer than the snapshot are on it: {", ".join(names)}',
        hint=f'{hint} Nothing was changed.',
    )
