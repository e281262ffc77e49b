# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a test asks for: plain data about a guest and its disks, checked before anything is made."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from .errors import LabError

_CHOICES = {
    'fs': ('ext4', 'xfs', 'none'),
    'format': ('qcow2', 'raw'),
    'kind': ('file', 'block', 'volume', 'network'),
    'agent': ('exec', 'noexec', 'silent', 'none'),
    'state': ('running', 'paused', 'shutoff'),
    'writer': ('sync', 'nosync', 'none'),
    'device': ('cdrom', 'floppy'),
}
_GUEST_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]{0,39}')
_TARGET = re.compile(r'vd[a-z]')


def _check(**values: str) -> None:
    for name, value in values.items():
        if value not in _CHOICES[name]:
            raise LabError(f'{name} {value!r} is not one of {", ".join(_CHOICES[name])}')


@dataclass(frozen=True)
class DiskSpec:
    """One virtio disk.

    kind: file; block (a loop device over a file); volume (by pool and volume name; the lab defines the pool);
    network (NBD over a unix socket, served by a qemu-nbd of the lab).
    fs 'none' is an empty disk. backing makes the image an overlay of an existing image (qcow2 only).
    A read-only or shareable disk is not mounted in the guest; mount=False asks the same of any disk.
    image uses an existing file as it is: nothing is made, and remove() leaves it alone.
    """

    fs: str = 'ext4'
    format: str = 'qcow2'
    kind: str = 'file'
    target: str | None = None
    size_mib: int | None = None
    directory: Path | None = None
    image: Path | None = None
    backing: Path | None = None
    pool: str | None = None
    io_limit: int | None = None
    cache: str = 'none'
    readonly: bool = False
    shareable: bool = False
    mount: bool = True

    def __post_init__(self) -> None:
        _check(fs=self.fs, format=self.format, kind=self.kind)
        if self.backing and self.format != 'qcow2':
            raise LabError('A disk with a backing file has to be qcow2')
        if self.pool and self.kind != 'volume':
            raise LabError("pool goes with kind 'volume'")
        if self.target and not _TARGET.fullmatch(self.target):
            raise LabError(f'Disk target {self.target!r} is not vda to vdz')

    @property
    def mounted(self) -> bool:
        """Whether the guest mounts it and writes to it."""
        return self.mount and self.fs != 'none' and not self.readonly and not self.shareable


@dataclass(frozen=True)
class DeviceSpec:
    """A device that is no data disk: device 'cdrom' or 'floppy', empty unless media is a file."""

    device: str = 'cdrom'
    media: Path | None = None

    def __post_init__(self) -> None:
        _check(device=self.device)


@dataclass(frozen=True)
class GuestSpec:
    """One guest.

    agent: exec (all commands), noexec (guest-exec is refused), silent (a channel, but nobody answers),
    none (no channel). state: running (boot is not waited for), paused (booted, then suspended), shutoff.
    directory: where images go that don't say otherwise; default: a directory of the guest's own.
    dirty_mib: keep this many MiB of unwritten pages on the first disk; they are all dirty once Guest.wait_dirty()
    returns, and after a sync or freeze get dirty again at dirty_rate MiB/s.
    """

    name: str
    disks: list[DiskSpec] = field(default_factory=lambda: [DiskSpec()])
    devices: list[DeviceSpec] = field(default_factory=list)
    agent: str = 'exec'
    state: str = 'running'
    persistent: bool = True
    writer: str = 'sync'
    writer_period_ms: int = 10
    dirty_mib: int = 0
    dirty_rate: int = 4
    directory: Path | None = None
    memory_mib: int | None = None

    def __post_init__(self) -> None:
        _check(agent=self.agent, state=self.state, writer=self.writer)
        if not _GUEST_NAME.fullmatch(self.name):
            raise LabError(f'Guest name {self.name!r} is not 1 to 40 letters, digits, dots, hyphens or underscores')
        if self.state == 'shutoff' and not self.persistent:
            raise LabError('A transient guest cannot be shut off: it would be gone')
        targets = self.targets
        if len(set(targets)) != len(targets):
            raise LabError(f'Guest {self.name} has two disks of the same target')

    @property
    def targets(self) -> list[str]:
        """Target of each disk: its own, or vda, vdb, ... by its place."""
        return [disk.target or f'vd{chr(ord("a") + place)}' for place, disk in enumerate(self.disks)]

    @property
    def memory(self) -> int:
        """MiB of memory; with 16 less, one boot in hundreds runs out of it. Dirty pages come on top."""
        return self.memory_mib or (112 if self.has_xfs else 96) + 2 * self.dirty_mib

    @property
    def has_xfs(self) -> bool:
        """Whether the guest needs the xfs module."""
        return any(disk.mounted and disk.fs == 'xfs' for disk in self.disks)

    @property
    def written(self) -> list[str]:
        """Targets that have a writer."""
        return [] if self.writer == 'none' else [t for t, disk in zip(self.targets, self.disks) if disk.mounted]
