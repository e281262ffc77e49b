# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that share their blocks: clone one into another, and replace one by a clone of another at one stroke."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _ioctl
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError

# what a clone says of itself: whose it is
MARK = 'user.disksnap'
_SUFFIX = '.disksnap-revert'

_CAUSES = {
    errno.EXDEV: ('they are on different file systems, or on mounts that this kernel does not clone between', None),
    errno.EOPNOTSUPP: ('the file system cannot share blocks between files', None),
    errno.ENOTTY: ('the file system cannot share blocks between files', None),
    errno.EINVAL: (
        'the file system does not share blocks between these two files',
        'On btrfs both must be nodatacow (chattr +C), or neither.',
    ),
    errno.ENOSPC: ('no space is left on the file system', 'Make room there.'),
    errno.EDQUOT: ('the quota there is used up', 'Make room there.'),
    errno.EROFS: ('the file system is read-only', 'Mount it writable.'),
    errno.ETXTBSY: ('the image is in use as swap space', None),
}


def failure(what: str, error: OSError, *, domain: str | None = None, disk: str | None = None) -> DiskSnapError:
    """The error of ours for what the kernel refused."""
    why, hint = _CAUSES.get(error.errno or 0, (error.strerror or str(error), None))
    return DiskSnapError(what, domain=domain, disk=disk, why=why, hint=hint)


def share(source: int, target: int) -> None:
    """Make the file ``target`` have the blocks of the file ``source``, all of them; both are open descriptors.

    Raises:
        OSError: if the file system refuses.
    """
    fcntl.ioctl(target, _ioctl.CLONE, source)


def _flags(handle: int) -> int | None:
    """The inode flags of an open file; None where the file system has none."""
    buffer = bytearray(8)
    try:
        fcntl.ioctl(handle, _ioctl.GET_FLAGS, buffer, True)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EOPNOTSUPP):
            return None
        raise
    return int(struct.unpack_from('=I', buffer)[0])


def match_cow(source: int, target: int) -> None:
    """Give ``target``, which must be empty, the nodatacow flag of ``source``: btrfs clones only between equals.

    Raises:
        OSError: if the file system refuses.
    """
    wanted, have = _flags(source), _flags(target)
    if wanted is None or have is None or (wanted ^ have) & _ioctl.NO_COW == 0:
        return
    buffer = bytearray(8)
    struct.pack_into('=I', buffer, 0, (have & ~_ioctl.NO_COW) | (wanted & _ioctl.NO_COW))
    fcntl.ioctl(target, _ioctl.SET_FLAGS, buffer)


def mark(handle: int, owner: str) -> None:
    """Write whose clone a file is into the file's attributes, where the mount has some.

    Raises:
        OSError: if there is no room for it; a clone without a mark could not be told from a file of someone else's.
    """
    try:
        os.setxattr(handle, MARK, owner.encode())
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise


def marked(path: str) -> str | None:
    """Whose clone a file is; None if it does not say."""
    try:
        return os.getxattr(path, MARK).decode(errors='replace')
    except OSError:
        return None


# -- replacing --------------------------------------------------------------------------------------------------


def temporary_of(path: str) -> str:
    """The file that ``replace`` makes beside ``path``, and that only a run which died leaves there."""
    directory, name = os.path.split(path)
    while len(os.fsencode(name)) > 255 - len(_SUFFIX) - 1:
        name = name[:-1]
    return os.path.join(directory, f'.{name}{_SUFFIX}')


def replace(path: str, copy: str) -> None:
    """Put a clone of ``copy`` in the place of the file ``path``, which keeps owner, group, mode and attributes.

    At any moment there is either the old file or the whole new one under that name, also after a crash of the host.

    Args:
        path: absolute path without symbolic links; if the file is gone, owner and group are those of the copy.
        copy: a file on the same file system.

    Raises:
        OSError: if the file system refuses; ``path`` is then as it was.
    """
    temporary = temporary_of(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    source = os.open(copy, os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            match_cow(source, target)
            share(source, target)
            _dress(target, path, source)
            os.fsync(target)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        finally:
            os.close(target)
    finally:
        os.close(source)
    sync_directory(os.path.dirname(path))


def _dress(target: int, path: str, copy: int) -> None:
    """Owner, group, mode and extended attributes (SELinux's label is one) as the file had that is replaced."""
    try:
        was = os.stat(path)
    except FileNotFoundError:
        was = os.fstat(copy)
        os.fchown(target, was.st_uid, was.st_gid)
        return
    os.fchown(target, was.st_uid, was.st_gid)
    os.fchmod(target, was.st_mode & 0o7777)
    for name in _attributes(path):
        if name != MARK:
            _set_attribute(target, name, os.getxattr(path, name))


def _attributes(path: str) -> t.Sequence[str]:
    try:
        return os.listxattr(path)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return ()
        raise


def _set_attribute(target: int, name: str, value: bytes) -> None:
    with contextlib.suppress(OSError):  # it may have it already, from the directory
        if os.getxattr(target, name) == value:
            return
    os.setxattr(target, name, value)


def sync_directory(directory: str) -> None:
    """Have the names in a directory written out.

    Raises:
        OSError: if that fails.
    """
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
