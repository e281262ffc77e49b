# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tiny real guests on a private libvirtd, for tests and for a look by hand. See tests/lab/README.md."""

from __future__ import annotations

from .acks import Ack, Gap
from .copy_check import Report, check_copy
from .errors import LabError
from .fleet import Fleet
from .fleet_host import FleetHost
from .guest import Guest
from .lab import Lab, names
from .spec import DeviceSpec, DiskSpec, GuestSpec
from .watch import Watch

__all__ = [
    'Ack',
    'DeviceSpec',
    'DiskSpec',
    'Fleet',
    'FleetHost',
    'Gap',
    'Guest',
    'GuestSpec',
    'Lab',
    'LabError',
    'Report',
    'Watch',
    'check_copy',
    'names',
]
