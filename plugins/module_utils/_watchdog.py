# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The process that thaws when everyone else is gone: the module's side of it (``_watchdog_duty.py`` is the other).

A ``finally`` does not run in a process that was killed, so the promise that no guest stays frozen needs a
process of its own. It is forked before the module opens libvirt (a connection does not survive a fork), has
its own session, holds none of the module's files, and opens its own connection.

The two talk in lines of JSON over a socket pair. The module says ``arm`` (and waits for the answer) before it
freezes, ``disarm`` once everything is thawed, or ``hold`` before it leaves a guest frozen on purpose; ``pause``
before it stops vCPUs, and ``resumed``. If the socket ends while it is armed, the module has died: then the guests are
thawed and resumed at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _records
from ansible_collections.disksnap.libvirt.plugins.module_utils._detached import fork_detached
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._watchdog_duty import Thawed, serve

ANSWER_WITHIN = 30.0


class Watchdog:
    """Handle of the module on its watchdog; make it before the first libvirt connection."""

    def __init__(self, uri: str) -> None:
        self._socket = fork_detached(lambda channel: serve(uri, channel))
        self._buffer = b''
        self.pid = 0
        self.start = 0

    def _say(self, **message: t.Any) -> dict[str, t.Any]:
        """Send one line and wait for the answer."""
        try:
            self._socket.settimeout(ANSWER_WITHIN)
            self._socket.sendall(json.dumps(message).encode() + b'\n')
            while b'\n' not in self._buffer:
                data = self._socket.recv(65536)
                if not data:
                    raise OSError('it has ended')
                self._buffer += data
        except OSError as error:
            raise DiskSnapError(
                'Failed to reach the watchdog',
                why=str(error),
                hint='No guest is frozen without it; run the task again.',
            ) from error
        line, _newline, self._buffer = self._buffer.partition(b'\n')
        return t.cast('dict[str, t.Any]', json.loads(line))

    def arm(self, uuids: t.Sequence[str], max_frozen: float, agent_timeout: float) -> None:
        """Have these guests thawed ``max_frozen`` seconds from now, come what may. Freeze only after it returns.

        Raises:
            DiskSnapError: if the watchdog cannot do its duty (no connection of its own, say).
        """
        answer = self._say(do='arm', uuids=list(uuids), max_frozen=max_frozen, agent_timeout=agent_timeout)
        if answer.get('error'):
            raise DiskSnapError('Failed to arm the watchdog', why=answer['error'], hint='Nothing was frozen.')
        self.pid, self.start = answer['pid'], _records.process_start(answer['pid'])

    def disarm(self, *, stuck: t.Sequence[str] = ()) -> dict[str, Thawed]:
        """Tell it that the module is done with these guests; what it thawed itself, by UUID. It can be armed again.

        Args:
            stuck: the UUIDs of guests that are not known to be thawed: the watchdog goes on until they are.
        """
        try:
            answer = self._say(do='disarm', stuck=list(stuck))
        except DiskSnapError:
            return {}
        return {uuid: Thawed(*entry) for uuid, entry in answer.get('thawed', {}).items()}

    def watch_pause(self, uuids: t.Sequence[str], limit: float) -> None:
        """Have the vCPUs of these guests set going ``limit`` seconds from now. Stop them only after it returns.

        Raises:
            DiskSnapError: if the watchdog cannot do its duty.
        """
        answer = self._say(do='pause', uuids=list(uuids), limit=limit)
        if answer.get('error'):
            raise DiskSnapError('Failed to arm the watchdog', why=answer['error'], hint='Nothing was paused.')

    def end_pause(self, *, stuck: t.Sequence[str] = ()) -> None:
        """Tell it that the vCPUs run again.

        Args:
            stuck: the UUIDs of guests that are not known to run: the watchdog goes on until they do.
        """
        with contextlib.suppress(DiskSnapError):
            self._say(do='resumed', stuck=list(stuck))

    def hold(self, token: str) -> None:
        """Tell it that the module ends and the guests stay frozen on purpose, until the deadline.

        Args:
            token: of the quiesce record in the guests' journals, in which it notes a thaw of its own.

        Raises:
            DiskSnapError: if it does not answer; then the caller must thaw.
        """
        self._say(do='hold', token=token)
        self._socket.close()  # it listens no more

    def close(self) -> None:
        """Let go of it: it ends, unless it holds guests or is armed; then it thaws them, at the deadline or at once."""
        self._socket.close()


def dismiss(pid: int, start: int) -> bool:
    """Tell the watchdog of an earlier task that a freeze is over; False if it is no longer there.

    Write so to the journal first: the watchdog reads it, and ends when no guest of its task is left to watch. Only
    the very process is told, never one that got its pid later.
    """
    if not pid or not start or _records.process_start(pid) != start:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        return True
    return False
