# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plan merges: find the ends in the chain, see what an earlier run left, and refuse what would do harm.

Nothing is changed here; check mode ends after it.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from ansible_collections.disksnap.libvirt.plugins.module_utils import _blockjob, _chain, _journal
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import xml_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_checks import check
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_model import (
    CLEAN,
    COMMIT,
    FOLLOW,
    NO_BASE,
    START,
    DiskMerge,
    DomainMerge,
    Merge,
    MergeOptions,
    MergeSpec,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_xml import loses_instant, merged_disk
from ansible_collections.disksnap.libvirt.plugins.module_utils._paths import is_device
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    Journal,
    MergeRecord,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.change import settled
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk, DomainXml, Source, read_domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import parse

WHAT = 'Failed to plan the merge'


@dataclass
class Reading:
    """What is known of one disk before its merge is planned. Every local layer of ``chain`` has its path."""

    domain: Domain
    live: bool
    disk: Disk
    chain: tuple[Source, ...]
    spec: MergeSpec
    direction: str
    record: MergeRecord | None
    journal: Journal
    now: DomainXml
    lasting: DomainXml | None

    def error(self, why: str, hint: str | None = None) -> DiskSnapError:
        """An error that names the domain and the disk."""
        return DiskSnapError(WHAT, domain=self.domain.name, disk=self.spec.target, why=why, hint=hint)

    def find(self, wanted: str) -> int | None:
        """Position of a layer in the chain, by key, by path in another spelling, or as ``vda[1]``."""
        place = self.disk.layer(wanted)
        if place is not None:
            return place
        if self._is_index(wanted) and not self.live:
            paths = ', '.join(layer.key for layer in self.chain)
            raise self.error(
                f"{wanted} is an index, which only a running domain's layers have",
                f'Name the layer by its path: {paths}.',
            )
        canonical = self.domain.host.pools.canonical
        return next((i for i, layer in enumerate(self.chain) if canonical(layer.key) == canonical(wanted)), None)

    def _is_index(self, wanted: str) -> bool:
        return wanted.startswith(f'{self.spec.target}[') and wanted.endswith(']')

    @property
    def keys(self) -> list[str]:
        """All layers from the active one down."""
        return [layer.key for layer in self.chain]


def plan_all(
    wanted: t.Sequence[tuple[Domain, t.Sequence[MergeSpec]]],
    options: MergeOptions,
    users_of: t.Callable[[], _chain.Users] | None = None,
) -> list[DomainMerge]:
    """Plan the merges of several domains; either all can begin, or none does.

    Args:
        wanted: which layers of which disks.
        options: of all of them.
        users_of: tells who stands on what, for a caller that asks too; it is not asked before it is needed.

    Raises:
        DiskSnapError: whatever stands against one of them.
    """
    plans = []
    users: _chain.Users | None = None
    readings = [read(domain, specs, options) for domain, specs in wanted]
    for (domain, _specs), of_domain in zip(wanted, readings):
        merge = DomainMerge(domain, of_domain[0].live if of_domain else domain.live, [])
        for reading in of_domain:
            disk = _plan_disk(reading)
            if disk.todo == START:
                if users is None:  # only now: the pools of all layers are open and fresh
                    users = users_of() if users_of else _chain.Users(domain.host.connection, domain.host.pools)
                merge.warnings += check(reading, disk, users, options)
            merge.disks.append(disk)
        plans.append(merge)
    return plans


def read(domain: Domain, specs: t.Sequence[MergeSpec], options: MergeOptions) -> list[Reading]:
    """What is known of these disks.

    Raises:
        DiskSnapError: if one is not there, or its chain is broken.
    """
    live = domain.live
    now = domain.read()
    lasting = None
    if domain.handle.isPersistent():
        lasting = read_domain(xml_of(domain.handle, inactive=True))
    journal = _journal.load(domain.handle)
    readings = []
    for spec in specs:
        disk = now.disk(spec.target)
        if disk is None or disk.source is None:
            raise DiskSnapError(
                WHAT, domain=domain.name, disk=spec.target, why='the domain has no such disk, or it is empty'
            )
        chain = _resolved(_chain.whole(disk, domain.host.pools, domain.name), domain)
        for layer in chain:
            if layer.path is not None:
                domain.host.pools.volume(layer.path)  # opens and refreshes its pool, for Users
        readings.append(
            Reading(
                domain,
                live,
                disk,
                chain,
                spec,
                options.direction,
                journal.merges.get(spec.target),
                journal,
                now,
                lasting,
            )
        )
    return readings


def _resolved(disk: Disk, domain: Domain) -> tuple[Source, ...]:
    """The chain with the path of each local layer, that of a ``<source pool= volume=>`` too."""
    return tuple(replace(layer, path=_chain.local_path(layer, domain.host.pools)) for layer in disk.chain)


def _local_key(layer: Source, domain: Domain) -> str:
    return _chain.local_path(layer, domain.host.pools) or layer.key


# -- what is there to do --------------------------------------------------------------------------------------


def _plan_disk(reading: Reading) -> DiskMerge:
    job = _blockjob.look(reading.domain.handle, reading.spec.target) if reading.live else None
    mirror = reading.disk.mirror
    kind = job.kind if job is not None else mirror.job if mirror is not None and reading.live else None
    record = reading.record
    if kind is not None:
        _refuse_foreign(reading, kind)
        return _build(reading, FOLLOW, *_ends(reading))
    if record is not None and _same(reading, record) and done(reading, record):
        return recorded(reading, record, CLEAN)  # it ended while nobody looked
    merge = _build(reading, START, *_ends(reading))
    merge.doubtful = record is not None and record.pivoting and merge.active and _same(reading, record)
    if record is not None and done(reading, record):
        merge.leftovers = [path for path in record.files if path not in reading.keys and path not in merge.files]
    return merge


def _same(reading: Reading, record: MergeRecord) -> bool:
    """Whether the journal's merge is the one that is asked for."""
    spec = reading.spec
    if record.direction != reading.direction:
        return False

    def agrees(wanted: str, recorded: str) -> bool:
        if wanted == NO_BASE or recorded == NO_BASE:
            return wanted == recorded
        place = reading.find(wanted)
        if place is None and reading._is_index(wanted):
            return True  # the index went with the layer; only a second run of the same task names it
        canonical = reading.domain.host.pools.canonical
        return canonical(reading.chain[place].key if place is not None else wanted) == canonical(recorded)

    return agrees(spec.top, record.top) and (spec.base is None or agrees(spec.base, record.base))


def _gone(record: MergeRecord) -> list[str]:
    """The layers that a recorded merge takes out of the chain."""
    before = record.chain_before
    start = before.index(record.top) if record.top in before else 0
    end = before.index(record.base) if record.base in before else len(before)
    return before[start:end] if record.direction == COMMIT else before[start + 1 : end]


def done(reading: Reading, record: MergeRecord) -> bool:
    """Whether the chain shows that the recorded merge has ended well."""
    return not set(_gone(record)) & set(reading.keys)


def _refuse_foreign(reading: Reading, kind: str) -> None:
    """A job is there: it must be the one that is asked for."""
    record = reading.record
    if kind in ('copy', 'other'):
        raise reading.error(
            f'a block job of another kind ({kind}) runs on it, which this collection did not start',
            'Let whatever started it (a migration, a backup, virsh blockcopy) finish it.',
        )
    if record is not None and not _same(reading, record):
        raise reading.error(
            f'another merge ({record.direction} of {record.top}) is under way on it',
            'Finish that one first, or end it with state: aborted.',
        )
    top, base = _ends(reading)
    wanted = 'pull' if reading.direction != COMMIT else 'active-commit' if top == 0 else 'commit'
    mirrored = _mirror_key(reading.disk) if kind == 'active-commit' else None
    other_base = mirrored is not None and base is not None and mirrored != reading.chain[base].key
    if kind != wanted or other_base:
        raise reading.error(
            f'a block job ({kind}{f" into {mirrored}" if mirrored else ""}) runs on it, not the one that is asked for',
            'Let whatever started it finish it, or end it with state: aborted.',
        )


def _mirror_key(disk: Disk) -> str | None:
    """Path that an active commit writes to, as the domain's XML tells it."""
    source = parse(disk.xml, 'disk XML').find('mirror/source')
    return None if source is None else source.get('file') or source.get('dev')


# -- building the plan ----------------------------------------------------------------------------------------


def _ends(reading: Reading) -> tuple[int, int | None]:
    """Positions of top and base; None as base: a pull that leaves no backing file.

    Raises:
        DiskSnapError: if an end is not in the chain, or they are the wrong way round.
    """
    spec, chain = reading.spec, reading.chain
    top = _place(reading, 'top', spec.top)
    base: int | None
    if spec.base == NO_BASE:
        base = None
    elif spec.base is None:
        below = top + (1 if reading.direction == COMMIT else 2)
        base = below if below < len(chain) else None
    else:
        base = _place(reading, 'base', spec.base)
    if top + 1 >= len(chain):
        raise reading.error(f'{chain[top].key} has no backing file, so there is nothing to merge')
    if reading.direction == COMMIT:
        if base is None or base <= top:
            raise reading.error(f'the base {spec.base} is not below the top {chain[top].key}')
    else:
        _check_pull_ends(reading, top, base)
    return top, base


def _check_pull_ends(reading: Reading, top: int, base: int | None) -> None:
    chain = reading.chain
    if reading.live and top != 0:
        raise reading.error(
            f'libvirt pulls only into the active layer of a running domain, {chain[0].key}, not into {chain[top].key}',
            'Use direction: commit, or shut the domain off.',
        )
    if base is not None and base <= top + 1:
        raise reading.error(
            f'there is no layer between the top {chain[top].key} and the base {chain[base].key} to pull'
        )


def _place(reading: Reading, end: str, wanted: str) -> int:
    place = reading.find(wanted)
    if place is None:
        raise reading.error(
            f'the {end} {wanted} is not a layer of this disk', f'Its layers are {", ".join(reading.keys)}.'
        )
    return place


def _build(reading: Reading, todo: str, top: int, base: int | None) -> DiskMerge:
    chain, keys = reading.chain, reading.keys
    end = len(chain) if base is None else base
    gone = chain[top:end] if reading.direction == COMMIT else chain[top + 1 : end]
    lasting = reading.lasting.disk(reading.spec.target) if reading.lasting else None
    merge = DiskMerge(
        target=reading.spec.target,
        direction=reading.direction,
        todo=todo,
        top=chain[top],
        base=None if base is None else chain[base],
        active=top == 0,
        child=chain[top - 1] if top else None,
        layers=[layer.key for layer in gone],
        files=[layer.path for layer in gone if layer.path is not None and _is_file(layer)],
        devices=[layer.key for layer in gone if not _is_file(layer)],
        chain_before=keys,
        chain_after=[key for key in keys if key not in {layer.key for layer in gone}],
        source_before=_local_key(lasting.source, reading.domain) if lasting and lasting.source else None,
        disk_before=settled(reading.disk.xml),
        disk_after=settled(reading.disk.xml),
        bytes=_size(reading, chain[top:end] if reading.direction == COMMIT else gone),
    )
    merge.names = [raw.key for raw, layer in zip(reading.disk.chain, chain) if layer in gone and raw.key != layer.key]
    merge.disk_after = merged_disk(reading.disk.xml, merge.effect)
    merge.snapshots = _touched(reading.journal, merge.effect)
    return merge


def recorded(reading: Reading, record: MergeRecord, todo: str) -> DiskMerge:
    """The merge that the journal names, whatever is asked for now."""
    by_key = {layer.key: layer for layer in reading.chain}
    gone = _gone(record)
    text = settled(reading.disk.xml)
    return DiskMerge(
        target=record.target,
        direction=record.direction,
        todo=todo,
        top=by_key.get(record.top, Source('file', 'qcow2', record.top)),
        base=None if record.base == NO_BASE else by_key.get(record.base, Source('file', None, record.base)),
        active=record.active,
        child=None,
        layers=gone,
        files=list(record.files),
        devices=[key for key in gone if key not in record.files],
        chain_before=list(record.chain_before),
        chain_after=[key for key in record.chain_before if key not in gone],
        source_before=None,
        disk_before=text,
        disk_after=text,
        bytes=0,
    )


def _is_file(layer: Source) -> bool:
    return layer.type in ('file', 'volume') and layer.path is not None and not is_device(layer.path)


def _size(reading: Reading, layers: t.Sequence[Source]) -> int:
    """Bytes that these layers take on the storage, as far as a pool can see them."""
    infos = [reading.domain.host.pools.volume(layer.path) for layer in layers if layer.path is not None]
    return sum(info.allocation for info in infos if info is not None)


def _touched(journal: Journal, effect: Merge) -> list[str]:
    """Snapshots whose point in time is no longer whole once the merge has begun to write."""
    if effect.direction != COMMIT:
        return []
    return [
        snapshot.name
        for snapshot in journal.snapshots.values()
        if any(loses_instant(record, effect) for record in snapshot.disks)
    ]
