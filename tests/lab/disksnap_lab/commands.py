# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run host programs: argv lists only, always with a timeout, errors in one sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Union

from .errors import LabError

Arg = Union[str, Path]

# Program -> the Debian package that has it (packages.txt names the same packages).
PACKAGE_OF = {
    'apt-cache': 'apt',
    'apt-config': 'apt',
    'apt-get': 'apt',
    'chroot': 'coreutils',
    'cp': 'coreutils',
    'debugfs': 'e2fsprogs',
    'dpkg-deb': 'dpkg',
    'dumpe2fs': 'e2fsprogs',
    'e2fsck': 'e2fsprogs',
    'fallocate': 'util-linux',
    'gcc': 'gcc',
    'ip': 'iproute2',
    'libvirtd': 'libvirt-daemon-system',
    'losetup': 'mount',
    'mkfs.btrfs': 'btrfs-progs',
    'mkfs.ext4': 'e2fsprogs',
    'mkfs.xfs': 'xfsprogs',
    'mmdebstrap': 'mmdebstrap',
    'mount': 'mount',
    'nsenter': 'util-linux',
    'qemu-img': 'qemu-utils',
    'qemu-nbd': 'qemu-utils',
    'qemu-system-x86_64': 'qemu-system-x86',
    'readelf': 'binutils',
    'setsid': 'util-linux',
    'ssh': 'openssh-client',
    'ssh-keygen': 'openssh-client',
    'sshd': 'openssh-server',
    'strip': 'binutils',
    'systemctl': 'systemd',
    'umount': 'mount',
    'unshare': 'util-linux',
    'virsh': 'libvirt-clients',
    'xfs_repair': 'xfsprogs',
}
_SEARCH = os.pathsep.join(['/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/local/bin', '/usr/bin', '/bin'])


def find(program: str) -> str | None:
    """Absolute path of a program, sbin directories included, or None."""
    return shutil.which(program, path=_SEARCH)


def require(program: str) -> str:
    """Absolute path of a program, or an error that names the package to install."""
    path = find(program)
    if path is None:
        raise LabError(f'{program} is missing: install the Debian package {PACKAGE_OF.get(program, program)}')
    return path


def run(
    argv: Sequence[Arg],
    timeout: float = 60,
    cwd: Path | None = None,
    accept: Sequence[int] = (0,),
) -> subprocess.CompletedProcess[str]:
    """Run a program found by its name; raise LabError unless its exit status is one of accept."""
    full = [require(str(argv[0])), *(str(arg) for arg in argv[1:])]
    env = dict(os.environ, LC_ALL='C.UTF-8', DEBIAN_FRONTEND='noninteractive')
    try:
        done = subprocess.run(
            full,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f'Failed to run {" ".join(full)}: no end after {timeout:g} s') from None
    if done.returncode not in accept:
        cause = (done.stderr.strip() or done.stdout.strip() or f'exit status {done.returncode}').splitlines()[-1]
        raise LabError(f'Failed to run {" ".join(full)}: {cause}')
    return done


def become(argv: Sequence[str]) -> None:
    """Be this program from now on, in the place of this process."""
    try:
        os.execvp(argv[0], list(argv))
    except OSError as error:
        raise LabError(f'Failed to run {argv[0]}: {error.strerror}') from None
