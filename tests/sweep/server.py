# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs modules, each in a fork of a process that has imported all they need: a start costs a fifth of the usual.

Run by modules.py as a script, with the stand-ins for libvirt first on PYTHONPATH, on one end of a socket pair:
    server.py DESCRIPTOR
A request is a line of JSON: module, its path; arguments, its options; environment, what goes beside; timeout, in
seconds. The answer is a line of JSON: status, as of subprocess, out and err.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import sys
import tempfile
from typing import Any, BinaryIO

import crash_point

from ansible_collections.disksnap.libvirt.plugins import module_utils


def preload() -> None:
    """Import all that a module may."""
    importlib.import_module('ansible.module_utils.basic')
    for found in pkgutil.walk_packages(module_utils.__path__, f'{module_utils.__name__}.'):
        importlib.import_module(found.name)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Run a module to its end."""
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        stdin.write(json.dumps({'ANSIBLE_MODULE_ARGS': request['arguments']}).encode())
        stdin.flush()
        files = (stdin, out, err)
        child = os.fork()
        if child == 0:
            _become(request, files)
        status = _wait(child, request['timeout'])
        return {'status': status, 'out': _read(out), 'err': _read(err)}


def _become(request: dict[str, Any], files: tuple[BinaryIO, ...]) -> None:
    """Be the module; does not return."""
    status = 70
    try:
        for number, file in enumerate(files):
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            os.dup2(file.fileno(), number)
        os.closerange(3, 256)
        os.environ.update(request['environment'])
        sys.argv = [request['module']]
        crash_point.start()
        runpy.run_path(request['module'], run_name='__main__')
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _wait(child: int, timeout: float) -> int:
    """Its status; it is killed when its time is over."""
    descriptor = os.pidfd_open(child)
    try:
        if not select.select([descriptor], [], [], timeout)[0]:
            os.kill(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(descriptor)


def _read(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode()


def main() -> None:
    """Answer until the other end is closed."""
    preload()
    with socket.socket(fileno=int(sys.argv[1])) as connection, connection.makefile('rw', encoding='utf-8') as lines:
        for line in lines:
            lines.write(json.dumps(answer(json.loads(line))) + '\n')
            lines.flush()


if __name__ == '__main__':
    main()
