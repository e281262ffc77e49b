# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A process that outlives the module that forked it.

Such a process imports nothing once the module has ended, as Ansible deletes the module's code then.
"""

from __future__ import annotations

import os
import signal
import socket
import typing as t

_HIGHEST = 65536


def fork_detached(duty: t.Callable[[socket.socket], None]) -> socket.socket:
    """Run ``duty`` in a process of its own session, with none of this one's files.

    Fork before a libvirt connection is opened: one does not survive a fork.

    Args:
        duty: is given its end of a socket pair. What it raises ends the process, with nobody to hear of it.

    Returns:
        This process's end of the pair; the other's end closes when that process ends.
    """
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        _serve(duty, theirs)
    theirs.close()
    os.waitpid(child, 0)
    return ours


def _serve(duty: t.Callable[[socket.socket], None], channel: socket.socket) -> t.NoReturn:
    """Leave the module's session, files and signals; never return into its code."""
    try:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        os.chdir('/')
        os.umask(0o077)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        keep = channel.fileno()
        os.closerange(3, keep)
        os.closerange(keep + 1, min(os.sysconf('SC_OPEN_MAX'), _HIGHEST))
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        duty(channel)
    except BaseException:
        os._exit(1)
    os._exit(0)
