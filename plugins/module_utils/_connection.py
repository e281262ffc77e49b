# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Open libvirt and look domains up. Every libvirt error becomes one of ours in ``explained``."""

from __future__ import annotations

import contextlib
import re
import threading
import typing as t
from urllib.parse import unquote, urlsplit

from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError

# a remote libvirtd that no longer answers is given up after KEEPALIVE_INTERVAL * (KEEPALIVE_COUNT + 1) seconds
KEEPALIVE_INTERVAL = 5
KEEPALIVE_COUNT = 3

_UUID = re.compile(r'^[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}$')


def secrets_of(uri: str) -> set[str]:
    """User and password of a URI with a password, as it has them and as libvirt decodes them.

    A password that should have been escaped may hold anything: up to the last ``@`` all of it is taken for one.
    """
    found = re.search('://([^:]*:.+)@', uri, re.DOTALL)
    return {found.group(1), unquote(found.group(1))} if found else set()


def without_password(text: str, uri: str) -> str:
    """A text, which may quote the URI, without the password of the URI: for messages and results."""
    for secret in secrets_of(uri):
        text = text.replace(secret, f'{secret.partition(":")[0]}:***')
    return text


def is_local(uri: str) -> bool:
    """Whether the hypervisor is this host: only then can a file or a program here stand in for libvirt."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # what is wrong with it is for libvirt to say
        return False
    transport = parts.scheme.partition('+')[2]
    return not parts.hostname and transport in ('', 'unix')


@contextlib.contextmanager
def explained(
    what: str, *, domain: str | None = None, disk: str | None = None, hint: str | None = None
) -> t.Iterator[None]:
    """Turn a libvirt error inside the block into one of ours, with libvirt's words and code."""
    try:
        yield
    except libvirt.libvirtError as error:
        raise DiskSnapError(
            what,
            domain=domain,
            disk=disk,
            why=error.get_error_message() or str(error),
            code=error.get_error_code(),
            hint=hint,
        ) from error


def _run_events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def _watch_remote(connection: t.Any) -> None:
    """Have a silent remote host noticed: keepalive needs libvirt's event loop, which runs in a thread."""
    with contextlib.suppress(libvirt.libvirtError):
        connection.setKeepAlive(KEEPALIVE_INTERVAL, KEEPALIVE_COUNT)


def open_connection(uri: str) -> t.Any:
    """Open a read-write libvirt connection.

    Raises:
        DiskSnapError: if the daemon is down, refuses us, or the URI is wrong.
    """
    libvirt.registerErrorHandler(lambda _context, _error: None, None)  # libvirt prints errors to stderr otherwise
    remote = not is_local(uri)
    if remote and not any(thread.name == 'libvirt-events' for thread in threading.enumerate()):
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=_run_events, name='libvirt-events', daemon=True).start()
    try:
        with explained(
            f'Failed to connect to libvirt at {without_password(uri, uri)}',
            hint='Check that the libvirt daemon runs there and that this user may use it.',
        ):
            connection = libvirt.open(uri)
    except DiskSnapError as error:
        error.why = without_password(error.why or '', uri)
        raise
    if remote:
        _watch_remote(connection)
    return connection


def look_up(connection: t.Any, name: str) -> t.Any:
    """The domain with this name, or with this UUID.

    Raises:
        DiskSnapError: if there is none.
    """
    try:
        return connection.lookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise DiskSnapError(
                'Failed to look up the domain', domain=name, why=error.get_error_message(), code=error.get_error_code()
            ) from error
    if _UUID.match(name):
        with explained('Failed to look up the domain', domain=name, hint='No domain has this name or this UUID.'):
            return connection.lookupByUUIDString(name)
    raise DiskSnapError(
        'Failed to look up the domain',
        domain=name,
        why='there is no domain of this name',
        code=libvirt.VIR_ERR_NO_DOMAIN,
        hint='List them with virsh list --all.',
    )


def state_of(domain: t.Any) -> str:
    """``running``, ``paused`` or ``off``; one that blocks is running, one that crashed and was preserved is paused."""
    with explained('Failed to read the state of the domain', domain=domain.name()):
        state, active = domain.state()[0], domain.isActive()
    if state in (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED, libvirt.VIR_DOMAIN_NOSTATE):
        return 'running'
    if state == libvirt.VIR_DOMAIN_SHUTOFF or (state == libvirt.VIR_DOMAIN_CRASHED and not active):
        return 'off'
    return 'paused'


def all_domains(connection: t.Any) -> list[t.Any]:
    """All domains, be they running or not.

    Raises:
        DiskSnapError: if libvirt does not list them.
    """
    with explained('Failed to list the domains'):
        return list(connection.listAllDomains())


def xml_of(domain: t.Any, *, inactive: bool = False, secure: bool = False) -> str:
    """The domain's XML, of now or (``inactive``) of its next start.

    Args:
        secure: with passwords, as a definition that is to be defined again must have them; never for results.
    """
    flags = libvirt.VIR_DOMAIN_XML_INACTIVE if inactive else 0
    if secure:
        flags |= libvirt.VIR_DOMAIN_XML_SECURE
    with explained('Failed to read the definition of the domain', domain=domain.name()):
        return t.cast(str, domain.XMLDesc(flags))


def affected(domain: t.Any) -> int:
    """``VIR_DOMAIN_AFFECT_*`` flags for a change that must hold now and after the next start."""
    flags = 0
    if domain.isActive():
        flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
    if domain.isPersistent():
        flags |= libvirt.VIR_DOMAIN_AFFECT_CONFIG
    return flags
