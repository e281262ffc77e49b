# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Snapshots that others took of a domain, as virsh does, and the images that they need to stay as they are."""

from __future__ import annotations

import contextlib
import typing as t
from dataclasses import dataclass

from ansible_collections.disksnap.libvirt.plugins.module_utils import _images
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Source
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import parse


@dataclass(frozen=True)
class Saved:
    """A snapshot with libvirt's metadata: ``images`` are the paths that the definition saved with it names."""

    name: str
    images: frozenset[str]


def saved(handle: t.Any) -> list[Saved]:
    """All snapshots of a domain that libvirt knows.

    Raises:
        DiskSnapError: if it does not list them.
    """
    found = []
    with explained('Failed to list the snapshots of the domain', domain=handle.name()):
        for snapshot in handle.listAllSnapshots(0):
            with contextlib.suppress(libvirt.libvirtError):  # it went away since it was listed
                found.append(read(snapshot.getXMLDesc(0)))
    return found


def read(text: str) -> Saved:
    """Read what virDomainSnapshotGetXMLDesc returns.

    It has the definition of the moment, with all layers of a live domain, and that of the next start where it differs.
    """
    root = parse(text, 'the XML of a snapshot')
    images = set()
    for definition in ('domain', 'inactiveDomain'):
        for source in root.iterfind(f'./{definition}/devices/disk//source'):
            images.add(source.get('file') or source.get('dev') or '')
    return Saved(root.findtext('name', ''), frozenset(images - {''}))


def held_in(layer: Source, *, local: bool) -> list[str]:
    """Names of the snapshots within an image; none where it cannot be read from here.

    Only whoever uses an image as qcow2 can have taken any: in one that is used as raw, a guest wrote whatever is there.
    """
    if not local or layer.format != 'qcow2' or not layer.path:
        return []
    with contextlib.suppress(OSError):
        return _images.internal_snapshots(layer.path)
    return []
