# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""AppArmor and block commit: let libvirt's own permission to write to a backing file take effect.

libvirt lets QEMU write to the base of a commit by a line that it adds to the domain's profile (``"/i/base" rwk,``). But
a domain that was started on its overlays has another line there since its start, ``deny "/i/base" w,``, whose only
purpose is to keep refused writes out of the audit log (``vah_add_path`` in libvirt's virt-aa-helper.c). A denial wins
over a permission, so that the commit fails with "Permission denied" (measured with libvirt 9.0 on Debian 12, by virsh
as well). Without that line the profile allows exactly what libvirt says it should, no sooner than libvirt says so.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import typing as t

PROFILES = '/etc/apparmor.d/libvirt'


def unsilence(uuid: str, paths: t.Iterable[str]) -> list[str]:
    """Take out of a domain's profile the lines that would overrule libvirt's permission to write to these files.

    libvirt has the kernel read the profile anew when it grants the permission, and writes a new one at the next start.

    Args:
        uuid: of the domain.
        paths: of images, as libvirt knows them.

    Returns:
        The paths of which there was such a line; none where there is no AppArmor, or no such profile.

    Raises:
        OSError: if the profile cannot be written.
    """
    profile = os.path.join(PROFILES, f'libvirt-{uuid}.files')
    try:
        with open(profile, encoding='utf-8', errors='surrogateescape') as text:
            lines = text.readlines()
    except FileNotFoundError:
        return []
    wanted = {f'deny "{path}" w,': path for path in paths}
    found = [wanted[line.strip()] for line in lines if line.strip() in wanted]
    if found:
        _replace(profile, ''.join(line for line in lines if line.strip() not in wanted))
    return found


def _replace(path: str, text: str) -> None:
    """Write a file anew at one stroke, with the owner and the mode that it has."""
    was = os.stat(path)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix='.disksnap-')
    try:
        with open(handle, 'w', encoding='utf-8', errors='surrogateescape') as target:
            target.write(text)
            os.fchown(target.fileno(), was.st_uid, was.st_gid)
            os.fchmod(target.fileno(), was.st_mode & 0o7777)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
