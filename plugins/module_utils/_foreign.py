# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt's own snapshots (virsh snapshot-create-as), and those that a qcow2 image holds within itself.

An external one is an overlay, and a record that names the image below, to which it goes back. An internal one lies
within an image, and goes with it.
"""

from __future__ import annotations

import contextlib
import datetime
import typing as t
from dataclasses import dataclass

from ansible_collections.disksnap.libvirt.plugins.module_utils import _images
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import parse

INTERNAL, EXTERNAL = 'internal', 'external'


@dataclass(frozen=True)
class ForeignSnapshot:
    """A snapshot with libvirt's metadata; ``disks``: target, ``internal`` or ``external``, and the overlay if any.

    ``sources`` are the images that the domain had when it was taken, by path or as ``pool/volume``: libvirt needs them
    to go back to it, and to delete it.
    """

    name: str
    created_at: str | None
    description: str | None
    state: str
    disks: tuple[tuple[str, str, str | None], ...]
    sources: frozenset[str]


def snapshots_of(handle: t.Any) -> list[ForeignSnapshot]:
    """libvirt's own snapshots of a domain.

    Raises:
        DiskSnapError: if libvirt does not list them.
    """
    found = []
    with explained('Failed to list the snapshots of the domain', domain=handle.name()):
        for snapshot in handle.listAllSnapshots(0):
            with contextlib.suppress(libvirt.libvirtError):  # it went away since it was listed
                found.append(read(snapshot.getXMLDesc(0)))
    return found


def read(text: str) -> ForeignSnapshot:
    """Read what virDomainSnapshotGetXMLDesc returns."""
    root = parse(text, 'the XML of a snapshot')
    seconds = root.findtext('creationTime', '')
    moment = None
    if seconds.isdigit():
        moment = datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc).strftime('%Y-%m-%dT%H:%M:%S.000Z')
    disks = []
    for disk in root.findall('./disks/disk'):
        source = disk.find('source')
        overlay = source.get('file') or source.get('dev') if source is not None else None
        if disk.get('snapshot') in (INTERNAL, EXTERNAL):
            disks.append((disk.get('name', ''), disk.get('snapshot', ''), overlay))
    # of a domain that ran, the definition that it would have started with is there beside the live one
    sources = {
        _key(one) for kind in ('domain', 'inactiveDomain') for one in root.findall(f'./{kind}/devices/disk/source')
    }
    return ForeignSnapshot(
        root.findtext('name', ''),
        moment,
        root.findtext('description'),
        root.findtext('state', ''),
        tuple(disks),
        frozenset(key for key in sources if key),
    )


def _key(source: t.Any) -> str | None:
    if source.get('volume'):
        return f'{source.get("pool")}/{source.get("volume")}'
    return source.get('file') or source.get('dev')


def within(path: str | None, *, local: bool) -> list[str]:
    """Names of the snapshots that an image holds within itself, known to libvirt or not; none that cannot be read."""
    if path is None or not local:
        return []
    try:
        return _images.internal_snapshots(path)
    except OSError:
        return []
