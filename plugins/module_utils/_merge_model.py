# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a merge is asked for, planned as, and ends as. Plain data; nothing here touches libvirt."""

from __future__ import annotations

import re
import typing as t
from dataclasses import asdict, dataclass, field

from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import MergeRecord
from ansible_collections.disksnap.libvirt.plugins.module_utils._space import Budget
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Source

COMMIT = 'commit'
PULL = 'pull'

# How a disk's merge ended; the contract's words.
MERGED = 'merged'
RUNNING = 'running'
ABORTED = 'aborted'
FAILED = 'failed'

# What there is to do on a disk.
START = 'start'  # no job yet: start one.
FOLLOW = 'follow'  # a job from an earlier run is there: take it over.
CLEAN = 'clean'  # an earlier run merged, and was killed before it deleted the files and wrote so.

# A MergeSpec.base of a pull that leaves no layer as backing.
NO_BASE = ''

_BANDWIDTH = re.compile(r'^(\d+(?:\.\d+)?)\s*(?:([KMGT])(?:iB|B)?|B)?$', re.IGNORECASE)
_UNITS = {'': 0, 'K': 10, 'M': 20, 'G': 30, 'T': 40}


def parse_bandwidth(text: str) -> int:
    """Bytes per second of ``100M``, ``1.5G``, ``512KiB``; 0 is no limit. Suffixes are powers of 1024.

    Raises:
        DiskSnapError: if it is none of that; it names the option.
    """
    found = _BANDWIDTH.match(text.strip())
    value = float(found.group(1)) * 2 ** _UNITS[(found.group(2) or '').upper()] if found else -1.0
    if not 0 <= value < 2**63 or 0 < value < 1:
        raise DiskSnapError(
            'Failed to read the option bandwidth', why=f'{text!r} is not an amount of bytes per second',
            hint='Write it as 100M or 1.5G (powers of 1024), or 0 for no limit.',
        )  # fmt: skip
    return int(value)


@dataclass(frozen=True)
class MergeOptions:
    """How to merge.

    Attributes:
        direction: ``commit`` or ``pull``.
        bandwidth: bytes per second and disk; 0 is no limit.
        timeout: seconds for all disks together.
        on_timeout: ``abort`` ends the jobs, ``leave`` lets them run on.
        wait: False returns once the jobs run.
        own: the layers are those that this collection put on. Then a domain of the host that cannot be followed, as an
            image of it is missing, is a warning; for any other merge it is a refusal.
        budget: what all disks of the task may come to need of their storage.
    """

    direction: str = COMMIT
    bandwidth: int = 0
    timeout: float = 3600.0
    on_timeout: str = 'abort'
    wait: bool = True
    own: bool = False
    budget: Budget = field(default_factory=Budget, compare=False)


@dataclass(frozen=True)
class MergeSpec:
    """One disk and the ends of what to merge on it.

    Attributes:
        target: ``vda``.
        top: the layer that is merged away (commit) or that takes in what is below it (pull): a path, or ``vda[1]``.
        base: commit: the layer that ``top`` and all between go into. pull: the layer that stays as the backing file
            of ``top``; ``NO_BASE`` leaves none. None: for commit ``top``'s backing file; for pull the backing file's
            own backing file, so that exactly one layer goes.
    """

    target: str
    top: str
    base: str | None = None


@dataclass
class MergeResult:
    """How the merge of one disk ended, or what check mode expects.

    ``error`` is the sentence of a failed or aborted one, ``changed`` whether this run did anything; neither is in
    ``to_dict``, which has the names that playbooks see.
    """

    target: str
    direction: str
    bytes: int
    seconds: float
    modified_disk: str | None
    chain_before: list[str]
    chain_after: list[str]
    removed: list[str]
    state: str
    error: str | None = field(default=None, compare=False)
    warnings: list[str] = field(default_factory=list, compare=False)
    changed: bool = field(default=True, compare=False)

    def to_dict(self) -> dict[str, t.Any]:
        """What the module returns."""
        values = asdict(self)
        for name in ('error', 'warnings', 'changed'):
            del values[name]
        return values


@dataclass(frozen=True)
class Merge:
    """A merge, as far as texts and records are concerned.

    ``gone`` are the keys of the layers that leave the chain; ``heir`` is the layer that has their content afterwards:
    the base of a commit, the top of a pull.
    """

    target: str
    direction: str
    gone: frozenset[str]
    heir: Source


@dataclass
class DiskMerge:
    """The plan for one disk.

    Attributes:
        todo: ``START``, ``FOLLOW`` or ``CLEAN``.
        top: the upper end.
        base: the lower end; None for a pull that leaves no backing.
        active: ``top`` is the layer that the guest writes to.
        child: the layer that stands on ``top``, None where that is active.
        layers: what leaves the chain, from top to bottom, as keys.
        files: those of them that are files of a storage pool and can be deleted.
        devices: those of them that are not, and stay.
        chain_before: all layers from the active one down.
        chain_after: what is left of them.
        source_before: key of the active layer in the persistent definition; None for a transient domain.
        disk_before: the ``<disk>`` before, as libvirt shows it.
        disk_after: what it will be.
        bytes: what the merged layers take on the storage.
        names: how the XML names them where that is not the key (``pool/volume``).
        leftovers: files of an earlier merge of this disk that was killed before it deleted them.
        snapshots: names of the recorded snapshots whose point in time goes with the first byte that is written.
        doubtful: an earlier run had asked for the pivot, and nobody has noted whether it happened.
    """

    target: str
    direction: str
    todo: str
    top: Source
    base: Source | None
    active: bool
    child: Source | None
    layers: list[str]
    files: list[str]
    devices: list[str]
    chain_before: list[str]
    chain_after: list[str]
    source_before: str | None
    disk_before: str
    disk_after: str
    bytes: int = 0
    names: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    snapshots: list[str] = field(default_factory=list)
    doubtful: bool = False

    @property
    def receiver(self) -> Source:
        """The base of a commit, which always has one."""
        if self.base is None:
            raise ValueError('this merge leaves no base')
        return self.base

    @property
    def effect(self) -> Merge:
        """The merge as texts and records see it."""
        heir = self.receiver if self.direction == COMMIT else self.top
        return Merge(self.target, self.direction, frozenset([*self.layers, *self.names]), heir)

    @property
    def record(self) -> MergeRecord:
        """What the journal says of it while it is under way."""
        return MergeRecord(
            target=self.target,
            direction=self.direction,
            base=self.base.key if self.base else NO_BASE,
            top=self.top.key,
            active=self.active,
            chain_before=list(self.chain_before),
            files=[*self.files, *self.leftovers],
            pivoting=self.doubtful,
        )

    @property
    def modified_disk(self) -> str | None:
        """The ``<disk>`` afterwards; None where the definition stays as it is."""
        return self.disk_after if self.todo == CLEAN or self.disk_after != self.disk_before else None


@dataclass
class DomainMerge:
    """The plan for one domain."""

    domain: Domain
    live: bool
    disks: list[DiskMerge]
    warnings: list[str] = field(default_factory=list)
