# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a snapshot that spans hosts waits for the other hosts.

The process that takes one host's part asks here before each step, and goes on once the coordinator (the play) has
given the word for it, which it does when all hosts have come to that step. Silence, or a coordinator that hangs up
while it waits for an answer, counts as an order to undo.

A play that is run again takes over from one that died: ``retire`` tells the process of the first to undo.

The word comes through a socket in the file system, a line of JSON each way, so that any program of the host can bring
it: ``command`` is one that needs nothing but this machine's Python.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import secrets
import select
import shlex
import socket
import sys
import time
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._lock import private_directory

FREEZE, COMMIT, THAW, FINISH, ABANDON = 'freeze', 'commit', 'thaw', 'finish', 'abandon'
# how long a word may take to arrive once somebody has connected, in seconds
_WORD_WITHIN = 5.0
_RETIRE = 'retire'
# the identities of a host's volumes come with the word, some hundred bytes each
_LONGEST = 1 << 20
# Its arguments are the socket and the word. An answer may take as long as undoing does, or the check of large copies.
_CLIENT = """
import json, socket, sys
try:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(3600)
        channel.connect(sys.argv[1])
        channel.sendall(sys.argv[2].encode() + b'\\n')
        answer = channel.makefile().readline().strip()
    if not answer:
        raise OSError('it ended without an answer')
except OSError as error:
    answer = json.dumps({'failed': True, 'msg': 'Failed to reach the process that takes the part of this host: %s. '
    'It gives up and undoes where it hears nothing for max_frozen while guests stand still, else for its patience.'
    % error})
print(answer)
"""


class Abandoned(DiskSnapError):
    """The snapshot is not to be: some other host failed, or the play that takes it is gone."""


class Silence(Abandoned):
    """Nobody says what to do."""


