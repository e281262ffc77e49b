# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest on a hypervisor: what its writers acknowledged, and what its domain looks like; all of it by ssh."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lxml import etree

from . import acks
from . import hypervisor_layout as layout
from .acks import Gap
from .domain_xml import HostFiles
from .hypervisor_ssh import Connection
from .waiting import wait_for


class HypervisorGuest:
    """One of the guests in hypervisor_layout.DISKS."""

    def __init__(self, ssh: Connection, name: str) -> None:
        self._ssh = ssh
        self.name = name
        self.disks = dict(layout.DISKS[name])

    def _virsh(self, *words: str, timeout: float = 300) -> str:
        return self._ssh.run(['virsh', '-q', *words], timeout=timeout).stdout

    @property
    def written(self) -> list[str]:
        """Targets that have a writer: all."""
        return list(self.disks)

    @property
    def state(self) -> str:
        """As virsh says: running, paused, shut off, ..."""
        return self._virsh('domstate', self.name).strip()

    def running(self) -> bool:
        """Whether it runs."""
        return self.state == 'running'

    def xml(self, inactive: bool = False) -> Any:
        """The domain's definition as an lxml element."""
        flags = ['--inactive'] if inactive else []
        return etree.fromstring(self._virsh('dumpxml', self.name, *flags))

    def chain(self, target: str, inactive: bool = False) -> list[str]:
        """Files, devices or volumes of a disk from the active layer down, as the domain's XML shows them."""
        [holder] = self.xml(inactive).xpath('devices/disk[target/@dev=$target]', target=target)
        found = []
        while holder is not None and holder.find('source') is not None:
            source = holder.find('source')
            found.append(next(source.get(key) for key in ('file', 'dev', 'volume', 'name') if source.get(key)))
            holder = holder.find('backingStore')
        return found

    def agent_command(self, command: str, timeout: float = 30, **arguments: Any) -> Any:
        """Any agent command; underscores in argument names stand for hyphens."""
        request = {'execute': command, 'arguments': {key.replace('_', '-'): arguments[key] for key in arguments}}
        words = ['qemu-agent-command', self.name, '--timeout', str(int(timeout)), json.dumps(request)]
        return json.loads(self._virsh(*words, timeout=timeout + 30))['return']

    def frozen(self) -> bool:
        """Whether the agent says that file systems are frozen."""
        return bool(self.agent_command('guest-fsfreeze-status') == 'frozen')

    def wait_agent(self, timeout: float = 180) -> None:
        """Wait until the agent answers."""
        ping = ['virsh', '-q', 'qemu-agent-command', self.name, '--timeout', '10', '{"execute":"guest-ping"}']

        def answers() -> bool:
            return self._ssh.run(ping, check=False).returncode == 0

        wait_for(f'agent in guest {self.name} of the hypervisor', answers, timeout, 2)

    def _copied_acks(self, directory: str) -> HostFiles:
        """The files of acknowledgements as they are now; tar says 1 where one grows while it is read."""
        remote = layout.guest_files(self.name)
        argv = ['tar', '-c', '-C', str(remote.directory), *(remote.acks(target).name for target in self.written)]
        with tarfile.open(fileobj=io.BytesIO(self._ssh.run_bytes(argv, check=False).stdout)) as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is not None:
                    (Path(directory) / Path(member.name).name).write_bytes(content.read())
        return HostFiles(Path(directory))

    def acked(self) -> dict[str, int]:
        """Target -> last acknowledged record. A copy taken after this moment must have it."""
        with tempfile.TemporaryDirectory() as directory:
            files = self._copied_acks(directory)
            return {target: acks.last_synced(files.acks(target)) for target in self.written}

    def first_of_this_boot(self) -> dict[str, int]:
        """Target -> the first record that its writer acknowledged since the guest was started last."""
        with tempfile.TemporaryDirectory() as directory:
            files = self._copied_acks(directory)
            return {target: acks.first_of_this_boot(files.acks(target)) for target in self.written}

    def gaps(self, since: Mapping[str, int] | None = None, over_ms: float = 0) -> dict[str, list[Gap]]:
        """Target -> times between neighbouring records that were longer than over_ms, of records after since."""
        start = since or {}
        with tempfile.TemporaryDirectory() as directory:
            files = self._copied_acks(directory)
            return {target: acks.gaps(files.acks(target), start.get(target, 0), over_ms) for target in self.written}

    def longest_gap_ms(self, since: Mapping[str, int] | None = None) -> float:
        """The longest time that writes to any disk stood still, of records after since."""
        return max((gap.ms for of_disk in self.gaps(since=since).values() for gap in of_disk), default=0.0)

    def wait_acked_beyond(self, before: Mapping[str, int], count: int = 1, timeout: float = 120) -> dict[str, int]:
        """Wait until the writers of these targets have acknowledged count records more; returns acked()."""

        def beyond() -> dict[str, int] | None:
            now = self.acked()
            return now if all(now[target] >= seq + count for target, seq in before.items()) else None

        return wait_for(f'{count} new records on disks of guest {self.name} of the hypervisor', beyond, timeout, 0.2)

    def wait_acked(self, count: int = 1, timeout: float = 120) -> dict[str, int]:
        """Wait until each writer has acknowledged count records more than now; returns acked()."""
        return self.wait_acked_beyond(self.acked(), count, timeout)
