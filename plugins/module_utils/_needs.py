# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands in the way of the removal of a snapshot, as far as an audit of the host can tell."""

from __future__ import annotations

import bisect
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _foreign
from ansible_collections.disksnap.libvirt.plugins.module_utils._audit import Findings
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.registry import method_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    DiskRecord,
    SnapshotRecord,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._survey import DomainView, Layer

_BY_PLAY = (
    'A storage array has the snapshot of disk {}: only the role fleet_snapshot removes it, with the tasks for it.'
)


class Needs:
    """Who needs what, on one host.

    Args:
        findings: of the whole host.
        users: names of the domains whose chains have an image, by its canonical path.
        above: paths of the images that stand on one, by its canonical path.
    """

    def __init__(self, findings: Findings, users: t.Mapping[str, set[str]], above: t.Mapping[str, set[str]]) -> None:
        self._findings = findings
        self._local = findings.survey.host.local
        self._storage = findings.survey.storage
        self._users = users
        self._above = above
        self._known = sorted({*users, *above})

    def of(self, view: DomainView, record: SnapshotRecord) -> list[str]:
        """A sentence each."""
        found = []
        if view.uuid in self._findings.at_work:
            found.append('Another run is at work on the domain.')
        for one in record.disks:
            job = view.jobs.get(one.target)
            if job is not None and one.target not in view.journal.merges:
                found.append(f'A block job ({job.kind}) runs on disk {one.target}.')
            method = method_of(one.method)
            if method.by_play:
                found += [] if one.gone else [_BY_PLAY.format(one.target)]
            elif method.copies:
                found += self._on_copy(one)
            else:
                found += self._on_overlay(view, one)
                found += self._of_others(view, one.volumes[0].path)
        return list(dict.fromkeys(found))

    def _on_copy(self, one: DiskRecord) -> t.Iterator[str]:
        """Who stands on what would be deleted, a subvolume with all that is in it."""
        for volume in one.volumes:
            top = self._storage.canonical(volume.path)
            for key in self._at_or_below(top):
                shown = volume.path + key[len(top) :]
                for name in sorted(self._users.get(key, ())):
                    yield f'The domain {name} uses {shown}.'
                for image in sorted(self._above.get(key, ())):
                    if not self._storage.canonical(image).startswith(f'{top}/'):
                        yield f'{image} stands on {shown}.'

    def _at_or_below(self, top: str) -> t.Iterator[str]:
        yield top
        for key in self._known[bisect.bisect_left(self._known, f'{top}/') :]:
            if not key.startswith(f'{top}/'):
                return
            yield key

    def _on_overlay(self, view: DomainView, one: DiskRecord) -> t.Iterator[str]:
        """Who else stands on an overlay, or on the image that it would be merged into."""
        chain = [self._storage.canonical(layer.path) for layer in _layers(view, one) if layer.path]
        base = one.backup_source.path
        for path in [volume.path for volume in one.volumes] + ([base] if base else []):
            key = self._storage.canonical(path)
            for name in sorted(self._users.get(key, set()) - {view.name}):
                yield f'The domain {name} uses {path}.'
            for image in sorted(self._above.get(key, ())):
                if self._storage.canonical(image) not in chain and key in chain:
                    yield f'{image} stands on {path}.'

    def _of_others(self, view: DomainView, overlay: str) -> t.Iterator[str]:
        """libvirt's own snapshots that go back to an overlay, and others that lie within it."""
        named = set()
        for foreign in view.foreign:
            if self._storage.canonical(overlay) in {self._storage.canonical(key) for key in foreign.sources}:
                named.add(foreign.name)
                yield f"libvirt's own snapshot {foreign.name} goes back to {overlay}."
        for name in _foreign.within(overlay, local=self._local):
            if name not in named:
                yield f'The internal snapshot {name} lies within {overlay}.'


def _layers(view: DomainView, one: DiskRecord) -> list[Layer]:
    return [layer for disk in view.disks if disk.target == one.target for layer in disk.layers]
