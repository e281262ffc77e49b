# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the command line says of the guests of a lab."""

from __future__ import annotations

from . import agent
from .guest import Guest
from .lab import Lab


def _agent_state(guest: Guest, state: str) -> str:
    if state != 'running' or guest.agent in ('none', 'silent'):
        return guest.agent if state == 'running' else '-'
    return 'up' if agent.answers(guest.domain) else 'not yet'


def show_guests(lab: Lab) -> None:
    """A line for each: state, agent, and what its writers acknowledged."""
    for guest in lab.guests():
        state = guest.state
        acked = ' '.join(f'{target}={seq}' for target, seq in guest.acked().items())
        print(f'  {guest.name:<20} {state:<9} agent {_agent_state(guest, state):<8} acknowledged {acked or "-"}')
    strangers = {d.name() for d in lab.connection.listAllDomains()} - {guest.name for guest in lab.guests()}
    for name in sorted(strangers):
        print(f'  {name:<20} not made by the lab')
