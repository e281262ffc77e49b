# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guest agent of one domain: freeze, thaw, status, and the flush before the freeze.

libvirt waits for an agent without end unless a response timeout is set (``virDomainAgentSetResponseTimeout``),
so every call here is preceded by one.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt, libvirt_qemu
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import read_domain

# a sync that takes longer than this leaves dirty pages behind it worth another one
SYNC_AGAIN_AFTER = 0.3
SYNC_ROUNDS = 3
SYNC_LIMIT = 60.0
# an answer that did not come within this many seconds may never come: a message is lost where the agent is restarted
ASK_AGAIN_AFTER = 10
# an attempt that failed sooner was refused, and asking again is of no use
_WAITED = 1.0
# a libvirtd that has just been started refuses at once until it has found the agents of its domains again
_RECONNECT_PAUSE = 0.1
# newer libvirt (11.3 does, 9.0 does not) tells a command that was not answered in time from an agent that is not there
_COMMAND_TIMEOUT = 112  # VIR_ERR_AGENT_COMMAND_TIMEOUT, which older libvirt-python has no name for


class Agent:
    """The agent in one running domain.

    Args:
        domain: a ``virDomain``.
        timeout: seconds that one agent command may take; libvirt counts in whole seconds, so it is rounded up.
    """

    def __init__(self, domain: t.Any, timeout: float) -> None:
        self._domain = domain
        self._name = domain.name()
        self._timeout = max(1, math.ceil(timeout))

    def bound(self) -> None:
        """Set libvirt's response timeout, so that an agent that hangs cannot hold the caller."""
        with explained('Failed to set the response timeout of the guest agent', domain=self._name):
            self._domain.agentSetResponseTimeout(self._timeout)

    def unbound(self) -> None:
        """Give libvirt its own response timeout back. Best effort: the domain may be gone."""
        with contextlib.suppress(libvirt.libvirtError):
            self._domain.agentSetResponseTimeout(libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK)

    def command(self, name: str, **arguments: t.Any) -> t.Any:
        """Run one agent command of QEMU's protocol; what it returns, decoded.

        It must be one that may be run twice: where no answer comes, it is asked for again until the timeout has passed.

        Raises:
            DiskSnapError: if the agent does not answer in time, refuses, or answers what cannot be read.
        """
        request: dict[str, t.Any] = {'execute': name}
        if arguments:
            request['arguments'] = arguments
        with explained(f'Failed to run {name} in the guest', domain=self._name):
            reply = self._ask(json.dumps(request))
        try:
            return json.loads(reply).get('return')
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise DiskSnapError(
                f'Failed to run {name} in the guest', domain=self._name, why=f'its agent answers {reply!r:.100}'
            ) from error

    def _ask(self, request: str) -> str:
        """Ask until an answer comes or the timeout has passed.

        libvirt gives an agent that it has lost step with 5 s to come back (QEMU_AGENT_WAIT_TIME in its qemu_agent.c),
        however long the command itself may take.
        """
        deadline = self._deadline()
        left = float(self._timeout)
        while True:
            started = time.monotonic()
            patience = min(ASK_AGAIN_AFTER, max(1, math.ceil(left)))
            try:
                return self._reach(
                    lambda: libvirt_qemu.qemuAgentCommand(self._domain, request, patience, 0),  # noqa: B023
                    deadline,
                )
            except libvirt.libvirtError as error:
                now = time.monotonic()
                left = deadline - now
                unanswered = error.get_error_code() in (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, _COMMAND_TIMEOUT)
                silent = unanswered and now - started >= _WAITED
                if not silent or left <= 0:
                    raise

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout

    def _reach(self, call: t.Callable[[], t.Any], deadline: float) -> t.Any:
        """Make a call of the agent, again and again while libvirtd has not found it yet after a start.

        While libvirtd reconnects to its domains it serves them already, and says at once that their agents are not
        connected (qemuProcessReconnect in its qemu_process.c), though their XML says that they are.
        """
        while True:
            started = time.monotonic()
            try:
                return call()
            except libvirt.libvirtError as error:
                now = time.monotonic()
                refused = error.get_error_code() == libvirt.VIR_ERR_AGENT_UNRESPONSIVE and now - started < _WAITED
                if not refused or now >= deadline or not self._connected():
                    raise
                time.sleep(_RECONNECT_PAUSE)

    def _connected(self) -> bool:
        """Whether the domain's XML says that an agent in the guest has opened the channel."""
        try:
            return read_domain(self._domain.XMLDesc(0)).agent_connected
        except (libvirt.libvirtError, DiskSnapError):
            return False

    def freeze(self, mountpoints: t.Sequence[str] | None) -> int:
        """Freeze all file systems, or those named; how many were frozen.

        Raises:
            DiskSnapError: if the agent failed. The freeze may be queued and take effect later
                (measured with libvirt 9.0): thaw until the status says so.
        """
        with explained('Failed to freeze the file systems of the guest', domain=self._name):
            wanted = list(mountpoints) if mountpoints else None
            return t.cast(int, self._reach(lambda: self._domain.fsFreeze(wanted, 0), self._deadline()))

    def thaw(self) -> int:
        """Thaw whatever is frozen; how many file systems this call thawed.

        QEMU's agent counts those that were still frozen: fewer than the freeze returned means that someone
        else, or the guest itself, thawed in between.
        """
        with explained(
            'Failed to thaw the file systems of the guest',
            domain=self._name,
            hint='The watchdog goes on trying; virsh domfsthaw does the same by hand.',
        ):
            return t.cast(int, self._reach(lambda: self._domain.fsThaw(None, 0), self._deadline()))

    def frozen(self) -> bool:
        """Whether the agent says that file systems are frozen.

        Raises:
            DiskSnapError: if it does not answer.
        """
        return bool(self.command('guest-fsfreeze-status') == 'frozen')

    def runs(self) -> bool:
        """Whether the domain is active, as far as libvirt tells; in one that is not, nothing is frozen."""
        try:
            return bool(self._domain.isActive())
        except libvirt.libvirtError as error:
            return bool(error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN)

    def thaw_surely(self, deadline: float) -> bool:
        """Thaw until the status says thawed, or the monotonic ``deadline`` has passed.

        Returns:
            Whether it is thawed; one that does not run any more counts as such.
        """
        while True:
            with contextlib.suppress(DiskSnapError):
                self.thaw()
                if not self.frozen():
                    return True
            if not self.runs():
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)

    def sync(self) -> bool:
        """Have the guest write its dirty pages before it is frozen; whether it did.

        A freeze flushes them while every write already waits, so a ``sync`` just before shortens the wait.
        RHEL's agent forbids guest-exec and Windows has no sync: then False, and nothing is lost.
        """
        deadline = time.monotonic() + SYNC_LIMIT
        for _round in range(SYNC_ROUNDS):
            started = time.monotonic()
            if not self._sync_once(deadline):
                return False
            if time.monotonic() - started < SYNC_AGAIN_AFTER:
                break
        return True

    def _sync_once(self, deadline: float) -> bool:
        pause = 0.01
        try:
            pid = self.command('guest-exec', path='sync')['pid']
            while time.monotonic() < deadline:
                status = self.command('guest-exec-status', pid=pid)
                if status.get('exited'):
                    return bool(status.get('exitcode') == 0)
                time.sleep(pause)
                pause = min(pause * 2, 0.5)
        except (DiskSnapError, AttributeError, KeyError, TypeError):  # a guest may answer anything
            return False
        return False
