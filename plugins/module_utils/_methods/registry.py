# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The methods that there are, and the choice among them.

A method is imported when it is asked for: Ansible ships sources, and each file that is compiled costs every host.
"""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.base import DiskMethod
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import AUTO, Method, resolve


def _qemu() -> DiskMethod:
    from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.qemu import QemuMethod

    return QemuMethod()


def _lvm() -> DiskMethod:
    from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.lvm import LvmMethod

    return LvmMethod()


def _btrfs() -> DiskMethod:
    from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.btrfs import BtrfsMethod

    return BtrfsMethod()


def _reflink() -> DiskMethod:
    from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.reflink import ReflinkMethod

    return ReflinkMethod()


def _array() -> DiskMethod:
    from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.array import ArrayMethod

    return ArrayMethod()


# in the order in which auto asks them
METHODS: dict[str, t.Callable[[], DiskMethod]] = {
    'qemu': _qemu,
    'lvm': _lvm,
    'btrfs': _btrfs,
    'reflink': _reflink,
    'array': _array,
}


@functools.cache
def _made(factory: t.Callable[[], DiskMethod]) -> DiskMethod:
    return factory()


def method_of(name: str) -> DiskMethod:
    """The method of this name: one object for all disks of a run, as it may count what they need together.

    Raises:
        DiskSnapError: if this release does not have it.
    """
    if name not in METHODS:
        raise DiskSnapError(
            f'Failed to use the method {name}', why=f'this release has {", ".join(METHODS)}', hint='Name one of these.'
        )
    return _made(METHODS[name])


def choose(wanted: Method, disk: Disk, domain: Domain) -> tuple[DiskMethod, Method, str]:
    """The method for a disk, the options made out for it, and why it was chosen.

    ``auto`` is the proposal's rule and nothing else: where no rule takes the disk, it must be said.

    Raises:
        DiskSnapError: if no rule takes it, or the method named cannot; it names the methods that can.
    """
    if wanted.name == AUTO:
        for method in map(method_of, METHODS):
            reason = method.auto_reason(disk, domain)
            if reason is not None and method.refusal(disk, domain) is None:
                return method, resolve(wanted, method.name, disk=disk.target), f'auto: {reason}'
        source = disk.source
        kind = f'a {source.format} image of type {source.type}' if source else 'an empty drive'
        raise DiskSnapError(
            'Failed to choose a method',
            domain=domain.name,
            disk=disk.target,
            why=f'auto has no rule for {kind}',
            hint=_can(disk, domain),
        )
    method = method_of(wanted.name)
    refusal = method.refusal(disk, domain)
    if refusal is not None:
        raise DiskSnapError(
            f'Failed to use the method {wanted.name}',
            domain=domain.name,
            disk=disk.target,
            why=refusal,
            hint=_can(disk, domain),
        )
    return method, resolve(wanted, wanted.name, disk=disk.target), 'named by the task'


def _can(disk: Disk, domain: Domain) -> str:
    found = [method_of(name) for name in METHODS]
    names = [method.name for method in found if not method.by_play and method.refusal(disk, domain) is None]
    return f'Methods that can take it: {", ".join(names)}.' if names else 'No method of this release can take it.'
