# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""QEMU's own monitor: what happens behind the back of a libvirtd that is dead."""

from __future__ import annotations

import json
import socket
from typing import Any

from disksnap_lab import Lab


class Monitor:
    """QEMU's own monitor, which is free as long as libvirtd is dead."""

    def __init__(self, lab: Lab, name: str) -> None:
        [path] = (lab.paths.lib / 'qemu').glob(f'domain-*-{name}/monitor.sock')
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile('rw', encoding='utf-8')
        self._lines.readline()
        self('qmp_capabilities')

    def __call__(self, command: str, **arguments: Any) -> Any:
        self._lines.write(json.dumps({'execute': command, 'arguments': arguments}) + '\n')
        self._lines.flush()
        while True:
            answer = json.loads(self._lines.readline())
            assert 'error' not in answer, answer
            if 'return' in answer:
                return answer['return']

    def close(self) -> None:
        """Leave it to libvirtd."""
        self._lines.close()
        self._socket.close()
