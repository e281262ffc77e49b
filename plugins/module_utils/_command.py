# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a program of the hypervisor, for the little that libvirt's API cannot do: an argv list, never a shell."""

from __future__ import annotations

import os
import subprocess
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError

LVM_PROGRAMS = ('lvchange', 'lvconvert', 'lvcreate', 'lvremove', 'lvrename', 'lvs', 'vgs')


def run(
    argv: t.Sequence[str],
    what: str,
    *,
    timeout: float,
    domain: str | None = None,
    disk: str | None = None,
    accept: t.Collection[int] = (0,),
) -> str:
    """Run a program to its end; its standard output.

    Args:
        argv: the program and its arguments.
        what: what fails if it fails, for the error.
        timeout: seconds after which it is killed.
        accept: exit statuses that are no error.

    Raises:
        DiskSnapError: if it is not installed, ends with an error, or takes too long.
    """
    try:
        # there is no AnsibleModule here whose run_command it could be, and a time limit is needed
        with subprocess.Popen(  # pylint: disable=ansible-bad-function
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, 'LC_ALL': 'C'},
            text=True,
            errors='replace',
        ) as process:
            try:
                output, complaints = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired as error:
                process.kill()
                why = f'{argv[0]} was still at it after {timeout:.0f} seconds and was ended'
                raise DiskSnapError(what, domain=domain, disk=disk, why=why) from error
    except FileNotFoundError as error:
        raise DiskSnapError(
            what,
            domain=domain,
            disk=disk,
            why=f'{argv[0]} is not installed on the hypervisor',
            hint=_hint(argv[0]),
        ) from error
    if process.returncode not in accept:
        words = _words(complaints) or f'{argv[0]} ended with status {process.returncode}'
        raise DiskSnapError(what, domain=domain, disk=disk, why=words)
    return output


def _hint(program: str) -> str | None:
    """Where a program comes from that is not there."""
    if program == 'qemu-img':
        return 'qemu-img is in the package qemu-utils (Debian) or qemu-img (RHEL).'
    if program in LVM_PROGRAMS:
        return f'{program} is in the package lvm2.'
    return None


def _words(complaints: str) -> str:
    """What a program said as it failed, on one line; warnings only where it said nothing else."""
    lines = [line.strip() for line in complaints.splitlines() if line.strip()]
    return ' '.join([line for line in lines if not line.startswith('WARNING:')] or lines)
