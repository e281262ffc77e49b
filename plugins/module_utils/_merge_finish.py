# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""After a merge: delete the files that nothing uses any more, and have the journal say what is true now."""

from __future__ import annotations

import os
import posixpath
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _chain, _journal, _stamp
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Host
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_model import MERGED
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_work import Work
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_xml import update_snapshots
from ansible_collections.disksnap.libvirt.plugins.module_utils._pool import Pools
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import Volume
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Source


def removable(
    paths: t.Sequence[str], users: _chain.Users, pools: Pools, *, own: bool = False
) -> tuple[list[str], dict[str, list[str]]]:
    """Which files nothing uses, and who uses the others.

    Args:
        paths: from top to bottom of the chain: one that goes no longer counts as a user of the one below.
        users: read after the merge.
        pools: for one spelling of paths.
        own: they are this collection's own layers, which nobody else can have come to know.

    Returns:
        The files that can go, and those that stay with their users; a file without a name of a user stays since there
        are domains of which it is not known what they use.
    """
    free: list[str] = []
    kept: dict[str, list[str]] = {}
    for path in paths:
        going = {pools.canonical(one) for one in free}
        images = [image for image in users.images_on(path) if pools.canonical(image) not in going]
        who = sorted(users.domains_on(path)) + sorted(images)
        if who:
            kept[path] = who
        elif users.unknown and not own:
            kept[path] = []
        else:
            free.append(path)
    return free, kept


def clean_up(host: Host, works: t.Sequence[Work]) -> None:
    """End merges whose chains are as planned.

    Users and volumes are read anew: what was true before the jobs began may not be any more.
    """
    with Pools(host.connection, host.uri) as pools:
        try:
            files = {id(work): [path for path in _files(work) if pools.volume(path) is not None] for work in works}
            users = _chain.Users(host.connection, pools)
        except DiskSnapError as error:
            for work in works:
                work.fail(error)
            return
        for work in works:
            try:
                _delete(work, files[id(work)], users, pools)
                _settle_journal(work, pools)
                work.end(MERGED)
            except DiskSnapError as error:
                work.fail(error)


def _files(work: Work) -> list[str]:
    return list(dict.fromkeys([*work.merge.files, *work.merge.leftovers]))


def _delete(work: Work, paths: t.Sequence[str], users: _chain.Users, pools: Pools) -> None:
    free, kept = removable(paths, users, pools, own=work.options.own)
    place = f'Domain {work.domain.name}, disk {work.merge.target}'
    for path, who in kept.items():
        why = f'it is still used by {", ".join(who)}' if who else _perhaps_used(users)
        work.warnings.append(f'{place}: {path} is not deleted, as {why}.')
    for path in _files(work):
        if path not in paths and work.domain.host.local and os.path.lexists(path):
            work.warnings.append(f'{place}: {path} is no longer used, and not deleted, as no storage pool can see it.')
    for path in free:
        try:
            if pools.delete(path):
                work.removed.append(path)
        except (DiskSnapError, libvirt.libvirtError) as error:
            work.warnings.append(f'{place}: {path} is no longer used, but could not be deleted: {error}')


def _perhaps_used(users: _chain.Users) -> str:
    each = '; '.join(f'{name} ({why})' for name, why in sorted(users.unknown.items()))
    return f'it is not known whether one of these domains uses it: {each}'


def _settle_journal(work: Work, pools: Pools) -> None:
    effect = work.merge.effect
    journal = _journal.load(work.domain.handle)
    pool = pools.pool_name_of(effect.heir.path) if effect.heir.path else None
    update_snapshots(journal, effect, _as_volume(effect.heir, pool, pools), pool)
    # what was merged into, and the layer above what went, whose header names another backing file now
    place = work.merge.chain_before.index(work.merge.layers[0]) if work.merge.layers else 0
    written = {effect.heir.path, *work.merge.chain_before[max(0, place - 1) : place]}
    for snapshot in journal.snapshots.values():
        for record in snapshot.disks:
            if record.target == work.merge.target and record.backup_source.path in written:
                _stamp.take(record, work.domain.host)
    journal.merges.pop(work.merge.target, None)
    _journal.store(work.domain.handle, journal)


def _as_volume(layer: Source, pool: str | None, pools: Pools) -> Volume:
    info = pools.volume(layer.path) if layer.path else None
    return Volume(
        path=layer.path or layer.key,
        name=posixpath.basename(layer.path) if layer.path else layer.key,
        format=layer.format or (info.format if info and info.format else 'raw'),
        pool=pool,
        capacity=info.capacity if info else 0,
    )
