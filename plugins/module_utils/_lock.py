# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run at a time on a domain: whoever comes second waits, or says who is at it.

The lock is a file on the machine that runs the module, so two controllers that reach one hypervisor by a remote URI
do not see each other; libvirt's own job lock is all that stands between these.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain

_RETRY_EVERY = 0.1
# how long a task waits for another one that is at work on the same domain, in seconds
LOCK_WAIT = 60.0


def private_directory() -> str:
    """A directory that only this user can enter, for locks and sockets; made where it is not there yet.

    Raises:
        OSError: if it cannot be made, or is someone else's.
    """
    if os.geteuid() == 0:
        directory = '/run/disksnap'
    else:
        directory = os.path.join(os.environ.get('XDG_RUNTIME_DIR') or os.path.expanduser('~/.cache'), 'disksnap')
    return _owned(directory)


def _owned(directory: str) -> str:
    """The directory, made or seen to be this user's alone: where others may write beside it, they could make it first.

    Raises:
        OSError: if it is someone else's, or cannot be made.
    """
    os.makedirs(directory, mode=0o700, exist_ok=True)
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, 'it is not a directory of this user', directory)
    if stat.S_IMODE(found.st_mode) & 0o077:
        os.chmod(directory, 0o700)
    return directory


def take(path: str, deadline: float, how: int = fcntl.LOCK_EX) -> int | None:
    """The locked file's descriptor; None if someone else still has it at the deadline.

    Args:
        path: in the private directory.
        deadline: by the monotonic clock.
        how: ``LOCK_EX``, or ``LOCK_SH`` where others may have it too.

    Raises:
        OSError: if the file cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return descriptor
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        if time.monotonic() >= deadline:
            os.close(descriptor)
            return None
        time.sleep(_RETRY_EVERY)


def busy(uuid: str) -> bool:
    """Whether a run of this machine is at work on a domain at this moment."""
    try:
        descriptor = os.open(os.path.join(private_directory(), _name(uuid)), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)


def _name(uuid: str) -> str:
    return f'{uuid}.lock'


@contextlib.contextmanager
def locked(domains: t.Sequence[Domain], *, wait: float) -> t.Iterator[None]:
    """Hold the locks of these domains.

    Args:
        domains: of one task.
        wait: seconds to wait for another run, in all.

    Raises:
        DiskSnapError: if another run still works on one of them.
    """
    held: list[int] = []
    deadline = time.monotonic() + wait
    try:
        try:
            directory = private_directory()
            for domain in sorted(domains, key=lambda one: one.uuid):  # one order for all runs: no deadlock
                path = os.path.join(directory, _name(domain.uuid))
                descriptor = take(path, deadline)
                if descriptor is None:
                    raise DiskSnapError(
                        'Failed to start',
                        domain=domain.name,
                        why=f'another run of this collection works on it and did not end within {wait:.0f} seconds',
                        hint='Nothing was changed. Run the task again when that one has ended.',
                    )
                held.append(descriptor)
        except OSError as error:
            raise DiskSnapError('Failed to take a lock', why=str(error)) from error
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
