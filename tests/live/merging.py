# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of snapshot_merge share: chains made behind the collection's back, slow jobs, and proofs."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import libvirt
from lxml import etree

from ansible_collections.disksnap.libvirt.tests.live.harness import chain, copy_out, disk_element, until
from disksnap_lab import Guest, check_copy

# so slow that a job over a few clusters outlives any test that does not end it
CRAWL = '4K'


def overlay(guest: Guest, name: str, targets: Sequence[str] | None = None) -> list[str]:
    """Put an overlay on disks, as virsh snapshot-create-as --disk-only --no-metadata does; their paths."""
    chosen = list(guest.disks) if targets is None else list(targets)
    paths = {target: f'{guest.images}/{guest.name}-{target}.{name}' for target in chosen}
    disks = ''.join(
        f'<disk name="{target}" snapshot="external"><source file="{paths[target]}"/></disk>'
        if target in paths
        else f'<disk name="{target}" snapshot="no"/>'
        for target in guest.disks
    )
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
    xml = f'<domainsnapshot><name>{name}</name><disks>{disks}</disks></domainsnapshot>'
    guest.domain.snapshotCreateXML(xml, flags | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC)
    return [paths[target] for target in chosen]


def fill(guest: Guest, target: str, mib: int = 4) -> None:
    """Write data that a job has to copy, into the layer that is active now."""
    done = guest.exec(
        'dd', 'if=/dev/urandom', f'of=/mnt/{target}/filler', 'bs=1048576', f'count={mib}', 'conv=fsync', timeout=120
    )
    assert done.status == 0, done


def job(guest: Guest, target: str) -> dict[str, Any]:
    """The block job on a disk; empty where there is none."""
    return dict(guest.domain.blockJobInfo(target, 0))


def mirrored(guest: Guest, target: str) -> str | None:
    """``ready`` of the active commit on a disk; None without one."""
    mirror = disk_element(guest, target).find('mirror')
    return None if mirror is None else str(mirror.get('ready', 'no'))


def idle(guest: Guest, target: str) -> bool:
    """Whether no job is on the disk and none is being wound up."""
    return not job(guest, target) and mirrored(guest, target) is None


def wait_idle(guest: Guest, target: str, timeout: float = 120) -> None:
    """Wait until a job has ended by itself."""
    until(f'end of the job on {target} of {guest.name}', lambda: idle(guest, target), timeout)


def speed_up(guest: Guest, target: str) -> None:
    """Lift the limit of a job, if it has not ended by then."""
    if job(guest, target):
        with contextlib.suppress(libvirt.libvirtError):
            guest.domain.blockJobSetSpeed(target, 0, 0)


def kill_qemu(guest: Guest) -> None:
    """SIGKILL, as from a kernel that is out of memory; wait until libvirtd has noticed."""
    [pid] = qemu_of(guest)
    os.kill(pid, signal.SIGKILL)
    until(f'the end of {guest.name}', lambda: not guest.domain.isActive(), 60)


def qemu_of(guest: Guest) -> list[int]:
    """The pid of its QEMU, whatever libvirtd knows; empty where there is none."""
    named = f'guest={guest.name},'
    return [
        pid
        for pid, name in guest.lab.daemon.processes().items()
        if name.startswith('qemu-system') and named in Path(f'/proc/{pid}/cmdline').read_text(encoding='utf-8')
    ]


def end_qemu(guest: Guest) -> None:
    """Have its QEMU end by itself, as one must that libvirtd does not know."""
    [pid] = qemu_of(guest)
    os.kill(pid, signal.SIGTERM)
    until(f'the end of the QEMU of {guest.name}', lambda: not qemu_of(guest), 60)


def name_base(guest: Guest, targets: Iterable[str]) -> None:
    """Have the definition name the images that these disks were made with."""
    xml = guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    domain: Any = etree.fromstring(xml)
    for disk in domain.iterfind('devices/disk'):
        target = disk.find('target').get('dev')
        if target in targets:
            made, source = guest.disks[target], disk.find('source')
            disk.set('type', 'file')
            disk.find('driver').set('type', made.format)
            source.attrib.clear()
            source.set('file', made.image)
            for below in disk.findall('backingStore'):
                disk.remove(below)
    guest.lab.connection.defineXML(etree.tostring(domain, encoding='unicode'))


def prove(guest: Guest, target: str, acked: int, to: Path) -> None:
    """The disk as it is now holds every write up to this acknowledged one, and its file system is whole."""
    running = guest.state == 'running'
    path = chain(guest, target)[0]
    format_ = disk_element(guest, target).find('driver').get('type')
    if running:
        guest.domain.fsFreeze(None, 0)
    try:
        copy = copy_out(path, format_, to / f'{guest.name}-{target}.copy')
    finally:
        if running:
            guest.domain.fsThaw(None, 0)
    report = check_copy(copy, 'qcow2', guest.disks[target].fs)
    assert report.consistent, report
    assert report.holds(acked), report
    copy.unlink()
