# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One block job on one disk of a running domain: start it, look at it, pivot, cancel.

A job belongs to QEMU: it outlives the client that started it, and libvirtd too, so a later run can take it over.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained, xml_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import read_domain


@dataclass(frozen=True)
class Job:
    """A block job at one moment.

    ``kind``: ``commit`` (an intermediate layer), ``active-commit``, ``pull``, ``copy`` or ``other``. ``cur`` and
    ``end`` are QEMU's progress in bytes, which does not say that it is done: ``ready`` does, from
    ``<mirror ready='yes'>``.
    """

    kind: str
    cur: int
    end: int
    ready: bool


def _kinds() -> dict[int, str]:
    return {
        libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_PULL: 'pull',
        libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY: 'copy',
        libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT: 'commit',
        libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT: 'active-commit',
    }


def look(domain: t.Any, target: str) -> Job | None:
    """The job on a disk; None if there is none.

    Raises:
        DiskSnapError: if libvirt fails; the domain may have stopped.
    """
    with explained('Failed to look at the block job', domain=domain.name(), disk=target):
        info = domain.blockJobInfo(target, 0)
    if not info:
        return None
    kind = _kinds().get(info['type'], 'other')
    ready = False
    if kind in ('active-commit', 'copy'):
        disk = read_domain(xml_of(domain)).disk(target)
        ready = disk is not None and disk.mirror is not None and disk.mirror.ready == 'yes'
    return Job(kind, info['cur'], info['end'], ready)


def start_commit(domain: t.Any, target: str, *, base: str, top: str, active: bool, bandwidth: int) -> None:
    """Start to commit ``top`` and what is between into ``base``.

    Args:
        base: the layer that receives, by path or as ``vda[2]``.
        top: the layer that goes, by path or as ``vda[1]``.
        active: top is the layer that the guest writes to.
        bandwidth: bytes per second; 0 is no limit.

    Raises:
        DiskSnapError: if libvirt refuses.
    """
    flags = libvirt.VIR_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES
    if active:
        flags |= libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE
    with explained('Failed to start the block commit', domain=domain.name(), disk=target):
        domain.blockCommit(target, base, None if active else top, bandwidth, flags)


def start_pull(domain: t.Any, target: str, *, base: str | None, bandwidth: int) -> None:
    """Start to pull all layers above ``base`` into the active one; None pulls the whole chain.

    Raises:
        DiskSnapError: if libvirt refuses.
    """
    with explained('Failed to start the block pull', domain=domain.name(), disk=target):
        if base is None:
            domain.blockPull(target, bandwidth, libvirt.VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES)
        else:
            domain.blockRebase(target, base, bandwidth, libvirt.VIR_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES)


def pivot(domain: t.Any, target: str) -> None:
    """Ask that the guest use the base of a ready active commit; done when the job has gone from the domain's XML.

    It does not wait, so that a guest that writes a lot on one disk does not hold up the others.

    Raises:
        DiskSnapError: if libvirt refuses; too early is error 83 (``VIR_ERR_BLOCK_COPY_ACTIVE``), and harmless.
    """
    with explained('Failed to pivot to the base image', domain=domain.name(), disk=target):
        flags = libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT | libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC
        domain.blockJobAbort(target, flags)


def cancel(domain: t.Any, target: str) -> None:
    """Ask that a job end; the chain stays as it was, whatever was copied. Done when the job has gone.

    Raises:
        DiskSnapError: if libvirt refuses.
    """
    with explained('Failed to cancel the block job', domain=domain.name(), disk=target):
        domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC)


def set_bandwidth(domain: t.Any, target: str, bandwidth: int) -> None:
    """Bytes per second of a job that runs; 0 is no limit.

    Raises:
        DiskSnapError: if libvirt refuses; the job may have ended.
    """
    with explained('Failed to set the bandwidth of the block job', domain=domain.name(), disk=target):
        domain.blockJobSetSpeed(target, bandwidth, libvirt.VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES)
