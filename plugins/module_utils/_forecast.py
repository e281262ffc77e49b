# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a freeze of a guest would come to, asked of its agent without freezing: for check mode."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.disksnap.libvirt.plugins.module_utils._agent import Agent
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._quiesce import Terms, not_running, too_few


@dataclass(frozen=True)
class Forecast:
    """How many file systems would be frozen and whether a sync would come first; ``error`` is why none would."""

    filesystems: int = 0
    presynced: bool = False
    frozen_already: bool = False
    error: DiskSnapError | None = None


def forecast(domain: Domain, terms: Terms) -> Forecast:
    """Ask the agent. Never raises: what would fail is in ``error``."""
    agent = Agent(domain.handle, terms.agent_timeout)
    try:
        if domain.state != 'running':
            raise not_running(domain.name)
        if agent.frozen():
            return Forecast(frozen_already=True)
        mounted = {entry['mountpoint'] for entry in agent.command('guest-get-fsinfo')}
        commands = agent.command('guest-info')['supported_commands']
        can_sync = any(one['name'] == 'guest-exec' and one['enabled'] for one in commands)
        count = len(mounted & set(terms.mountpoints)) if terms.mountpoints else len(mounted)
        if terms.mountpoints and count < len(set(terms.mountpoints)):
            raise too_few(domain.name, terms.mountpoints, count)
    except DiskSnapError as error:
        return Forecast(error=error)
    except (KeyError, TypeError) as error:
        return Forecast(
            error=DiskSnapError('Failed to read what the guest agent says', domain=domain.name, why=f'no {error} in it')
        )
    return Forecast(count, terms.presync and can_sync)