class Barrier:
    """The steps of one host's part, each of which waits for its word.

    Args:
        asker: connection of the task that began it, which hears when all is prepared.
        patience: seconds to wait for the next word while no guest stands still.
        snapshot_name: of the snapshot; a play that takes one of the same name may be this one, run again.

    Attributes:
        waited: whether it has come to a step. ``claim`` comes before the first.
    """

    def __init__(self, asker: socket.socket, patience: float, snapshot_name: str) -> None:
        self._asker: socket.socket | None = asker
        self._patience = patience
        self.waited = False
        self._listener: socket.socket | None = None
        self._path = ''
        self._name = snapshot_name
        self._facts: dict[str, t.Any] = {}
        self._group = ''
        self._uuids: frozenset[str] = frozenset()

    @property
    def command(self) -> str:
        """The shell command that brings a word: append the step to it. It prints the answer, a line of JSON."""
        return shlex.join([sys.executable, '-E', '-S', '-c', f'exec({_CLIENT!r})', self._path])

    def tell(self, **facts: t.Any) -> None:
        """Have the next answer bring these facts, too."""
        self._facts.update(facts)

    def claim(self, group: str, uuids: t.Iterable[str]) -> None:
        """Listen, and let ``retire`` know the group and the domains that are worked on. No domain, and it does nothing.

        Raises:
            OSError: if the socket cannot be made.
        """
        self._group, self._uuids = group, frozenset(uuids)
        if self._listener is None:
            self._open()

    def wait(self, step: str, *, until: float | None = None, **facts: t.Any) -> dict[str, t.Any]:
        """Answer the last word with the facts, and wait for the word for ``step``; what the play says beside it.

        Args:
            until: when to stop waiting, by the monotonic clock; the patience applies where there is none.

        Raises:
            Abandoned: if the word is to give up, or who brought the last one did not stay for the answer.
            Silence: if none comes.
        """
        if not self.waited:
            facts['command'] = self.command
        self.waited = True
        told, self._facts = self._facts, {}
        if not self._answer({'failed': False, 'next': step, **told, **facts}):
            raise Abandoned('Failed to go on with the snapshot', why='the play that takes it has hung up')
        deadline = time.monotonic() + self._patience if until is None else until
        word, beside = self._hear(deadline)
        while word not in (step, ABANDON, None):
            self._answer({'failed': True, 'msg': f'Failed to {word}: the next step is {step}.'})
            word, beside = self._hear(deadline)
        if word is None:
            raise Silence('Failed to go on with the snapshot', why=f'the play that takes it did not say {step} in time')
        if word == ABANDON:
            raise Abandoned('Failed to go on with the snapshot', why='the play that takes it has given it up')
        return beside

    def end(self, **facts: t.Any) -> None:
        """Answer the last word, and listen no more."""
        self._answer(facts)
        if self._listener is not None:
            self._listener.close()
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def _open(self) -> None:
        self._path = f'{_place(self._name)}-{secrets.token_hex(8)}'
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self._path)
        os.chmod(self._path, 0o600)
        self._listener.listen(4)

    def _answer(self, facts: dict[str, t.Any]) -> bool:
        """Whether somebody was there to take it."""
        asker, self._asker = self._asker, None
        if asker is None:
            return False
        with contextlib.closing(asker):
            try:
                asker.settimeout(_WORD_WITHIN)
                asker.sendall(json.dumps(facts).encode() + b'\n')
            except OSError:
                return False
        return True

    def _hear(self, deadline: float) -> tuple[str | None, dict[str, t.Any]]:
        """The next word, None if none came in time, and what came with it. Who says it waits for an answer."""
        listener = t.cast(socket.socket, self._listener)
        while select.select([listener], [], [], max(0.0, deadline - time.monotonic()))[0]:
            asker, _address = listener.accept()
            asker.settimeout(_WORD_WITHIN)
            data = b''
            with contextlib.suppress(OSError):
                while b'\n' not in data and len(data) < _LONGEST:
                    more = asker.recv(_LONGEST)
                    if not more:
                        break
                    data += more
            word, ended, _rest = data.partition(b'\n')
            if not ended:
                asker.close()
                continue
            self._asker = asker
            if not word.startswith(_RETIRE.encode()):
                return _split(word)
            if self._is_retired_by(word):
                return ABANDON, {}
            self._answer({'failed': False})
        return None, {}

    def _is_retired_by(self, word: bytes) -> bool:
        try:
            group, uuids = json.loads(word[len(_RETIRE) :])
        except (TypeError, ValueError):
            return False
        return group != self._group and not self._uuids.isdisjoint(uuids)


def _split(line: bytes) -> tuple[str, dict[str, t.Any]]:
    """A word, and the JSON object that may come after it."""
    word, _space, rest = line.decode('utf-8', 'replace').partition(' ')
    try:
        beside = json.loads(rest) if rest else {}
    except ValueError:
        beside = None
    return (word, beside) if isinstance(beside, dict) else (f'{word} {rest[:100]}', {})


def _place(snapshot_name: str) -> str:
    """Where sockets of this snapshot's processes are. A name may be too long for the path of a socket."""
    return os.path.join(private_directory(), f'part-{hashlib.sha256(snapshot_name.encode()).hexdigest()[:16]}')


def retire(snapshot_name: str, group: str, uuids: t.Iterable[str], *, timeout: float) -> None:
    """Have processes that wait here with one of these domains, for a snapshot of this name, undo it; wait for that.

    Those of this very group are left alone: that is a host which stands twice in one play.

    The play that they wait for is dead, as it is run again. Where it is not, it hears that its part was undone.

    Args:
        timeout: seconds for each; one that takes longer keeps its locks, which the caller will see.
    """
    word = f'{_RETIRE} {json.dumps([group, list(uuids)])}\n'.encode()
    for path in glob.glob(f'{glob.escape(_place(snapshot_name))}-*'):
        try:
            with socket.socket(socket.AF_UNIX) as channel:
                channel.settimeout(timeout)
                channel.connect(path)
                channel.sendall(word)
                channel.recv(_LONGEST)
        except ConnectionRefusedError:  # its process was killed
            with contextlib.suppress(OSError):
                os.unlink(path)
        except OSError:
            continue
