# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Room on the storage: what a task may come to need of it, what is there, and what must be left.

A snapshot costs at most what its disks take now: what the guest writes anew, it would have taken without it.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.disksnap.libvirt.plugins.module_utils import _chain, _mounts
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._lvm_rules import words
from ansible_collections.disksnap.libvirt.plugins.module_utils._paths import is_device
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk

_UNITS = {'': 0, 'K': 10, 'M': 20, 'G': 30, 'T': 40, 'P': 50}
_AMOUNT = re.compile(r'([0-9]{1,15})(?:([KMGTP])(?:iB|B)?)?', re.IGNORECASE)
_SHARE = re.compile(r'([0-9]{1,2}(?:\.[0-9]+)?|100)\s*%')
_BLOCK = 512


@dataclass(frozen=True)
class Floor:
    """What must be left of a storage: bytes, and a share of its capacity from 0 to 1."""

    amount: int = 0
    share: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Floor:
        """Read ``20G`` (powers of 1024) or ``10%``.

        Raises:
            DiskSnapError: if it is neither.
        """
        share, amount = _SHARE.fullmatch(text.strip()), _AMOUNT.fullmatch(text.strip())
        if share:
            return cls(share=float(share.group(1)) / 100)
        if amount:
            return cls(amount=int(amount.group(1)) << _UNITS[(amount.group(2) or '').upper()])
        raise DiskSnapError(
            'Failed to read the option min_free',
            why=f'{text!r:.60} is neither an amount of bytes nor a share',
            hint='Write it as 20G (powers of 1024) or 10%, or 0 for none.',
        )

    def of(self, capacity: int) -> int:
        """Bytes that must be left of a storage of this capacity."""
        return max(self.amount, int(self.share * capacity))


@dataclass(frozen=True)
class Storage:
    """Where room is needed. ``key`` is equal for all that share their free bytes; ``name`` is for messages."""

    key: str
    name: str
    available: int
    capacity: int
    pool: str | None = None
    path: str | None = None


@dataclass(frozen=True)
class Need:
    """Bytes that a step may come to need of a storage."""

    storage: Storage
    needed: int


@dataclass
class Budget:
    """What the disks of one task may come to need together, storage by storage."""

    floor: Floor = field(default_factory=Floor)
    _storages: dict[str, Storage] = field(default_factory=dict)
    _needed: dict[str, int] = field(default_factory=dict)
    _warned: set[str] = field(default_factory=set)

    def add(self, needs: t.Iterable[Need], what: str, *, domain: str | None = None) -> list[str]:
        """Take these needs in; a warning for each storage that may not do, once.

        Args:
            needs: of disks that go together.
            what: fails if less than the floor would be left, for the error.
            domain: whose they are, if they are of one.

        Raises:
            DiskSnapError: if less would be left; they are not taken in then.
        """
        grown = dict(self._needed)
        for need in needs:
            storage = self._storages.setdefault(need.storage.key, need.storage)  # what was there at first
            grown[storage.key] = grown.get(storage.key, 0) + need.needed
        warnings = []
        for key, needed in grown.items():
            storage = self._storages[key]
            floor = self.floor.of(storage.capacity)
            if floor and storage.available - needed < floor:
                raise DiskSnapError(
                    what,
                    domain=domain,
                    why=f'it may need {words(needed)} on {storage.name}, where {words(storage.available)} are free, '
                    f'and min_free wants {words(floor)} left',
                    hint='Nothing was changed. Make room there, or lower min_free.',
                )
            if needed > storage.available and key not in self._warned:
                self._warned.add(key)
                warnings.append(
                    f'{storage.name} has {words(storage.available)} free, and what is begun now may come to need '
                    f'{words(needed)} there.'
                )
        self._needed = grown
        return warnings

    def told(self) -> list[dict[str, t.Any]]:
        """What the module returns as ``space``."""
        return [
            {
                'pool': storage.pool,
                'path': storage.path,
                'needed': self._needed.get(key, 0),
                'available': storage.available,
                'capacity': storage.capacity,
            }
            for key, storage in self._storages.items()
        ]


# -- files ----------------------------------------------------------------------------------------------------------


def of_directory(domain: Domain, directory: str, pool: str | None) -> Storage | None:
    """The storage of the files in a directory; None where that cannot be told.

    Args:
        pool: name of the lasting pool that has it, or None.
    """
    name = f'The storage pool {pool} at {directory}' if pool else directory
    try:
        if domain.host.local:
            found = os.statvfs(directory)
            free, size = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
            return Storage(_file_system(directory), name, free, size, pool, directory)
        opened, info = domain.host.pools.at(directory)
        del opened
        return Storage(directory, name, domain.host.pools.available(directory), info.capacity, pool, directory)
    except (OSError, DiskSnapError):
        return None


def _file_system(directory: str) -> str:
    """What is equal for all directories of one file system. Each subvolume of a btrfs has a device number of its own.

    Raises:
        OSError: if the directory cannot be looked at.
    """
    with contextlib.suppress(OSError, DiskSnapError):  # the machine does not say
        if _mounts.mount_of(directory).type == 'btrfs':
            return f'btrfs {_mounts.btrfs_id(directory).hex()}'
    return f'device {os.stat(directory).st_dev}'


def taken(disk: Disk, domain: Domain, *, whole: bool = True) -> int | None:
    """Bytes that the layers of a disk take on their storage, or (not ``whole``) the active one; None if unknown."""
    pools = domain.host.pools
    chain = _chain.seen(disk, pools, domain.name)[0].chain if whole else disk.chain[:1]
    total = 0
    for layer in chain:
        try:
            path = _chain.local_path(layer, pools)
            size = _size(path, domain) if path else None
        except (OSError, DiskSnapError):
            size = None
        if size is None:
            return None
        total += size
    return total


def _size(path: str, domain: Domain) -> int | None:
    if is_device(path):
        return None
    if domain.host.local:
        return os.stat(path).st_blocks * _BLOCK
    volume = domain.host.pools.volume(path)
    return volume.allocation if volume else None


def beside(domain: Domain, path: str, needed: int, pool: str | None) -> list[Need]:
    """The need of a file that grows, as a list of one, or of none where the storage cannot be told."""
    storage = of_directory(domain, posixpath.dirname(path), pool)
    return [Need(storage, needed)] if storage is not None else []
