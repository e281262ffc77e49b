# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What one module run works on: the host, and one domain of it."""

from __future__ import annotations

import contextlib
import typing as t
from dataclasses import dataclass

from ansible_collections.disksnap.libvirt.plugins.module_utils import _connection, _journal, _records
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._pool import Pools
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import DomainXml, read_domain


@dataclass(frozen=True)
class Host:
    """One libvirt connection and its storage pools."""

    uri: str
    connection: t.Any
    pools: Pools

    @property
    def local(self) -> bool:
        """Whether files and programs of the hypervisor are those of this machine."""
        return _connection.is_local(self.uri)

    def domain(self, name: str) -> Domain:
        """Look a domain up by name or UUID.

        Raises:
            DiskSnapError: if there is none.
        """
        handle = _connection.look_up(self.connection, name)
        return Domain(self, handle, handle.name(), handle.UUIDString())

    def running(self) -> list[str]:
        """Names of all domains that run, in their order; those that are paused do not.

        One with a snapshot that an interrupted run left in between counts as well: that run may have stopped it.

        Raises:
            DiskSnapError: if libvirt does not say.
        """
        handles = _connection.all_domains(self.connection)
        return sorted(one.name() for one in handles if _connection.state_of(one) == 'running' or _interrupted(one))


def _interrupted(handle: t.Any) -> bool:
    try:
        return any(record.state != _records.PRESENT for record in _journal.load(handle).snapshots.values())
    except DiskSnapError:  # a journal that cannot be read: who names the domain hears of it
        return False


@contextlib.contextmanager
def open_host(uri: str) -> t.Iterator[Host]:
    """Open a host; its transient pools and the connection are closed at the end."""
    connection = _connection.open_connection(uri)
    try:
        with Pools(connection, uri) as pools:
            yield Host(uri, connection, pools)
    finally:
        with contextlib.suppress(libvirt.libvirtError):
            connection.close()


@dataclass(frozen=True)
class Domain:
    """One domain; what can change (state, disks) is asked anew at each call."""

    host: Host
    handle: t.Any
    name: str
    uuid: str

    @property
    def state(self) -> str:
        """``running``, ``paused`` or ``off``."""
        return _connection.state_of(self.handle)

    @property
    def live(self) -> bool:
        """Whether a QEMU process has the disks open."""
        return self.state != 'off'

    def read(self) -> DomainXml:
        """The definition in force: the live one, or that of the next start where it is shut off."""
        return read_domain(_connection.xml_of(self.handle))


def look_up(host: Host, names: t.Iterable[str]) -> list[Domain]:
    """All domains that a task names, by name or UUID, in its order.

    Raises:
        DiskSnapError: if one is not there, or is named twice.
    """
    domains = [host.domain(name) for name in names]
    refuse_same(domains)
    return domains


def refuse_same(domains: t.Sequence[Domain]) -> None:
    """Refuse a domain that is named twice, as by its name and by its UUID.

    Raises:
        DiskSnapError: if there is one.
    """
    seen = set()
    for domain in domains:
        if domain.uuid in seen:
            raise DiskSnapError('Failed to read the options', domain=domain.name, why='domains names it more than once')
        seen.add(domain.uuid)
