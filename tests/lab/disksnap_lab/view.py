# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A system mounted for one lab: a directory to chroot into, in which the lab's files have the paths they have outside.

libvirtd and QEMU run in it, within the lab's namespaces, and so may anything else: interpreter() is its Python.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from . import mounts
from .commands import require, run
from .paths import SOURCE, LabPaths, root

_CHECKOUT = SOURCE.parents[1]
# of this machine, beside the lab's files and the checkout; the last is where Ansible puts the modules
_SHARED = [Path(path) for path in ('/dev', '/proc', '/sys', '/run', '/tmp', tempfile.gettempdir())]
_SHARED += [Path.home() / '.ansible']
# What is in the view may start it as well, as a job that Ansible has put into the background does.
_PYTHON = """#!/bin/sh
[ "$DISKSNAP_VIEW" != "{view}" ] || exec /usr/bin/python3 "$@"
DISKSNAP_VIEW="{view}" exec {chroot} "{view}" /usr/bin/python3 "$@"
"""


def mounted(paths: LabPaths) -> bool:
    """Whether the lab has a view, and so runs in another system than this machine's."""
    return paths.view in mounts.below(paths.view)


def mount(paths: LabPaths, tree: Path) -> None:
    """Make the view in which the lab runs; its own mounts are there already."""
    mount_at(paths.view, tree, paths.base)
    paths.python.write_text(_PYTHON.format(chroot=require('chroot'), view=paths.view), encoding='utf-8')
    paths.python.chmod(0o755)


def mount_at(view: Path, tree: Path, base: Path) -> None:
    """Make a view, also one for others than the lab itself, which see its files (base) in it."""
    view.mkdir(exist_ok=True)
    run(['mount', '--bind', tree, view])
    # else what is mounted on it would show up in the tree, and in the views of other labs
    run(['mount', '--make-private', view])
    for path in dict.fromkeys([*_SHARED, root(), _CHECKOUT]):
        path.mkdir(exist_ok=True)
        _bind(path, view, '--bind')
    run(['mount', '-o', 'remount,bind,ro', inside(_CHECKOUT, view)])
    # What is mounted below the lab's files later is seen here as well; but to unmount it here must not reach them.
    _bind(base, view, '--rbind')
    run(['mount', '--make-rslave', inside(base, view)])


def unmount(view: Path) -> None:
    """Undo mount_at(); nothing to do is fine."""
    if view.exists():
        mounts.unmount_below(view)
        view.rmdir()


def inside(path: Path, view: Path) -> Path:
    """Where a path of the view is, seen from outside."""
    return view / path.relative_to('/')


def _bind(path: Path, view: Path, how: str) -> None:
    point = inside(path, view)
    point.mkdir(parents=True, exist_ok=True)
    run(['mount', how, path, point])


def interpreter(paths: LabPaths) -> str:
    """The Python that belongs to the lab's libvirtd, as a program of this machine."""
    return str(paths.python) if mounted(paths) else '/usr/bin/python3'
