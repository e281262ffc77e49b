# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""QEMU's monitor of a hypervisor, on its QMP socket."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any


def human(path: Path, command: str, timeout: float) -> str:
    """What the human monitor says to one command.

    Raises:
        OSError: QEMU is not there, or says nothing in time.
        ValueError: it says no, or breaks off.
    """
    return str(_qmp(path, 'human-monitor-command', {'command-line': command}, timeout))


def _qmp(path: Path, command: str, arguments: dict[str, Any], timeout: float) -> Any:
    """One command on a QMP socket; events in between are passed over."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(str(path))
        with connection.makefile('rw', encoding='utf-8') as stream:
            stream.readline()  # the greeting
            for request in ({'execute': 'qmp_capabilities'}, {'execute': command, 'arguments': arguments}):
                stream.write(json.dumps(request) + '\n')
                stream.flush()
                answer = json.loads(stream.readline())
                while 'event' in answer:
                    answer = json.loads(stream.readline())
                if 'error' in answer:
                    raise ValueError(answer['error']['desc'])
            return answer['return']
