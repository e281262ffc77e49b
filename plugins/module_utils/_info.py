# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What disk_snapshot_info returns of a domain, in the shapes of its RETURN documentation."""

from __future__ import annotations

import posixpath
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _foreign, _lvm_snapshots, _result
from ansible_collections.disksnap.libvirt.plugins.module_utils._audit import Findings
from ansible_collections.disksnap.libvirt.plugins.module_utils._audit_journal import fault_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._foreign import ForeignSnapshot
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._needs import Needs
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    DiskRecord,
    SnapshotRecord,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._survey import (
    DiskView,
    DomainView,
    Layer,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import left_out_reason, refusal_reason

OURS, LIBVIRT, OTHER = 'disksnap', 'libvirt', 'other'
# problems of an overlay that leave no point in time to go back to
_FAULTS = {
    'snapshot_lost': 'its overlay is gone, or stands on another image',
    'snapshot_unused': 'its overlay is not in the backing chain of the disk',
    'base_modified': 'the image below its overlay was written to since',
}


class Teller:
    """Turns findings into results.

    Args:
        findings: of the whole host: who else stands on an image is told from all of it.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._host = findings.survey.host
        self._storage = findings.survey.storage
        # canonical path -> names of the domains whose chains have it, and paths of the images that stand on it
        self._users: dict[str, set[str]] = {}
        self._above: dict[str, set[str]] = {}
        for view in findings.survey.domains:
            for disk in view.disks:
                for layer in disk.layers:
                    if layer.path:
                        self._users.setdefault(self._storage.canonical(layer.path), set()).add(view.name)
        for image in self._storage.all():
            if image.info.backing_path:
                below = posixpath.join(posixpath.dirname(image.path), image.info.backing_path)
                self._above.setdefault(self._storage.canonical(below), set()).add(image.path)
        self._needs = Needs(findings, self._users, self._above)

    def domain(self, view: DomainView, targets: t.Collection[str] | None) -> dict[str, t.Any]:
        """One of ``domains``.

        Args:
            view: of the domain.
            targets: of the disks that are meant; None is all.
        """
        disks = [disk for disk in view.disks if targets is None or disk.target in targets]
        meant = {disk.target for disk in disks}
        overlays = self._overlays(view)
        problems = self._findings.problems.get(view.uuid, [])
        return {
            'name': view.name,
            'uuid': view.uuid,
            'state': view.state,
            'agent': view.now.agent_connected if view.now.agent_channel else None,
            'frozen': self._findings.frozen.get(view.uuid),
            'snapshots': self._snapshots(view, targets, disks),
            'disks': [self._disk(view, disk, overlays) for disk in disks],
            'jobs': self._jobs(view, meant),
            'problems': [one.to_dict() for one in problems if targets is None or one.disk is None or one.disk in meant],
        }

    def pools(self) -> list[dict[str, t.Any]]:
        """The ``pools`` of the host: bytes."""
        return [
            {
                'name': pool.name,
                'type': pool.type,
                'path': pool.path,
                'capacity': pool.capacity,
                'available': pool.available,
            }
            for pool in self._storage.pools
        ]

    # -- disks ----------------------------------------------------------------------------------------------------

    def _overlays(self, view: DomainView) -> dict[str, tuple[str, str]]:
        """Who made which overlay of a domain, and for which snapshot: by canonical path."""
        found = {}
        for foreign in view.foreign:
            for _target, _kind, path in foreign.disks:
                if path:
                    found[self._storage.canonical(path)] = LIBVIRT, foreign.name
        for record in view.journal.snapshots.values():
            for one in record.disks:
                for volume in one.volumes if one.method == 'qemu' else ():
                    found[self._storage.canonical(volume.path)] = OURS, record.name
        return found

    def _disk(self, view: DomainView, disk: DiskView, overlays: dict[str, tuple[str, str]]) -> dict[str, t.Any]:
        top = disk.layers[0]
        return {
            'target': disk.target,
            'device': disk.disk.device,
            'type': top.source.type,
            'format': top.source.format,
            'path': top.path or top.source.key,
            'left_out': left_out_reason(disk.disk) or refusal_reason(disk.disk),
            'chain': [
                self._layer(view, layer, place + 1 < len(disk.layers), overlays)
                for place, layer in enumerate(disk.layers)
            ],
        }

    def _layer(
        self, view: DomainView, layer: Layer, stands: bool, overlays: dict[str, tuple[str, str]]
    ) -> dict[str, t.Any]:
        image = layer.image
        made_by, snapshot = overlays.get(
            self._storage.canonical(layer.path) if layer.path else '', (OTHER if stands else None, None)
        )
        capacity, allocation = view.block.get(layer.path or layer.source.key, (None, None))
        return {
            'path': layer.path or layer.source.key,
            'format': layer.source.format or (image.info.format if image else None),
            'capacity': image.info.capacity if image else capacity,
            'allocation': image.info.allocation if image else allocation,
            'pool': image.pool if image else layer.source.pool,
            'volume': image.info.name if image and image.pool else layer.source.volume,
            'made_by': made_by,
            'snapshot': snapshot,
        }

    def _jobs(self, view: DomainView, targets: t.Collection[str]) -> list[dict[str, t.Any]]:
        return [
            {
                'target': target,
                'kind': job.kind,
                'made_by': OURS if target in view.journal.merges else OTHER,
                'cur': job.cur,
                'end': job.end,
                'ready': job.ready,
            }
            for target, job in view.jobs.items()
            if target in targets
        ]

    # -- snapshots ------------------------------------------------------------------------------------------------

    def _snapshots(
        self, view: DomainView, targets: t.Collection[str] | None, disks: t.Sequence[DiskView]
    ) -> list[dict[str, t.Any]]:
        found = [
            self._ours(view, record)
            for record in view.journal.snapshots.values()
            if targets is None or any(one.target in targets for one in record.disks)
        ]
        found += [
            self._theirs(foreign)
            for foreign in view.foreign
            if targets is None or any(target in targets for target, _kind, _path in foreign.disks)
        ]
        named = {(target, foreign.name) for foreign in view.foreign for target, _kind, _path in foreign.disks}
        for name, holders in self._internal(disks, named).items():
            found.append(_entry(name, OTHER, [_disk_entry(target, 'internal') for target in holders]))
        return sorted(found, key=lambda one: (one['created_at'] or '', one['name']))

    def _internal(self, disks: t.Sequence[DiskView], named: set[tuple[str, str]]) -> dict[str, list[str]]:
        """Snapshots within qcow2 images of which libvirt knows nothing: name -> targets."""
        found: dict[str, list[str]] = {}
        for disk in disks if self._host.local else ():
            for layer in disk.layers:
                if layer.image is None or layer.image.info.format != 'qcow2' or not layer.path:
                    continue
                for name in _foreign.within(layer.path, local=True):
                    if (disk.target, name) not in named:
                        found.setdefault(name, []).append(disk.target)
        return found

    def _theirs(self, foreign: ForeignSnapshot) -> dict[str, t.Any]:
        disks = []
        for target, kind, path in foreign.disks:
            volumes = [] if path is None else [self._volume(path)]
            disks.append(_disk_entry(target, kind, volumes, self._taken([path]) if path else None))
        return _entry(foreign.name, LIBVIRT, disks, created_at=foreign.created_at, description=foreign.description)

    def _volume(self, path: str) -> dict[str, t.Any]:
        image = self._storage.find(path)
        return {
            'path': path,
            'name': posixpath.basename(path),
            'format': image.info.format if image else None,
            'pool': image.pool if image else None,
            'capacity': image.info.capacity if image else 0,
        }

    def _ours(self, view: DomainView, record: SnapshotRecord) -> dict[str, t.Any]:
        told = _result.snapshot(Domain(self._host, view.handle, view.name, view.uuid), record)
        shared: set[str] = set()
        for entry, one in zip(told['disks'], record.disks):
            # of disks on one LV the first has its snapshot; of those in one subvolume each has its own part
            again = one.method == 'lvm' and bool(one.volumes) and one.volumes[0].path in shared
            shared.update(volume.path for volume in one.volumes)
            entry['allocation'] = 0 if again else self._allocation(view, one)
            entry['fault'] = self._fault(view, record, one)
        sizes = [entry['allocation'] for entry in told['disks']]
        overlays = [entry['allocation'] or 0 for entry, one in zip(told['disks'], record.disks) if one.method == 'qemu']
        return {
            'name': record.name,
            'made_by': OURS,
            'state': record.state,
            'created_at': record.created_at,
            'group': record.group,
            'description': record.description,
            'consistency': record.consistency,
            'freeze': told['freeze'],
            'needed_by': self._needs.of(view, record),
            'allocation': None if None in sizes else sum(sizes),
            'merge_bytes': sum(overlays),
            'disks': told['disks'],
        }

    def _fault(self, view: DomainView, record: SnapshotRecord, one: DiskRecord) -> str | None:
        """Why the snapshot of one disk cannot be used, as a clause."""
        if one.method != 'qemu':
            return fault_of(view, one, self._host)
        for problem in self._findings.problems.get(view.uuid, ()):
            if (problem.snapshot, problem.disk) == (record.name, one.target) and problem.code in _FAULTS:
                return _FAULTS[problem.code]
        return None

    def _allocation(self, view: DomainView, one: DiskRecord) -> int | None:
        """Bytes that the volumes of one disk's snapshot take."""
        if one.method == 'lvm':
            try:
                lv = _lvm_snapshots.find(Domain(self._host, view.handle, view.name, view.uuid), one)
            except DiskSnapError:
                return None
            if lv is None:
                return 0
            return lv.size if lv.classic_snapshot else round(lv.size * (lv.data_percent or 0.0) / 100)
        if one.method == 'array':
            return None
        paths = [one.backup_source.path] if one.method == 'btrfs' else [volume.path for volume in one.volumes]
        return self._taken(paths)

    def _taken(self, paths: t.Iterable[str | None]) -> int | None:
        total = 0
        for path in paths:
            image = self._storage.find(path) if path else None
            if image is None and (path is None or not self._storage.missing(path)):
                return None
            total += image.info.allocation if image else 0
        return total


def _entry(name: str, made_by: str, disks: list[dict[str, t.Any]], **more: t.Any) -> dict[str, t.Any]:
    """A snapshot that is not ours, with what can be known of it."""
    sizes = [disk['allocation'] for disk in disks]
    return {
        'name': name,
        'made_by': made_by,
        'state': None,
        'created_at': None,
        'group': None,
        'description': None,
        'consistency': None,
        'freeze': None,
        'needed_by': [],
        'allocation': None if None in sizes else sum(sizes),
        'merge_bytes': None,
        'disks': disks,
        **more,
    }


def _disk_entry(
    target: str, method: str, volumes: list[dict[str, t.Any]] | None = None, allocation: int | None = None
) -> dict[str, t.Any]:
    return {
        'target': target,
        'method': method,
        'reason': '',
        'method_xml': None,
        'modified_disk': None,
        'backup_source': None,
        'volumes': volumes or [],
        'allocation': allocation,
        'fault': None,
    }
