# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which guests stand still, and which run though libvirt does not know it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import time
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _records
from ansible_collections.disksnap.libvirt.plugins.module_utils._agent import Agent
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._lock import busy
from ansible_collections.disksnap.libvirt.plugins.module_utils._problem import Problem
from ansible_collections.disksnap.libvirt.plugins.module_utils._survey import DomainView

# seconds that an agent may take, and how many are asked side by side
_AGENT_TIMEOUT = 5.0
_SIDE_BY_SIDE = 16
# seconds after which a freeze that should be over by its record is one that nobody ends
_LATE = 5.0


def frozen(views: t.Sequence[DomainView]) -> dict[str, bool | None]:
    """Whether the file systems of each guest are frozen, by UUID; None where its agent does not say, or has none."""
    asked = [view for view in views if view.state == 'running' and view.now.agent_connected]
    answers: dict[str, bool | None] = dict.fromkeys(view.uuid for view in views)
    if asked:
        with concurrent.futures.ThreadPoolExecutor(min(_SIDE_BY_SIDE, len(asked))) as threads:
            for view, answer in zip(asked, threads.map(_ask, asked)):
                answers[view.uuid] = answer
    return answers


def _ask(view: DomainView) -> bool | None:
    try:
        return Agent(view.handle, _AGENT_TIMEOUT).frozen()
    except DiskSnapError:
        return None


def left_frozen(view: DomainView) -> t.Iterator[Problem]:
    """The problem of a guest that is frozen, if it is not on purpose and for a time."""
    record = view.journal.quiesce
    if busy(view.uuid):
        return
    if record is not None and record.state in (_records.FREEZING, _records.FROZEN):
        if record.boot_id == _records.boot_id():
            age = (time.monotonic_ns() - record.started_ns) / 1e9
        else:
            age = _records.age(record.frozen_at)
        if age < record.max_frozen + _LATE:
            return
    yield Problem(
        'frozen_guest',
        'The file systems of the guest are frozen, and nobody is about to thaw them: whatever writes there hangs.',
        'Run storage_quiesce with state: thawed, or virsh domfsthaw, unless something else, as a backup, is at work.',
    )


def lost(views: t.Sequence[DomainView]) -> dict[str, Problem]:
    """Domains that are shut off for libvirt, and whose QEMU runs on this machine; by UUID."""
    off = {view.uuid: view for view in views if view.state == 'off'}
    problems = {}
    for pid, uuid in _processes() if off else ():
        if uuid in off:
            problems[uuid] = Problem(
                'lost_domain',
                f'libvirt takes the domain for shut off, and its QEMU runs as process {pid}.',
                'Do not start it. The guide "When something dies" says how to get it back: A domain that libvirt has '
                'lost.',
            )
    return problems


def _processes() -> t.Iterator[tuple[int, str]]:
    """Process id and UUID of each QEMU of this machine."""
    for name in os.listdir('/proc'):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):  # it has ended, or is somebody else's
            with open(f'/proc/{name}/cmdline', 'rb') as text:
                words = text.read().split(b'\0')
            if b'-uuid' in words and any(one in words[0] for one in (b'qemu', b'kvm')):
                yield int(name), words[words.index(b'-uuid') + 1].decode('ascii')
