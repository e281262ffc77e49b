# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the watchdog process does: it thaws and resumes guests when nobody else is left to do it.

It imports nothing after the fork, as Ansible deletes the module's code once the module has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import threading
import time
import typing as t
from dataclasses import dataclass

from ansible_collections.disksnap.libvirt.plugins.module_utils import _journal, _records, _rescue
from ansible_collections.disksnap.libvirt.plugins.module_utils._agent import Agent
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import open_connection
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError

# how long the watchdog goes on with a guest that will not thaw, in seconds; by then somebody has to look
GIVE_UP_AFTER = 3600.0
RETRY_EVERY = 0.5
# how often a guest must be seen running, RETRY_EVERY apart, until the watchdog lets go of it
LOOKS_AFTER_RESUME = 4


@dataclass(frozen=True)
class Thawed:
    """What the watchdog did to one guest: how many file systems it thawed, and when (wall clock, seconds)."""

    count: int
    at: float


def serve(uri: str, channel: socket.socket) -> None:
    """Be the watchdog until it is over; in a process of its own (``_detached.py``)."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # it is news, not an order: see dismiss
    _Duty(uri, channel).serve()


class _Duty:
    """What the watchdog was told, and what it has done."""

    def __init__(self, uri: str, channel: socket.socket) -> None:
        self._uri = uri
        self._channel: socket.socket | None = channel
        self._buffer = b''
        self._connection: t.Any = None
        self._uuids: list[str] = []
        self._agent_timeout = 5.0
        self._deadline: float | None = None
        self._thawed: dict[str, Thawed] = {}
        self._safe: set[str] = set()
        self._token: str | None = None
        self._over = False
        self._chases: list[threading.Thread] = []
        self._paused: list[str] = []
        self._pause_deadline: float | None = None
        # guests that are being thawed -> what says that they are
        self._rescues: dict[str, t.Callable[[], None]] = {}

    def serve(self) -> None:
        """Answer the module until it is over, and go on until no guest is stuck."""
        self._watch()
        for chase in self._chases:
            chase.join()

    def _watch(self) -> None:
        """Thaw and resume when the deadline has passed or the module has died."""
        while not self._over:
            if self._pause_deadline is not None and time.monotonic() >= self._pause_deadline:
                self._resume_all()
            due = self._deadline
            if due is not None and time.monotonic() >= due:
                self._thaw_all(due)
                if self._deadline != due:
                    continue  # the module has said something else meanwhile
                if self._channel is None:
                    return
                # the module is still there, and a freeze that it asked for may take effect only now: come again
                self._safe = set()
                self._deadline = time.monotonic() + RETRY_EVERY
            self._listen(min((one for one in (self._deadline, self._pause_deadline) if one is not None), default=None))

    def _listen(self, deadline: float | None) -> None:
        if self._channel is None:
            if signal.sigtimedwait([signal.SIGTERM], max(0.0, (deadline or 0.0) - time.monotonic())):
                self._reconnect()
                self._uuids = [uuid for uuid in self._uuids if not self._is_over(uuid)]
                self._over = not self._uuids
            return
        wait = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([self._channel], [], [], wait)[0]:
            return
        data = self._channel.recv(65536)
        if not data:
            self._module_gone()
            return
        self._buffer += data
        while b'\n' in self._buffer:
            line, _newline, self._buffer = self._buffer.partition(b'\n')
            self._answer(json.loads(line))

    def _module_gone(self) -> None:
        """The module ended without a word: nobody else will thaw, so there is nothing to wait for."""
        self._channel = None
        self._safe = set()
        self._resume_all()
        if self._uuids:
            self._deadline = time.monotonic()
            self._begin_rescues()
        else:
            self._over = True

    def _reply(self, **message: t.Any) -> None:
        message['thawed'] = {uuid: (entry.count, entry.at) for uuid, entry in self._thawed.items()}
        if self._channel is not None:
            with contextlib.suppress(OSError):
                self._channel.sendall(json.dumps(message).encode() + b'\n')

    def _answer(self, message: dict[str, t.Any]) -> None:
        do = message['do']
        if do == 'arm':
            self._arm(message)
        elif do == 'disarm':
            self._uuids, self._deadline = [], None
            for uuid in message['stuck']:
                self._start_chase(self._chase, uuid)
            self._reply()
        elif do == 'pause':
            self._watch_pause(message)
        elif do == 'resumed':
            self._paused, self._pause_deadline = message['stuck'], None
            self._resume_all()
            self._reply()
        elif do == 'hold':
            self._token = message['token']
            self._reply()
            self._channel, self._safe = None, set()
            self._over = self._deadline is None

    def _able(self, message: dict[str, t.Any]) -> bool:
        """Whether we can reach these guests; if not, the module has been told."""
        try:
            if self._connection is None or not self._connection.isAlive():
                self._connection = open_connection(self._uri)
            for uuid in message['uuids']:
                self._connection.lookupByUUIDString(uuid)
        except (DiskSnapError, libvirt.libvirtError) as error:
            self._reply(error=str(error))
            return False
        return True

    def _arm(self, message: dict[str, t.Any]) -> None:
        if not self._able(message):
            return
        self._uuids = message['uuids']
        self._agent_timeout = message['agent_timeout']
        self._thawed, self._safe = {}, set()
        self._deadline = time.monotonic() + message['max_frozen']
        self._reply(pid=os.getpid())

    def _start_chase(self, chase: t.Callable[[str], None], uuid: str) -> None:
        """Go after one guest in a thread of its own: the next ones must not wait for an answer or their deadline."""
        end_rescue = _rescue.begin(uuid)

        def run() -> None:
            try:
                chase(uuid)
            finally:
                end_rescue()

        self._chases.append(threading.Thread(target=run, daemon=True))
        self._chases[-1].start()

    # -- resuming -----------------------------------------------------------------------------------------

    def _watch_pause(self, message: dict[str, t.Any]) -> None:
        if not self._able(message):
            return
        self._paused = message['uuids']
        self._pause_deadline = time.monotonic() + message['limit']
        self._reply(pid=os.getpid())

    def _resume_all(self) -> None:
        """Set vCPUs going that the module stopped."""
        for uuid in self._paused:
            self._start_chase(self._chase_pause, uuid)
        self._paused, self._pause_deadline = [], None

    def _chase_pause(self, uuid: str) -> None:
        """Resume one guest; look again for a while, as a pause that was asked for may take effect only now."""
        give_up = time.monotonic() + GIVE_UP_AFTER
        quiet = 0
        while time.monotonic() < give_up and quiet < LOOKS_AFTER_RESUME:
            with contextlib.suppress(Exception):  # whatever it is: the guest is not known to run
                self._reconnect()
                quiet = quiet + 1 if self._runs(uuid) else 0
            time.sleep(RETRY_EVERY)

    def _runs(self, uuid: str) -> bool:
        """Whether a guest is not paused on anybody's order; one that is, is resumed."""
        try:
            domain = self._connection.lookupByUUIDString(uuid)
            state = domain.state(0)
            if state[0] != libvirt.VIR_DOMAIN_PAUSED or state[1] != libvirt.VIR_DOMAIN_PAUSED_USER:
                return True
            domain.resume()
        except libvirt.libvirtError as error:
            return bool(error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN)
        return False

    # -- thawing ------------------------------------------------------------------------------------------

    def _begin_rescues(self) -> None:
        for uuid in self._uuids:
            if uuid not in self._rescues:
                self._rescues[uuid] = _rescue.begin(uuid)

    def _end_rescue(self, uuid: str) -> None:
        self._rescues.pop(uuid, lambda: None)()

    def _thaw_all(self, due: float) -> None:
        """Thaw side by side, and go on with those that will not until they do or are gone, or ``due`` does not hold."""
        if self._channel is None:  # else no run comes later before this one has ended
            self._begin_rescues()
        give_up = time.monotonic() + GIVE_UP_AFTER
        while time.monotonic() < give_up:
            self._reconnect()
            left = [uuid for uuid in self._uuids if uuid not in self._safe]
            threads = [threading.Thread(target=self._make_safe, args=(uuid,), daemon=True) for uuid in left]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(self._agent_timeout * 4 + 10)
            self._listen_now()
            if self._pause_deadline is not None and time.monotonic() >= self._pause_deadline:
                self._resume_all()  # a guest that is paused cannot be thawed
            if self._deadline != due or all(uuid in self._safe for uuid in self._uuids):
                return
            time.sleep(RETRY_EVERY)

    def _chase(self, uuid: str) -> None:
        """Go on with one guest that has not confirmed its thaw, whatever else there is to do."""
        give_up = time.monotonic() + GIVE_UP_AFTER
        while time.monotonic() < give_up:
            with contextlib.suppress(Exception):  # whatever it is: the guest is not known to be thawed
                self._reconnect()
                if self._thaw_one(uuid):
                    return
            time.sleep(RETRY_EVERY)

    def _make_safe(self, uuid: str) -> None:
        if self._thaw_one(uuid):
            self._safe.add(uuid)
            self._end_rescue(uuid)

    def _listen_now(self) -> None:
        """Hear the module, if it is still there: it may have thawed everything itself meanwhile."""
        if self._channel is not None and select.select([self._channel], [], [], 0)[0]:
            self._listen(time.monotonic())

    def _reconnect(self) -> None:
        """Open libvirt anew unless it answers: isAlive() alone does not notice that libvirtd was restarted."""
        with contextlib.suppress(libvirt.libvirtError):
            if self._connection is not None and self._connection.getLibVersion():
                return
        with contextlib.suppress(DiskSnapError):
            self._connection = open_connection(self._uri)

    def _thaw_one(self, uuid: str) -> bool:
        """Thaw one guest; whether it is safe: its agent says thawed, or it no longer runs."""
        try:
            domain = self._connection.lookupByUUIDString(uuid)
            if not domain.isActive() or self._is_over(uuid):
                return True
            agent = Agent(domain, self._agent_timeout)
            agent.bound()
            count = agent.thaw()
            if count:
                self._thawed[uuid] = Thawed(count, time.time())
                self._note(domain)
            return not agent.frozen()
        except libvirt.libvirtError as error:
            return bool(error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN)
        except DiskSnapError:
            return False  # the agent does not answer now: the caller comes back

    def _is_over(self, uuid: str) -> bool:
        """Whether the journal says that the freeze we were left to watch has ended; a later one is not ours to end."""
        if self._token is None:
            return False
        try:
            quiesce = _journal.load(self._connection.lookupByUUIDString(uuid)).quiesce
        except (DiskSnapError, libvirt.libvirtError):
            return False
        return quiesce is None or quiesce.token != self._token or quiesce.state == _records.THAWED

    def _note(self, domain: t.Any) -> None:
        """Leave word in the journal for the task that comes to thaw. The guest is thawed already: best effort."""
        if self._token is None:
            return
        with contextlib.suppress(DiskSnapError, libvirt.libvirtError):
            quiesce = _journal.load(domain).quiesce
            if quiesce is not None and quiesce.token == self._token:
                _records.end_quiesce(quiesce, 'watchdog')
                _journal.store_quiesce(domain, quiesce)
