# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a run is with its merges, in a file for who waits for it.

The action plugin of snapshot_merge names the file by a token in the environment; without one nothing is written. It is
in the private directory of the user that runs the module: ``/run/disksnap`` for root.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils._lock import private_directory

VARIABLE = 'DISKSNAP_PROGRESS'
_TOKEN = re.compile('[0-9a-f]{32}')
_EVERY = 1.0


class Progress:
    """The file of one run; a context manager that removes it in the end. Best effort: a merge never fails for it."""

    def __init__(self) -> None:
        token = os.environ.get(VARIABLE, '')
        self._path: str | None = None
        if _TOKEN.fullmatch(token):
            with contextlib.suppress(OSError):
                self._path = os.path.join(private_directory(), f'progress-{token}')
        self._began = time.monotonic()
        self._noted = float('-inf')

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._path is not None:
            for path in (self._path, f'{self._path}.new'):
                with contextlib.suppress(OSError):
                    os.unlink(path)

    def note(self, disks: t.Callable[[], t.Sequence[dict[str, t.Any]]]) -> None:
        """Write how far the disks are, once a second at most.

        Args:
            disks: asks for dictionaries of ``domain``, ``target``, ``cur`` and ``end`` in bytes.
        """
        now = time.monotonic()
        if self._path is None or now - self._noted < _EVERY:
            return
        self._noted = now
        text = json.dumps({'seconds': round(now - self._began, 3), 'disks': list(disks())})
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(f'{self._path}.new', flags, 0o600)
            with open(descriptor, 'w', encoding='utf-8') as file:
                file.write(text + '\n')
            os.replace(f'{self._path}.new', self._path)
