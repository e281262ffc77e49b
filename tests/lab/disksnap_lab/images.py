# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make and clear away what stands behind a guest's disks: files, loop devices, volumes, NBD servers."""

from __future__ import annotations

import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import mounts
from .base_disks import base_disk, copy_disk
from .commands import run
from .daemon import Daemon
from .domain_xml import Source
from .errors import LabError
from .guest_image import GuestImage
from .spec import DiskSpec
from .waiting import wait_for


@dataclass(frozen=True)
class MadeDisk:
    """A disk of a guest as it was made; kept as JSON beside the guest's console."""

    target: str
    fs: str
    format: str
    image: str
    ours: bool
    source: Source

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> MadeDisk:
        """The reverse of to_json."""
        return cls(**{**data, 'source': Source(**data['source'])})


def make_image(image: GuestImage, guest: str, target: str, disk: DiskSpec, directory: Path) -> Path:
    """The image file itself."""
    if disk.image:
        return Path(disk.image)
    path = Path(disk.directory or directory) / f'{guest}-{target}.{"qcow2" if disk.format == "qcow2" else "img"}'
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        raise LabError(f'{path} exists already')
    if disk.backing:
        of = run(['qemu-img', 'info', '-U', '--output=json', disk.backing]).stdout
        backing_format = 'qcow2' if '"format": "qcow2"' in of else 'raw'
        run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-b', disk.backing, '-F', backing_format, path])
    else:
        copy_disk(base_disk(image, disk.fs, disk.format, disk.size_mib), path)
    return path


def make_source(daemon: Daemon, guest: str, target: str, disk: DiskSpec, path: Path, pool: str | None) -> Source:
    """What the domain names as the source, made ready to be opened."""
    if disk.kind == 'block':
        return Source(device=mounts.attach_loop(path, disk.readonly))
    if disk.kind == 'volume':
        return Source(pool=pool, volume=path.name)
    if disk.kind == 'network':
        return Source(nbd_socket=str(_serve_nbd(daemon, guest, target, disk, path)))
    return Source(file=str(path))


def _nbd_files(daemon: Daemon, guest: str, target: str) -> tuple[Path, Path]:
    directory = daemon.paths.run / 'nbd'
    return directory / f'{guest}-{target}.sock', directory / f'{guest}-{target}.pid'


def _serve_nbd(daemon: Daemon, guest: str, target: str, disk: DiskSpec, path: Path) -> Path:
    """Start a qemu-nbd inside the lab's namespaces, so that it ends with the lab."""
    socket, pid_file = _nbd_files(daemon, guest, target)
    flags = ['--persistent', '--shared=0', '--discard=unmap', f'--cache={disk.cache}', f'--format={disk.format}']
    if disk.readonly:
        flags.append('--read-only')
    files = [f'--socket={socket}', f'--pid-file={pid_file}', f'--export-name={target}']
    daemon.run_inside('qemu-nbd', '--fork', *flags, *files, str(path))
    return socket


def clear(daemon: Daemon, guest: str, made: MadeDisk) -> None:
    """Undo make_source and make_image; what is gone already is fine."""
    if made.source.device and made.source.device in mounts.loops_below(Path(made.image).parent):
        mounts.detach_loop(made.source.device)
    if made.source.nbd_socket:
        _stop_nbd(daemon, guest, made.target)
    if made.ours:
        Path(made.image).unlink(missing_ok=True)


def _stop_nbd(daemon: Daemon, guest: str, target: str) -> None:
    socket, pid_file = _nbd_files(daemon, guest, target)
    mine = [
        pid for pid, name in daemon.processes().items()
        if name == 'qemu-nbd' and str(socket) in Path(f'/proc/{pid}/cmdline').read_text(encoding='utf-8')
    ]  # fmt: skip
    for pid in mine:
        os.kill(pid, signal.SIGTERM)
    wait_for('end of qemu-nbd', lambda: not set(mine) & set(daemon.processes()), 10)
    for path in (socket, pid_file):
        path.unlink(missing_ok=True)
