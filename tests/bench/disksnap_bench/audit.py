# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a look at a whole host costs: disk_snapshot_info, and a script that asks virsh and qemu-img disk by disk."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lxml import etree

from disksnap_lab import Lab

from .contenders import _module, _run

# domains of the small and of the large host, of so many disks each
SIZES = (100, 500)
TARGETS = ('vda', 'vdb')
# domains that one task snapshots, which is how every second of them gets an overlay
_GROUP = 50
# what the whole host may take at most, in seconds
AIM = 5.0
POOL = 'bench-audit'
NO_POOL, IN_POOL = 'in no pool', 'in a storage pool'


def _definition(name: str, directory: Path) -> str:
    root = etree.Element('domain', type='qemu')
    for tag, text in (('name', name), ('memory', '65536'), ('vcpu', '1')):
        etree.SubElement(root, tag).text = text
    etree.SubElement(etree.SubElement(root, 'os'), 'type', arch='x86_64', machine='q35').text = 'hvm'
    devices = etree.SubElement(root, 'devices')
    for target in TARGETS:
        disk = etree.SubElement(devices, 'disk', type='file', device='disk')
        etree.SubElement(disk, 'driver', name='qemu', type='qcow2')
        etree.SubElement(disk, 'source', file=str(directory / f'{name}-{target}.qcow2'))
        etree.SubElement(disk, 'target', dev=target, bus='virtio')
    return etree.tostring(root, encoding='unicode')


@contextmanager
def pool(lab: Lab, directory: Path) -> Iterator[None]:
    """The directory is a storage pool meanwhile."""
    lab.pool(POOL, directory)
    try:
        yield
    finally:
        lab.remove_pool(POOL)


@contextmanager
def host(lab: Lab, count: int) -> Iterator[tuple[list[str], Path]]:
    """So many domains that are shut off, of two disks each, every second with a snapshot; and their directory."""
    directory = lab.paths.images / f'audit-{count}'
    directory.mkdir()
    seed = directory / 'seed'
    _run(['qemu-img', 'create', '-q', '-f', 'qcow2', str(seed), '1G'])
    names = [f'audit-{number:03}' for number in range(count)]
    try:
        for name in names:
            for target in TARGETS:
                shutil.copy(seed, directory / f'{name}-{target}.qcow2')
            lab.connection.defineXML(_definition(name, directory))
        seed.unlink()
        half = names[::2]
        for start in range(0, len(half), _GROUP):
            group = [{'name': name} for name in half[start : start + _GROUP]]
            _module('disk_snapshot', {'uri': lab.uri, 'domains': group, 'snapshot_name': 'nightly', 'quiesce': 'none'})
        yield names, directory
    finally:
        for domain in lab.connection.listAllDomains():
            if domain.name() in names:
                domain.undefine()
        shutil.rmtree(directory)


def _script(lab: Lab, names: list[str]) -> None:
    """What an operator writes: a few commands for each domain, and one for each disk."""
    virsh = ['virsh', '--quiet', '--connect', lab.uri]
    for name in _run([*virsh, 'list', '--all', '--name']).split():
        if name not in names:
            continue
        _run([*virsh, 'snapshot-list', name])
        for line in _run([*virsh, 'domblklist', name]).splitlines():
            _run(['qemu-img', 'info', '--force-share', '--backing-chain', line.split(None, 1)[1].strip()])


def _time(act: Callable[[], object]) -> float:
    begin = time.monotonic()
    act()
    return time.monotonic() - begin


def run_audit(lab: Lab, rounds: int, say: Callable[[str], None]) -> list[str]:
    """Measure hosts of both sizes; the lines of the table."""
    lines = [
        '',
        f'Seconds that a look at a whole host takes, of domains with {len(TARGETS)} disks, {rounds} rounds:',
        '',
    ]
    medians: dict[tuple[int, str], float] = {}

    def look(count: int, where: str) -> None:
        say(f'audit: {count} domains, images {where}')
        ours = [_time(lambda: _module('disk_snapshot_info', {'uri': lab.uri})) for _round in range(rounds)]
        median = medians[count, where] = statistics.median(ours)
        lines.append(f'{count:>4} domains, {where:<18} {median:8.2f}   {min(ours):.2f} to {max(ours):.2f}')

    for count in SIZES:
        with host(lab, count) as (names, directory):
            look(count, NO_POOL)
            with pool(lab, directory):
                look(count, IN_POOL)
            say(f'audit: {count} domains, by virsh and qemu-img')
            script = _time(lambda: _script(lab, names))
        lines.append(f'{"":13} virsh and qemu-img {script:8.2f}   {medians[count, IN_POOL] / script:.2f} of it')
    for where in (NO_POOL, IN_POOL):
        few, many = (medians[count, where] for count in SIZES)
        verdict = 'met' if many <= AIM else 'missed'
        ratio = many / SIZES[1] / (few / SIZES[0])
        lines.append(f'{SIZES[1]} domains, images {where}: {many:.2f} s (aim {AIM:g}: {verdict}),')
        lines.append(f'each {ratio:.2f} of what one of {SIZES[0]} takes.')
    return lines
