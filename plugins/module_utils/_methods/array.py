# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Method ``array``: the storage array snapshots the volume below the disk, and tasks of the play ask it to.

Nothing here talks to an array. This side keeps in the journal that the array may hold a snapshot, brings the guests to
a standstill while the tasks work, and takes what they return for the backup source. What only they can do, as to
remove what they made, is an error here for as long as it has not been done.
"""

from __future__ import annotations

import contextlib
import json
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _chain, _copies, _overlay, _place
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import etree
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.base import DiskMethod, DiskPlan, Subject
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.by_play import IDENTITY, ROLE, not_back
from ansible_collections.disksnap.libvirt.plugins.module_utils._paths import is_device
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    BackupSource,
    DiskRecord,
    original_disk,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.change import settled
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import Method, to_xml
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import parse, to_text

# of a source whose identity the array has not told yet
UNTOLD = BackupSource(xml='', type='', path=None, format=None)
_WHAT = 'Failed to take the snapshot'
# the attribute of <source> that says which of libvirt's types it is of
_TYPES = {'protocol': 'network', 'pool': 'volume', 'dev': 'block', 'file': 'file'}
_SAVED = 'its volume lacks what the guest still holds in memory'


class ArrayMethod(DiskMethod):
    """Snapshots of volumes that an array takes."""

    name = 'array'
    copies = True
    by_play = True

    def auto_reason(self, disk: Disk, domain: Domain) -> str | None:
        return None

    def refusal(self, disk: Disk, domain: Domain) -> str | None:
        return 'the drive is empty' if disk.source is None else None

    def plan(self, subject: Subject, disk: Disk, method: Method, reason: str) -> DiskPlan:
        _place.refuse_saved(subject.domain, disk, _WHAT, _SAVED, live=subject.live)
        record = DiskRecord(
            target=disk.target,
            method=self.name,
            method_xml=to_xml(method),
            original=settled(disk.xml),
            modified_disk=None,
            backup_source=UNTOLD,
            reason=reason,
            backing=_copies.backing_of(disk, subject.domain),
        )
        return DiskPlan(disk, method, record, still=disk.active.format == 'qcow2')

    def prepare(self, subject: Subject, plans: t.Sequence[DiskPlan]) -> None:
        """The array is asked by the play."""

    def commit(self, subject: Subject, plans: t.Sequence[DiskPlan]) -> None:
        for plan in plans:
            identity = plan.notes.get(IDENTITY)
            try:
                plan.record.backup_source = backup_source(identity, plan.disk.active.format)
            except (ValueError, DiskSnapError) as error:
                raise DiskSnapError(
                    _WHAT,
                    domain=subject.domain.name,
                    disk=plan.disk.target,
                    why=f'what the tasks for the array returned for its volume is of no use: {error}',
                    hint='They must set fleet_snapshot_array_result to a list, one entry for each volume.',
                ) from error
            plan.record.identity = json.dumps(identity)

    def finish(self, subject: Subject, plans: t.Sequence[DiskPlan]) -> None:
        """The tasks have said what is there."""

    def rollback(self, domain: Domain, records: t.Sequence[DiskRecord]) -> None:
        for record in records:
            if record.gone:
                continue
            raise DiskSnapError(
                'Failed to remove a snapshot that a storage array may have',
                domain=domain.name,
                disk=record.target,
                why='only tasks of a play can ask the array',
                hint=f'{ROLE} With fleet_snapshot_state=absent it removes it.',
            )

    def present(self, domain: Domain, record: DiskRecord) -> bool:
        return not record.gone

    def fault(self, domain: Domain, record: DiskRecord) -> str | None:
        if record.gone:
            return 'the array does not have it any more'
        return None if record.identity else 'the array has not told what it took'

    def refuse_revert(self, domain: Domain, record: DiskRecord) -> None:
        disk = domain.read().disk(record.target)
        why = None if disk is not None else 'the domain has no such disk now'
        if disk is not None:
            was = original_disk(record).active.key
            with contextlib.suppress(DiskSnapError):  # a layer that no pool knows: what can be seen must do
                disk = _chain.whole(disk, domain.host.pools, domain.name)
            place = next((place for place, layer in enumerate(disk.chain) if layer.key == was), None)
            if place:
                raise _overlay.newer_layers(domain, disk, place)
            if place is None:
                why = f'the disk now uses {disk.source.key if disk.source else "nothing"}, not {was}'
        if why is not None:
            raise DiskSnapError(
                _overlay.WHAT_REVERT, domain=domain.name, disk=record.target, why=why, hint='Nothing was changed.'
            )

    def revert(self, domain: Domain, records: t.Sequence[DiskRecord], *, deadline: float) -> None:
        for record in records:
            if not record.reverted:
                raise not_back(domain, record)


def backup_source(identity: t.Any, fmt: str | None) -> BackupSource:
    """What a backup reads, by what the tasks say: ``xml``, a ``<source>``, or ``path``; and ``format``.

    Args:
        identity: of one volume; other keys than these are the tasks' own.
        fmt: the format of the disk, which its snapshot has too.

    Raises:
        ValueError: if neither is there; the message says so.
        DiskSnapError: if ``xml`` cannot be read.
    """
    if not isinstance(identity, t.Mapping) or not (identity.get('xml') or identity.get('path')):
        raise ValueError(f'it is {json.dumps(identity)[:200]} and must be a dictionary with xml or path')
    fmt = str(identity.get('format') or fmt or 'raw')
    if not identity.get('xml'):
        path = str(identity['path'])
        kind = 'block' if is_device(path) else 'file'
        element = etree.Element('source', {'dev' if kind == 'block' else 'file': path})
        return BackupSource(xml=to_text(element), type=kind, path=path, format=fmt)
    element = parse(str(identity['xml']), 'the xml')
    kind = next((kind for name, kind in _TYPES.items() if element.get(name) is not None), '')
    if element.tag != 'source' or not kind:
        raise ValueError(f'its xml is no <source> of a disk: {to_text(element)[:200]}')
    return BackupSource(
        xml=to_text(element),
        type=kind,
        path=element.get('dev') or element.get('file'),
        format=fmt,
        pool=element.get('pool'),
        volume=element.get('volume'),
    )
