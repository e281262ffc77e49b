# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.array import backup_source

NBD = '<source protocol="nbd" name="x"><host name="::1" port="10809"/></source>'


@pytest.mark.parametrize(
    ('identity', 'fmt', 'wanted'),
    [
        ({'path': '/srv/.snapshot/n/db.raw'}, 'raw', ('file', '/srv/.snapshot/n/db.raw', 'raw', None)),
        ({'path': '/dev/shm/clone.img'}, None, ('file', '/dev/shm/clone.img', 'raw', None)),
        ({'path': '/dev/mapper/clone', 'lun': 7}, None, ('block', '/dev/mapper/clone', 'raw', None)),
        ({'path': '/srv/x', 'format': 'qcow2'}, 'raw', ('file', '/srv/x', 'qcow2', None)),
        ({'xml': NBD}, 'raw', ('network', None, 'raw', None)),
        ({'xml': '<source dev="/dev/sdx"/>', 'path': '/ignored'}, 'raw', ('block', '/dev/sdx', 'raw', None)),
        ({'xml': '<source pool="san" volume="v1"/>'}, 'qcow2', ('volume', None, 'qcow2', 'san')),
    ],
)
def test_what_a_backup_reads(identity: dict[str, Any], fmt: str | None, wanted: tuple[Any, ...]) -> None:
    source = backup_source(identity, fmt)
    assert (source.type, source.path, source.format, source.pool) == wanted
    assert source.xml.startswith('<source ')


@pytest.mark.parametrize(
    'identity', [None, 'naa.6001', [], {}, {'id': '7'}, {'xml': '<disk/>'}, {'xml': '<source/>'}, {'xml': '<source'}]
)
def test_what_is_no_source_is_refused(identity: Any) -> None:
    with pytest.raises((ValueError, DiskSnapError)):
        backup_source(identity, 'raw')
