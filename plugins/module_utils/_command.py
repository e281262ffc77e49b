# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a program of the hypervisor, for the little that libvirt's API cannot do: an argv list, never a shell."""

from __future__ import annotations

import os
import subprocess
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError


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
        with subprocess.Popen(
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
            hint='qemu-img is in the package qemu-utils (Debian) or qemu-img (RHEL).'
            if argv[0] == 'qemu-img'
            else None,
        ) from error
    if process.returncode not in accept:
        words = ' '.join(complaints.split()) or f'{argv[0]} ended with status {process.returncode}'
        raise DiskSnapError(what, domain=domain, disk=disk, why=words)
    return output
