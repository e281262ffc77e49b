# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lab: a private libvirtd with tiny real guests, its pools and file systems."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import libvirt
from lxml import etree

from . import base_disks, domain_xml, images, mounts, view
from .commands import run
from .daemon import Daemon, assert_root
from .domain_xml import HostFiles, Source
from .errors import LabError
from .guest import Guest
from .guest_image import GuestImage, guest_image
from .images import MadeDisk
from .paths import LabPaths, is_name, locked, root
from .spec import GuestSpec
from .waiting import wait_for

LAB_MIB = 150
GUEST_OVERHEAD_MIB = 100  # what QEMU under TCG takes beyond the guest's own memory
# A guest that boots with the memory of its spec on QEMU 7.2 runs out of it on 10.0, and kills its agent or its mount.
_NEWER_QEMU, _NEWER_QEMU_MIB = 10_000_000, 32


def names() -> list[str]:
    """All labs that were brought up and not taken down, alive or not."""
    directory = root() / 'labs'
    found = directory.iterdir() if directory.is_dir() else []
    return sorted(path.name for path in found if path.is_dir() and is_name(path.name))


def _require_memory(mib: int, what: str) -> None:
    for line in Path('/proc/meminfo').read_text(encoding='ascii').splitlines():
        if line.startswith('MemAvailable:'):
            available = int(line.split()[1]) // 1024
            if available < mib:
                raise LabError(f'Too little memory for {what}: {mib} MiB needed, {available} MiB available')


