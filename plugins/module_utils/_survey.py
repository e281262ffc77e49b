# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All domains of a host with their disks, chains, snapshots and jobs, read in few calls and without a change."""

from __future__ import annotations

import contextlib
import typing as t
from dataclasses import dataclass, field

from ansible_collections.disksnap.libvirt.plugins.module_utils import _blockjob, _chain, _journal
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained, xml_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import etree, libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._foreign import ForeignSnapshot, snapshots_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Host
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import Journal
from ansible_collections.disksnap.libvirt.plugins.module_utils._storage import Image, Storage
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk, DomainXml, Source, read_domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import parse

# what is read of a layer in libvirt's statistics
_BLOCK_FIELDS = ('name', 'backingIndex', 'path', 'capacity', 'allocation')


@dataclass(frozen=True)
class Layer:
    """One layer of a disk's chain; ``path`` is None for a network source, ``image`` where it cannot be seen."""

    source: Source
    path: str | None
    image: Image | None


@dataclass
class DiskView:
    """One disk; ``layers`` from the active one down, ``fault`` why they end too early."""

    disk: Disk
    layers: list[Layer]
    fault: DiskSnapError | None = None

    @property
    def target(self) -> str:
        """Its target name."""
        return self.disk.target


@dataclass
class DomainView:
    """One domain as it was found.

    Attributes:
        handle: the ``virDomain``.
        state: ``running``, ``paused`` or ``off``.
        text: its XML, to see whether it has changed since.
        now: what that says.
        later: what the persistent definition of a live domain says; None where that is the same one, or there is none.
        journal: what is recorded of it; empty where ``damaged`` says why it cannot be read.
        apart: the live and the persistent definition have different journals.
        foreign: libvirt's own snapshots of it.
        disks: its disks with their chains.
        later_disks: those of ``later``, likewise.
        jobs: the block jobs on them, by target.
        block: what libvirt's statistics say of layers that no pool has: capacity and allocation in bytes, by the path
            of a layer, or by the key of its source where it has none.
    """

    handle: t.Any
    name: str
    uuid: str
    state: str
    text: str
    now: DomainXml
    later: DomainXml | None = None
    journal: Journal = field(default_factory=Journal)
    damaged: DiskSnapError | None = None
    apart: bool = False
    foreign: list[ForeignSnapshot] = field(default_factory=list)
    disks: list[DiskView] = field(default_factory=list)
    later_disks: list[DiskView] = field(default_factory=list)
    jobs: dict[str, _blockjob.Job] = field(default_factory=dict)
    block: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        """Whether a QEMU process has its disks open."""
        return self.state != 'off'


@dataclass
class Survey:
    """One host: its domains in the order of their names, and its images.

    ``unread`` are domains that libvirt does not show, by name, each with the reason.
    """

    host: Host
    storage: Storage
    domains: list[DomainView]
    unread: dict[str, DiskSnapError] = field(default_factory=dict)


def survey(host: Host) -> Survey:
    """Read a host.

    Domains come before their images: whoever changes both meanwhile changes the XML of the domain.

    Raises:
        DiskSnapError: if libvirt does not list what it has.
    """
    unread: dict[str, DiskSnapError] = {}
    views = _domains(host, unread)
    storage = Storage(host.pools, local=host.local)
    _add_disks(views, storage)
    _add_statistics(host, views)
    for view in views:
        _add_jobs(view)
    return Survey(host, storage, views, unread)


def changed(view: DomainView) -> bool:
    """Whether a domain is not as it was when it was read, or gone."""
    try:
        return xml_of(view.handle) != view.text
    except DiskSnapError:
        return True


# -- domains ----------------------------------------------------------------------------------------------------


