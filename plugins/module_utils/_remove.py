# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``disk_snapshot``, state absent: the point in time goes, the guest's data of now stays."""

from __future__ import annotations

import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Host
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import Request


def remove(
    host: Host, requests: t.Sequence[Request], snapshot_name: str, *, timeout: float, check: bool
) -> dict[str, t.Any]:
    raise NotImplementedError
