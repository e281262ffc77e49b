# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which file system holds a path."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _ioctl, _mounts
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError

MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
30 22 0:26 /@images /srv/images rw,noatime shared:9 - btrfs /dev/sdb rw,subvolid=256,subvol=/@images
31 22 0:27 / /srv/my\\040images ro,relatime - xfs /dev/sdc rw,attr2
32 22 0:28 / /srv/worn rw - xfs /dev/sdd ro,attr2
33 30 0:29 / /srv/images/old rw master:3 propagate_from:1 - ext4 /dev/sde rw
34 22 0:30 / /srv/images rw - xfs /dev/sdf rw
nonsense
"""


@pytest.mark.parametrize(
    ('path', 'point', 'kind', 'read_only'),
    [
        ('/etc/fstab', '/', 'ext4', False),
        ('/srv', '/', 'ext4', False),
        ('/srv/imagesque/a', '/', 'ext4', False),
        ('/srv/images/a', '/srv/images', 'xfs', False),  # the later of two mounts on one point
        ('/srv/images', '/srv/images', 'xfs', False),
        ('/srv/images/old/a', '/srv/images/old', 'ext4', False),
        ('/srv/my images/a', '/srv/my images', 'xfs', True),  # the mount
        ('/srv/worn/a', '/srv/worn', 'xfs', True),  # the file system
    ],
)
def test_the_mount_that_holds_a_path(path: str, point: str, kind: str, read_only: bool) -> None:
    mount = _mounts.holding(_mounts.parse(MOUNTINFO), path)
    assert mount is not None
    assert (mount.point, mount.type, mount.read_only) == (point, kind, read_only)


def test_no_mount() -> None:
    assert _mounts.holding([], '/a') is None


def test_a_file_system_that_cannot_share(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = tmp_path / 'mountinfo'
    table.write_text(MOUNTINFO, encoding='utf-8')
    monkeypatch.setattr(_mounts, 'MOUNTINFO', str(table))
    assert 'is on ext4' in (_mounts.clone_refusal('/etc/fstab') or '')


def test_a_machine_that_does_not_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_mounts, 'MOUNTINFO', str(tmp_path / 'none'))
    with pytest.raises(DiskSnapError, match='No such file'):
        _mounts.mount_of('/')


def test_numbers_of_the_kernel() -> None:
    """As the C compiler makes them from the kernel's headers, on x86-64 and on ppc64le."""
    assert _ioctl.number(1, 0x94, 9, 4, 'x86_64') == 0x40049409
    assert _ioctl.number(1, 0x94, 9, 4, 'ppc64le') == 0x80049409
    assert _ioctl.number(2, ord('f'), 1, 8, 'aarch64') == 0x80086601
    assert _ioctl.number(2, ord('f'), 1, 8, 'ppc64le') == 0x40086601
    assert _ioctl.number(0, 0x94, 8, 0, 's390x') == 0x9408
    assert _ioctl.number(1, 0x94, 23, 4096, 'x86_64') == 0x50009417
    assert _ioctl.number(2, ord('X'), 100, 112, 'x86_64') == 0x80705864