def _domains(host: Host, unread: dict[str, DiskSnapError]) -> list[DomainView]:
    connection = host.connection
    with explained('Failed to list the domains of the host'):
        states = connection.getAllDomainStats(
            libvirt.VIR_DOMAIN_STATS_STATE, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
        )
        lasting = _uuids(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
        with_snapshots = _uuids(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT)
    views = []
    for handle, found in states:
        uuid, state = handle.UUIDString(), _state(found.get('state.state'), handle)
        try:
            view = _domain(handle, uuid, state, both=state != 'off' and uuid in lasting)
            if uuid in with_snapshots:
                view.foreign = snapshots_of(handle)
        except DiskSnapError as error:
            if error.code != libvirt.VIR_ERR_NO_DOMAIN:  # else it went away since it was listed
                unread[handle.name()] = error
            continue
        views.append(view)
    return sorted(views, key=lambda view: view.name)


def _uuids(connection: t.Any, flag: int) -> set[str]:
    return {handle.UUIDString() for handle in connection.listAllDomains(flag)}


def _state(state: int | None, handle: t.Any) -> str:
    """As ``state_of`` has it, without a call for each domain; an ID has whatever is active."""
    if state in (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED, libvirt.VIR_DOMAIN_NOSTATE):
        return 'running'
    if state == libvirt.VIR_DOMAIN_SHUTOFF or handle.ID() < 0:
        return 'off'
    return 'paused'


def _domain(handle: t.Any, uuid: str, state: str, *, both: bool) -> DomainView:
    text = xml_of(handle)
    view = DomainView(handle, handle.name(), uuid, state, text, read_domain(text))
    later = xml_of(handle, inactive=True) if both else None
    if later is not None:
        view.later = read_domain(later)
        view.apart = _journal_texts(text) != _journal_texts(later)
    try:
        view.journal = _journal.within(text, view.name)
    except DiskSnapError as error:
        view.damaged = error
    return view


def _journal_texts(text: str) -> list[bytes]:
    """Our elements in a domain's XML, in one spelling."""
    if _journal.NAMESPACE not in text and _journal.QUIESCE_NAMESPACE not in text:
        return []
    found = []
    for namespace in (_journal.NAMESPACE, _journal.QUIESCE_NAMESPACE):
        for element in parse(text, 'domain XML').iterfind(f'./metadata/{{{namespace}}}journal'):
            element.tail = None
            found.append(etree.tostring(element, method='c14n'))
    return found


# -- disks --------------------------------------------------------------------------------------------------------


def _add_disks(views: t.Sequence[DomainView], storage: Storage) -> None:
    """Follow all chains. What their images say of themselves counts only once all who use them have been heard."""
    for view in views:
        _state_recorded(view, storage)
        for disk in view.now.disks:
            _state_formats(disk.chain, storage, live=view.live)
        for disk in view.later.disks if view.later else ():
            _state_formats(disk.chain, storage, live=False)
    for view in views:
        view.disks = [_follow(disk, storage, view.name) for disk in view.now.disks if disk.chain]
        if view.later is not None:
            view.later_disks = [_follow(disk, storage, view.name) for disk in view.later.disks if disk.chain]
        for one in [*view.disks, *view.later_disks]:
            _state_formats(one.disk.chain, storage, live=False)
    for view in views:
        for one in [*view.disks, *view.later_disks]:
            _add_layers(one, storage)


def _state_formats(chain: t.Iterable[Source], storage: Storage, *, live: bool) -> None:
    for source in chain:
        with contextlib.suppress(DiskSnapError):  # in a pool that is not there
            path = _chain.local_path(source, storage)
            if path:
                storage.state(path, source.format, live=live)


def _state_recorded(view: DomainView, storage: Storage) -> None:
    for snapshot in view.journal.snapshots.values():
        for one in snapshot.disks:
            for volume in one.volumes:
                storage.state(volume.path, volume.format)
            if one.backup_source.path:
                storage.state(one.backup_source.path, one.backup_source.format)


def _follow(disk: Disk, storage: Storage, domain: str) -> DiskView:
    followed, fault = _chain.seen(disk, storage, domain)
    return DiskView(followed, [], fault)


def _add_layers(view: DiskView, storage: Storage) -> None:
    for source in view.disk.chain:
        try:
            path = _chain.local_path(source, storage)
        except DiskSnapError as error:
            path, view.fault = None, view.fault or error
        view.layers.append(Layer(source, path, storage.find(path) if path else None))


def _add_statistics(host: Host, views: t.Sequence[DomainView]) -> None:
    """Ask for the sizes of layers that no pool knows, as of disks on thin volumes or in the network."""
    lacking = [
        view for view in views if view.live and any(layer.image is None for disk in view.disks for layer in disk.layers)
    ]
    if not lacking:
        return
    flags = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_BACKING | libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
    by_uuid = {view.uuid: view for view in lacking}
    with contextlib.suppress(libvirt.libvirtError):  # then these sizes are not known
        for handle, found in host.connection.domainListGetStats(
            [view.handle for view in lacking], libvirt.VIR_DOMAIN_STATS_BLOCK, flags
        ):
            view = by_uuid[handle.UUIDString()]
            view.block = _sizes(found, view.disks)


def _sizes(found: t.Mapping[str, t.Any], disks: t.Iterable[DiskView]) -> dict[str, tuple[int, int]]:
    """Capacity and allocation by path or key; libvirt tells the path of a local layer only, and the index of each."""
    keys: dict[tuple[t.Any, t.Any], str] = {
        (disk.target, layer.source.index): layer.path or layer.source.key for disk in disks for layer in disk.layers
    }
    sizes = {}
    for number in range(int(found.get('block.count', 0))):
        block = {name: found.get(f'block.{number}.{name}') for name in _BLOCK_FIELDS}
        key = keys.get((block['name'], block['backingIndex'])) or block['path']
        if key and block['capacity'] is not None:
            sizes[key] = (block['capacity'], block['allocation'] or 0)
    return sizes


def _add_jobs(view: DomainView) -> None:
    """Ask only where there can be one: a commit or a pull needs two layers, a copy shows in the XML."""
    if view.state == 'off':
        return
    for disk in view.disks:
        if len(disk.layers) > 1 or disk.disk.mirror is not None or disk.target in view.journal.merges:
            with contextlib.suppress(DiskSnapError):  # it has stopped since
                job = _blockjob.look(view.handle, disk.target)
                if job is not None:
                    view.jobs[disk.target] = job
