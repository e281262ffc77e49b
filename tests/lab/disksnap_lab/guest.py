# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One guest of a lab: its domain, its agent, what its writers acknowledged, and its end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import libvirt

from . import acks, agent, images
from .acks import Gap
from .agent import ExecResult
from .domain_xml import HostFiles
from .errors import LabError
from .images import MadeDisk
from .waiting import wait_for
from .watch import Watch

if TYPE_CHECKING:
    from .lab import Lab

_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: 'running',
    libvirt.VIR_DOMAIN_PAUSED: 'paused',
    libvirt.VIR_DOMAIN_SHUTOFF: 'shutoff',
    libvirt.VIR_DOMAIN_CRASHED: 'crashed',
    libvirt.VIR_DOMAIN_SHUTDOWN: 'shutdown',
    libvirt.VIR_DOMAIN_PMSUSPENDED: 'pmsuspended',
    libvirt.VIR_DOMAIN_BLOCKED: 'running',
}


class Guest:
    """A guest that define() made, in this process or an earlier one."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.name = name
        self._files = HostFiles(lab.paths.guests / name)
        try:
            self._record: dict[str, Any] = json.loads(self.record_path(lab, name).read_text(encoding='utf-8'))
        except FileNotFoundError:
            raise LabError(f'Lab {lab.name} has no guest {name}') from None

    @staticmethod
    def record_path(lab: Lab, name: str) -> Path:
        """Where define() keeps what it made."""
        return lab.paths.guests / name / 'guest.json'

    @property
    def console(self) -> Path:
        """File with all that the guest's serial console said."""
        return self._files.console

    @property
    def images(self) -> Path:
        """Directory of the guest's own images; remove() deletes it with all in it."""
        return Path(self._record['directory'])

    @property
    def agent(self) -> str:
        """exec, noexec, silent or none, as in the spec."""
        return str(self._record['agent'])

    @property
    def disks(self) -> dict[str, MadeDisk]:
        """Target -> disk as it was made. Snapshots and merges since then are not in here."""
        return {made['target']: MadeDisk.from_json(made) for made in self._record['disks']}

    @property
    def written(self) -> list[str]:
        """Targets that have a writer."""
        return list(self._record['written'])

    @property
    def domain(self) -> libvirt.virDomain:
        """Looked up anew each time, so it survives a restart of libvirtd."""
        return self.lab.lookup(self.name)

    @property
    def state(self) -> str:
        """running, paused, shutoff, crashed, or gone (transient and ended)."""
        try:
            return _STATES.get(self.domain.state()[0], 'unknown')
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return 'gone'
            raise

    def source_file(self, target: str) -> str:
        """The image or device that the domain uses for this disk right now; of an NBD disk the export's name."""
        return self.lab.disk_source(self.domain, target)

    def start(self, paused: bool = False) -> None:
        """Start a guest that is shut off."""
        self.domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED if paused else 0)

    def wait_up(self, timeout: float = 180) -> None:
        """Wait until the guest has mounted its disks and started its writers."""
        wait_for(f'sign of guest {self.name} on {self.console}', lambda: 'LAB up' in self.console_text(), timeout)

    def wait_agent(self, timeout: float = 180) -> None:
        """Wait until the agent answers, which is after the disks are mounted."""
        if self.agent in ('silent', 'none'):
            raise LabError(f'Guest {self.name} has no agent to wait for')
        wait_for(f'agent in guest {self.name} (see {self.console})', lambda: agent.answers(self.domain), timeout)

    def wait_acked(self, count: int = 1, timeout: float = 30) -> dict[str, int]:
        """Wait until each writer has acknowledged count records more than now; returns acked()."""
        before = self.acked()
        wait_for(
            f'{count} new records on each disk of guest {self.name}',
            lambda: all(seq >= before[target] + count for target, seq in self.acked().items()),
            timeout,
        )
        return self.acked()

    def dirty_mib(self) -> float:
        """MiB of dirty pages in the guest, all disks together; asks the agent."""
        meminfo = self.exec('cat', '/proc/meminfo').out
        return next(int(line.split()[1]) for line in meminfo.splitlines() if line.startswith('Dirty:')) / 1024

    def wait_dirty(self, timeout: float = 180) -> None:
        """Wait until all pages of dirty_mib are dirty for the first time."""
        wait_for(f'dirty pages in guest {self.name}', lambda: 'LAB dirty ' in self.console_text(), timeout)

    def console_text(self) -> str:
        """All that the console said since the last start."""
        try:
            return self.console.read_text(encoding='utf-8', errors='replace')
        except FileNotFoundError:
            return ''

    def acked(self) -> dict[str, int]:
        """Target -> last acknowledged record. A copy taken after this moment must have it."""
        return {target: acks.last_synced(self._files.acks(target)) for target in self.written}

    def acks_path(self, target: str) -> Path:
        """File of a writer's acknowledgements, for acks.read()."""
        return self._files.acks(target)

    def gaps(self, since: dict[str, int] | None = None, over_ms: float = 0) -> dict[str, list[Gap]]:
        """Target -> times between neighbouring records that were longer than over_ms, of records after since."""
        start = since or {}
        return {target: acks.gaps(self._files.acks(target), start.get(target, 0), over_ms) for target in self.written}

    def longest_gap_ms(self, since: dict[str, int] | None = None) -> float:
        """The longest time that writes to any disk stood still, of records after since."""
        start = since or {}
        return max((acks.longest_gap_ms(self._files.acks(t), start.get(t, 0)) for t in self.written), default=0.0)

    def watch(self) -> Watch:
        """A context that measures gaps by the host's clock: `with g.watch() as watch: ...; watch.longest_gap_ms`."""
        return Watch({target: self._files.acks(target) for target in self.written})

    def exec(self, *argv: str, timeout: float = 30) -> ExecResult:
        """Run a program in the guest by the agent, for example g.exec('sync')."""
        return agent.execute(lambda: self.domain, list(argv), timeout)

    def agent_command(self, name: str, **arguments: Any) -> Any:
        """Any agent command; underscores in argument names stand for hyphens."""
        return agent.command(self.domain, name, **arguments)

    def destroy(self) -> None:
        """Pull the plug. A guest that does not run is fine."""
        try:
            self.domain.destroy()
        except libvirt.libvirtError as error:
            if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
                raise

    def shutdown(self, timeout: float = 30) -> None:
        """Shut down cleanly by the agent: writers end, file systems are unmounted."""
        self.domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT)
        wait_for(f'end of guest {self.name}', lambda: self.state in ('shutoff', 'gone'), timeout)

    def remove(self) -> None:
        """End the guest and forget it, with its images and all that lies beside them."""
        self.destroy()
        flags = libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        try:
            self.domain.undefineFlags(flags | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
        for made in self.disks.values():
            images.clear(self.lab.daemon, self.name, made)
        for pool in self._record['pools']:
            self.lab.remove_pool(pool)
        if self._record['own_directory']:
            shutil.rmtree(self.images, ignore_errors=True)
        shutil.rmtree(self._files.directory, ignore_errors=True)