class Lab:
    """One lab by its name. Making the object does nothing yet: up() does, or an earlier process did.

    system: a Debian release whose libvirt and QEMU the lab is to have, by its list in tests/lab/systems; without one
    it has this machine's.
    """

    def __init__(self, name: str = 'lab', daemon: Daemon | None = None, system: str | None = None) -> None:
        self.name = name
        self.daemon = daemon or Daemon(LabPaths(name), system)
        self.paths = self.daemon.paths
        self._connection: libvirt.virConnect | None = None
        self._image: GuestImage | None = None

    def __enter__(self) -> Lab:
        self.up()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.down()

    @property
    def uri(self) -> str:
        """Connection URI for virsh, the collection, anybody on this machine."""
        return self.paths.uri

    @property
    def python(self) -> str:
        """The Python that belongs to the lab's libvirtd: with the libvirt and lxml of the same release."""
        return view.interpreter(self.paths)

    @property
    def top(self) -> Path:
        """The root directory of the lab's system, as this machine sees it."""
        return self.paths.view if view.mounted(self.paths) else Path('/')

    @property
    def guest_image(self) -> GuestImage:
        """Kernel and initramfs of the guests; built on first use."""
        if self._image is None:
            self._image = guest_image()
        return self._image

    def up(self, timeout: float = 60, keep: bool = False) -> None:
        """Bring the lab up; quick when it is up.

        What a lab that has died left behind is cleared away first; with keep its files stay, so that persistent
        guests are still defined, as on a host that comes back after a crash.
        """
        assert_root()
        self.paths.check_length()
        self.daemon.require_programs()
        self.guest_image  # noqa: B018 - build it now, not in the middle of a test
        with locked(self.paths.lock):
            if not self.daemon.running():
                _require_memory(LAB_MIB, 'a lab')
                self._disconnect()
                self.daemon.stop(keep)
                self.daemon.start(timeout)
            self.wait_libvirtd(timeout)

    def down(self, keep: bool = False) -> None:
        """End everything the lab started; with keep its files stay to be looked at. Nothing to do is fine."""
        assert_root()
        self._disconnect()
        with locked(self.paths.lock):
            self.daemon.stop(keep)

    def crash(self) -> None:
        """End libvirtd and all guests at once, as when the host loses power. up(keep=True) brings the host back.

        Loop devices stay attached and mounted file systems mounted until then; they are not made again.
        """
        self._disconnect()
        self.daemon.crash()

    # -- libvirt --------------------------------------------------------------------------------------------

    @property
    def connection(self) -> libvirt.virConnect:
        """An open connection, opened again when libvirtd was restarted."""
        if self._connection is not None and self._usable(self._connection):
            return self._connection
        self._disconnect()
        libvirt.registerErrorHandler(lambda _context, _error: None, None)  # errors are raised; no need to print them
        self._connection = libvirt.open(self.uri)
        return self._connection

    @staticmethod
    def _usable(connection: libvirt.virConnect) -> bool:
        try:
            return bool(connection.isAlive() and connection.getLibVersion())
        except libvirt.libvirtError:
            return False

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(libvirt.libvirtError):  # the other end may have gone
                self._connection.close()
            self._connection = None

    def lookup(self, name: str) -> libvirt.virDomain:
        """A domain by name."""
        return self.connection.lookupByName(name)

    def disk_source(self, domain: libvirt.virDomain, target: str) -> str:
        """Path of the file or device behind a disk as the domain has it now; of an NBD disk the export's name."""
        for disk in etree.fromstring(domain.XMLDesc()).iterfind('devices/disk'):
            source = disk.find('source')
            if disk.find(f'target[@dev="{target}"]') is None or source is None:
                continue
            if source.get('volume'):
                pool = self.connection.storagePoolLookupByName(source.get('pool'))
                return str(pool.storageVolLookupByName(source.get('volume')).path())
            return str(source.get('file') or source.get('dev') or source.get('name'))
        raise LabError(f'Domain {domain.name()} has no disk {target} with a source')

    def wait_libvirtd(self, timeout: float = 30) -> None:
        """Wait until libvirtd answers, for example after kill_libvirtd()."""

        def answers() -> bool:
            try:
                return self.daemon.libvirtd_pid() is not None and bool(self.connection.getLibVersion())
            except libvirt.libvirtError:
                return False

        wait_for(f'answer from libvirtd of lab {self.name} (see {self.paths.log})', answers, timeout, pause=0.02)

    def kill_libvirtd(self, hold: bool = False) -> int:
        """kill -9; it comes back by itself, with hold only after release_libvirtd(). Guests run on."""
        return self.daemon.kill_libvirtd(hold)

    def release_libvirtd(self) -> None:
        """Let a held libvirtd start, and wait for it."""
        self.daemon.release_libvirtd()
        self.wait_libvirtd()

    # -- storage --------------------------------------------------------------------------------------------

    def pool(self, name: str, directory: Path, persistent: bool = True) -> libvirt.virStoragePool:
        """A running directory pool; an existing one of that name is taken as it is."""
        Path(directory).mkdir(parents=True, exist_ok=True)
        try:
            return self.connection.storagePoolLookupByName(name)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
                raise
        xml = domain_xml.directory_pool(name, Path(directory))
        if not persistent:
            return self.connection.storagePoolCreateXML(xml)
        pool = self.connection.storagePoolDefineXML(xml)
        pool.create()
        return pool

    def remove_pool(self, name: str) -> None:
        """Stop and undefine a pool; its files stay."""
        for act in ('destroy', 'undefine'):
            try:
                getattr(self.connection.storagePoolLookupByName(name), act)()
            except libvirt.libvirtError as error:
                if error.get_error_code() not in (libvirt.VIR_ERR_NO_STORAGE_POOL, libvirt.VIR_ERR_OPERATION_INVALID):
                    raise

    def filesystem(self, name: str, fs: str = 'tmpfs', size_mib: int = 512) -> Path:
        """A file system of its own for images (full disks, reflinks): tmpfs, ext4, xfs or btrfs; seen inside too.

        Kernels before 6.6 have no direct I/O on tmpfs: give such disks cache='writeback'.
        """
        point = self.paths.mnt / name
        point.mkdir()
        if fs == 'tmpfs':
            run(['mount', '-t', 'tmpfs', '-o', f'size={size_mib}m', 'disksnap-lab', point])
            return point
        if fs not in ('ext4', 'xfs', 'btrfs'):
            raise LabError(f'File system {fs!r} is not one of tmpfs, ext4, xfs, btrfs')
        backing = self.paths.scratch / f'{name}.{fs}'
        with open(backing, 'wb') as handle:
            handle.truncate(size_mib << 20)
        run([f'mkfs.{fs}', '-q', backing], timeout=120)
        run(['mount', '-t', fs, '-o', 'loop', backing, point])
        return point

    def remove_filesystem(self, name: str) -> None:
        """Unmount what filesystem() made, and delete it."""
        point = self.paths.mnt / name
        mounts.unmount_below(point)
        shutil.rmtree(point, ignore_errors=True)
        for backing in self.paths.scratch.glob(f'{name}.*'):
            backing.unlink()

    # -- guests ---------------------------------------------------------------------------------------------

    def guests(self) -> list[Guest]:
        """All guests that were defined here."""
        return [Guest(self, path.parent.name) for path in sorted(self.paths.guests.glob('*/guest.json'))]

    def guest(self, name: str) -> Guest:
        """One of them."""
        return Guest(self, name)

    def define(self, spec: GuestSpec) -> Guest:
        """Make disks and domain, and start it unless the spec says shut off. Does not wait for the boot."""
        if Guest.record_path(self, spec.name).exists():
            raise LabError(f'Lab {self.name} has a guest {spec.name} already')
        if self.connection.getVersion() >= _NEWER_QEMU:
            spec = replace(spec, memory_mib=spec.memory + _NEWER_QEMU_MIB)
        if spec.state != 'shutoff':
            _require_memory(spec.memory + GUEST_OVERHEAD_MIB, f'guest {spec.name}')
        directory = Path(spec.directory or self.paths.images / spec.name)
        directory.mkdir(parents=True, exist_ok=True)
        files = HostFiles(self.paths.guests / spec.name)
        files.directory.mkdir(exist_ok=True)
        record: dict[str, Any] = {
            'directory': str(directory),
            'own_directory': spec.directory is None,
            'agent': spec.agent,
            'written': spec.written,
            'pools': [],
            'disks': [],
        }
        try:
            sources = [self._make_disk(spec, place, directory, record) for place in range(len(spec.disks))]
            self._write_record(spec.name, record)
            self._create(spec, domain_xml.domain(spec, sources, self.guest_image, files))
        except BaseException:
            self._write_record(spec.name, record)
            Guest(self, spec.name).remove()
            raise
        guest = Guest(self, spec.name)
        if spec.state == 'paused':
            guest.wait_up()
            guest.domain.suspend()
        return guest

    def _write_record(self, name: str, record: dict[str, Any]) -> None:
        Guest.record_path(self, name).write_text(json.dumps(record, indent=1), encoding='utf-8')

    def _make_disk(self, spec: GuestSpec, place: int, directory: Path, record: dict[str, Any]) -> Source:
        disk, target = spec.disks[place], spec.targets[place]
        path = images.make_image(self.guest_image, spec.name, target, disk, directory)
        # Written down at once, so that a failure further on clears it away.
        made = MadeDisk(target, disk.fs, disk.format, str(path), disk.image is None, Source(file=str(path)))
        record['disks'].append(made.to_json())
        pool = None
        if disk.kind == 'volume':
            pool = disk.pool or f'{spec.name}-images'
            if disk.pool is None and pool not in record['pools']:
                record['pools'].append(pool)
            self.pool(pool, path.parent).refresh()
        source = images.make_source(self.daemon, spec.name, target, disk, path, pool)
        record['disks'][-1] = MadeDisk(target, disk.fs, disk.format, str(path), disk.image is None, source).to_json()
        return source

    def _create(self, spec: GuestSpec, xml: str) -> None:
        if not spec.persistent:
            self.connection.createXML(xml)
            return
        domain = self.connection.defineXML(xml)
        if spec.state != 'shutoff':
            domain.create()

    def base_disk(self, fs: str = 'ext4', format_: str = 'qcow2', size_mib: int | None = None) -> Path:
        """A pristine image to copy or to use as a shared backing file; do not write to it."""
        return base_disks.base_disk(self.guest_image, fs, format_, size_mib)
