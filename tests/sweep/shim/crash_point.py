# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Counts the libvirt calls of one module run, and breaks something at one of them.

All that libvirt-python asks of libvirt goes through functions of its C modules. A stand-in for each wraps those that
may talk to the daemon. Processes that the module forks, as its watchdog, run on unharmed: it is for them to clean up.

The environment says what to do:

CRASH_POINT_LOG   a file that gets the name of each call, a line each, before the call is made
CRASH_POINT       the call to break: its number from 1, or, as virDomainFSThaw:2, the second of a name; none: only count
CRASH_FAULT       what to do there: see FAULTS
CRASH_DAEMON      the pid of libvirtd
CRASH_COMMAND     a command that is run before the call, as a JSON list: somebody else is at work in this very moment
"""

from __future__ import annotations

import collections
import contextlib
import importlib.machinery
import importlib.util
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from typing import Any

KILL_BEFORE, KILL_AFTER, DAEMON, DROP, RUN = FAULTS = ('kill-before', 'kill-after', 'libvirtd', 'drop', 'run')
# seconds
_COMMAND_TIMEOUT = 60
# what libvirt answers by itself, from what the client holds
_LOCAL = re.compile(
    r'vir(Event|GetLastError|ResetLastError|Conn(Get|Reset)LastError|RegisterErrorHandler|Initialize|GetVersion)'
    r'|vir\w+(Free|Ref|GetName|GetKey|GetID|GetUUID|GetUUIDString|GetConnect|IsAlive|SetKeepAlive|CloseCallback)$'
)
_LOCK = threading.Lock()
_counted = 0
_by_name: collections.Counter[str] = collections.Counter()
_counting = True


def stand_in(name: str, path: str) -> dict[str, Any]:
    """What a stand-in has: all that the real module of this name has, with calls to the daemon wrapped.

    Args:
        name: of the real module.
        path: of the stand-in, whose directory is left out of the search.
    """
    here = os.path.dirname(os.path.abspath(path))
    elsewhere = [one for one in sys.path if os.path.abspath(one) != here]
    spec = importlib.machinery.PathFinder.find_spec(name, elsewhere)
    if spec is None or spec.loader is None:
        raise ImportError(f'No module named {name!r} but the stand-in', name=name)
    ours = sys.modules[name]
    real = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(real)
    sys.modules[name] = ours  # a C module puts itself there
    return {
        one: _wrapped(one, value) if one.startswith('vir') and not _LOCAL.match(one) else value
        for one, value in vars(real).items()
        if not one.startswith('__')
    }


def _wrapped(name: str, function: Any) -> Any:
    if not callable(function):
        return function

    def call(*arguments: Any) -> Any:
        fault = _next(name)
        if fault == KILL_BEFORE:
            _end()
        if fault == DAEMON:
            os.kill(int(os.environ['CRASH_DAEMON']), signal.SIGKILL)
        if fault == DROP:
            _hang_up()
        if fault == RUN:
            _run()
        try:
            return function(*arguments)
        finally:
            if fault == KILL_AFTER:
                _end()

    return call


def _next(name: str) -> str | None:
    """Count a call; the fault that is due."""
    global _counted  # noqa: PLW0603 - a process makes one run, and this is its count
    if not _counting:
        return None
    with _LOCK:
        _counted += 1
        number = _counted
        _by_name[name] += 1
        here = (str(number), f'{name}:{_by_name[name]}')
        with open(os.environ['CRASH_POINT_LOG'], 'a', encoding='ascii') as log:
            log.write(f'{name}\n')
    return os.environ.get('CRASH_FAULT') if os.environ.get('CRASH_POINT') in here else None


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _run() -> None:
    """Run the command and wait for it; what it ends with is its own affair."""
    argv = json.loads(os.environ['CRASH_COMMAND'])
    subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMMAND_TIMEOUT, check=False)


def _hang_up() -> None:
    """Shut every connection to libvirt of this process, as if its network had gone."""
    for entry in os.listdir('/proc/self/fd'):
        descriptor = int(entry)
        try:
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
        except OSError:  # that of the list itself
            continue
        # an OSError comes from a socket that listens, or is half of a pair
        with socket.socket(fileno=os.dup(descriptor)) as found, contextlib.suppress(OSError):
            if found.family == socket.AF_UNIX and str(found.getpeername()).endswith('libvirt-sock'):
                found.shutdown(socket.SHUT_RDWR)


def start() -> None:
    """Count from here on, in a process that was forked to be the module."""
    global _counting, _counted
    _counting, _counted = True, 0
    _by_name.clear()


def _stop_counting() -> None:
    global _counting  # noqa: PLW0603
    _counting = False


os.register_at_fork(after_in_child=_stop_counting)
