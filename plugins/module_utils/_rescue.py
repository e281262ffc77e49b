# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Watchdogs of earlier runs that are about to thaw or resume a guest, and runs that are about to freeze or pause it.

Such a watchdog cannot tell one freeze from another and would end that of the new run in the middle of its window. So
it holds a lock of the guest for as long as it is at it, and the new run waits for that lock first. Both are on one
machine: that of the modules.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils._lock import private_directory, take

# Seconds that a run waits. A watchdog that reaches its guest is done within RETRY_EVERY * LOOKS_AFTER_RESUME of
# _watchdog_duty.py; one that does not tries for an hour, and then the guest is not to be frozen either.
PATIENCE = 10.0
# those who only look have the lock for no longer than that takes
_LOOK = 1.0


def _path(uuid: str) -> str:
    return os.path.join(private_directory(), f'{uuid}.rescue')


def begin(uuid: str) -> t.Callable[[], None]:
    """Have runs that come later wait for this guest; what is returned ends that.

    Best effort, as nothing must keep a watchdog from its guest: a run that did not wait notices at the end of its
    window that the guest was thawed meanwhile.
    """
    try:
        descriptor = take(_path(uuid), time.monotonic() + _LOOK, fcntl.LOCK_SH)
    except OSError:
        descriptor = None

    def end() -> None:
        if descriptor is not None:
            os.close(descriptor)

    return end


def await_end(uuids: t.Sequence[str], *, patience: float = PATIENCE) -> set[str]:
    """Wait until no watchdog of an earlier run is at work on these guests any more.

    Args:
        uuids: of domains.
        patience: seconds to wait, in all.

    Returns:
        UUIDs of those on which one still is.
    """
    deadline = time.monotonic() + patience
    return {uuid for uuid in uuids if not _ends(uuid, deadline)}


def _ends(uuid: str, deadline: float) -> bool:
    with contextlib.suppress(OSError):  # then no watchdog can have it either
        descriptor = take(_path(uuid), deadline)
        if descriptor is None:
            return False
        os.close(descriptor)
    return True
