# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Talk to a guest's agent through libvirt."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any, Callable

import libvirt
import libvirt_qemu

from .errors import LabError
from .waiting import wait_for


@dataclass(frozen=True)
class ExecResult:
    """How a program in the guest ended."""

    status: int
    out: str
    err: str


def command(domain: libvirt.virDomain, name: str, timeout: int = 10, **arguments: Any) -> Any:
    """One agent command; libvirt's error passes through."""
    request = {'execute': name, 'arguments': {key.replace('_', '-'): value for key, value in arguments.items()}}
    return json.loads(libvirt_qemu.qemuAgentCommand(domain, json.dumps(request), timeout, 0))['return']


def answers(domain: libvirt.virDomain) -> bool:
    """Whether the agent is there."""
    try:
        command(domain, 'guest-ping', 2)
    except libvirt.libvirtError:
        return False
    return True


def execute(find_domain: Callable[[], libvirt.virDomain], argv: list[str], timeout: float) -> ExecResult:
    """Run a program in the guest and wait for its end."""
    arguments: dict[str, Any] = {'path': argv[0], 'arg': argv[1:], 'capture_output': True}
    pid = command(find_domain(), 'guest-exec', **arguments)['pid']

    def ended() -> Any:
        status = command(find_domain(), 'guest-exec-status', pid=pid)
        return status if status['exited'] else None

    status = wait_for(f'end of {argv[0]} in the guest', ended, timeout)
    if 'exitcode' not in status:
        raise LabError(f'{argv[0]} in the guest was ended by signal {status.get("signal")}')

    def text(key: str) -> str:
        return base64.b64decode(status.get(key, '')).decode('utf-8', 'replace')

    return ExecResult(status['exitcode'], text('out-data'), text('err-data'))
