# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stop the vCPUs of guests for a moment, with the watchdog behind it: no guest stays paused, whatever dies.

QEMU writes out and flushes all its images when it stops the vCPUs (``vm_stop`` in its ``system/cpus.c``), so that an
image stands still and whole until they go on.
"""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._watchdog import Watchdog


class Pause:
    """The pauses of one run.

    Args:
        watchdog: forked before the connection.
        limit: seconds after which the watchdog sets the vCPUs going.
    """

    def __init__(self, watchdog: Watchdog, limit: float) -> None:
        self._watchdog = watchdog
        self.limit = limit
        self._stopped: dict[str, Domain] = {}
        self._watched = False

    def watch(self, domains: t.Sequence[Domain]) -> None:
        """Arm the watchdog for the domains that are about to be stopped.

        Raises:
            DiskSnapError: if it cannot be armed; then none may be stopped.
        """
        if domains:
            self._watchdog.watch_pause([domain.uuid for domain in domains], self.limit)
            self._watched = True

    def stop(self, domain: Domain) -> None:
        """Stop the vCPUs of one domain.

        Raises:
            DiskSnapError: if libvirt fails.
        """
        self._stopped[domain.uuid] = domain
        with explained('Failed to pause the domain', domain=domain.name):
            domain.handle.suspend()

    def go(self, domain: Domain) -> None:
        """Set them going again.

        Raises:
            DiskSnapError: if libvirt fails, or they did not stand still until now.
        """
        with explained('Failed to resume the domain', domain=domain.name):
            if domain.state == 'running':
                del self._stopped[domain.uuid]
                raise DiskSnapError(
                    'Failed to keep the domain paused until its disks were taken',
                    domain=domain.name,
                    why=f'something set it going, or the watchdog, as max_frozen ({self.limit:g} s) had passed',
                )
            domain.handle.resume()
            del self._stopped[domain.uuid]

    def end(self) -> None:
        """Set going what still stands still, and let the watchdog go; it goes on with those not known to run."""
        for domain in list(self._stopped.values()):
            with contextlib.suppress(DiskSnapError):  # the watchdog's then
                self.go(domain)
        if self._watched:
            self._watchdog.end_pause(stuck=list(self._stopped))
            self._watched = False
