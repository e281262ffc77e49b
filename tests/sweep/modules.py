# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run modules of the collection one after the other, each broken at one of its libvirt calls or left alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ansible

from ansible_collections.disksnap.libvirt.tests.live.harness import COLLECTIONS, MODULES, Failed
from disksnap_lab import Lab

HERE = Path(__file__).parent
# seconds
TIMEOUT = 180.0


class Modules:
    """A context: the process that runs them, on the libvirtd of a lab."""

    def __init__(self, lab: Lab, scratch: Path) -> None:
        self._lab = lab
        self._log = scratch / f'{lab.name}.calls'
        self._ours, theirs = socket.socketpair()
        path = (HERE / 'shim', COLLECTIONS, Path(ansible.__file__).parents[1])
        env = {
            **os.environ,
            'LC_ALL': 'C.UTF-8',
            'DISKSNAP_TESTS': str(os.getpid()),  # by which harness.watchdogs finds what they leave
            'PYTHONPATH': os.pathsep.join(map(str, path)),
        }
        argv = [lab.python, str(HERE / 'server.py'), str(theirs.fileno())]
        self._process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        theirs.close()
        self._ours.settimeout(TIMEOUT + 60)
        self._lines = self._ours.makefile('rw', encoding='utf-8')

    def __enter__(self) -> Modules:
        return self

    def __exit__(self, *_exception: Any) -> None:
        self._lines.close()
        self._ours.close()
        self._process.wait(30)

    def __call__(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        """Run a module; what it returns.

        Raises:
            Failed: if it failed.
        """
        done = self.harmed(name, options, 0, '')
        result: dict[str, Any] = json.loads(done)
        if result.get('failed'):
            raise Failed(result)
        return result

    def harmed(
        self, name: str, options: dict[str, Any], call: int | str, fault: str, command: Sequence[str] = ()
    ) -> str:
        """Run a module and break it at a call; what it printed.

        Args:
            call: its number from 1, or as ``virDomainFSThaw:2`` the second one of a name; 0 for none.
            command: of the fault ``run``.
        """
        self._log.unlink(missing_ok=True)
        request = {
            'module': str(MODULES / f'{name}.py'),
            'arguments': {'uri': self._lab.uri, **options},
            'environment': {
                'CRASH_POINT_LOG': str(self._log),
                'CRASH_POINT': str(call),
                'CRASH_FAULT': fault,
                'CRASH_DAEMON': str(self._lab.daemon.libvirtd_pid()),
                'CRASH_COMMAND': json.dumps(list(command)),
            },
            'timeout': TIMEOUT,
        }
        self._lines.write(json.dumps(request) + '\n')
        self._lines.flush()
        done: dict[str, Any] = json.loads(self._lines.readline())
        assert 'Traceback' not in done['out'] + done['err'], done
        assert fault or done['out'], f'{name} ended with {done["status"]} and no word'
        return str(done['out'])

    def calls(self) -> list[str]:
        """The libvirt calls of the last run, in order."""
        return self._log.read_text(encoding='ascii').split() if self._log.exists() else []
