# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a play can take all guests of its hosts at one instant; it runs on the controller and reaches no host."""

from __future__ import annotations

import math
import typing as t
from dataclasses import dataclass

from ansible.plugins.action import ActionBase

LINEAR = ('linear', 'ansible.builtin.linear', 'ansible.legacy.linear')
# a step of one host, with the way there and back, in seconds
STEP = 1.0
_INSTEAD = 'or use fleet_snapshot_consistency=host'


@dataclass(frozen=True)
class Circumstances:
    """What a play says of itself. ``strategy`` is None where ansible-core does not tell."""

    hosts: tuple[str, ...]
    active: tuple[str, ...]
    batch: tuple[str, ...]
    forks: int
    strategy: str | None
    job_template: str | None = None
    workflow: str | None = None


def refusal(found: Circumstances, ranks: int, max_frozen: float) -> str | None:
    """Why it cannot, in a sentence or two, and what to do; None if it can."""
    return _serial(found) or _strategy(found) or _slice(found) or _missing(found) or _forks(found, ranks, max_frozen)


def _serial(found: Circumstances) -> str | None:
    if len(found.batch) >= len(found.active):
        return None
    return (
        'The play has serial set, and a snapshot of all hosts at one instant needs all of them at once. '
        f'Leave serial out, {_INSTEAD}.'
    )


def _strategy(found: Circumstances) -> str | None:
    if found.strategy is None or found.strategy in LINEAR:
        return None
    return (
        f'The play has the strategy {found.strategy}, by which hosts do not wait for one another, and a snapshot of '
        f'all hosts at one instant needs that. Leave strategy out, {_INSTEAD}.'
    )


def _slice(found: Circumstances) -> str | None:
    """AWX passes no number of a slice; the workflow that it makes of the slices has the name of the job template."""
    if found.workflow is None or found.workflow != found.job_template:
        return None
    return (
        f'This job looks like a slice of the job template {found.job_template}: it has a part of the hosts, and each '
        f'slice would be an instant of its own. Set its job slices to 1, {_INSTEAD}; if it is no slice, give the '
        'workflow another name than the template.'
    )


def _missing(found: Circumstances) -> str | None:
    missing = [host for host in found.hosts if host not in found.active]
    if not missing:
        return None
    return (
        f'{", ".join(missing)} failed or could not be reached before, so that the snapshot would not be of the whole '
        'fleet. Mend that, or leave it out with --limit.'
    )


def _forks(found: Circumstances, ranks: int, max_frozen: float) -> str | None:
    hosts = len(found.active)
    window = expected_window(hosts, found.forks, ranks)
    if window <= max_frozen:
        return None
    fewer = found.forks < hosts
    remedy = 'Run with more forks, up to one a host' if fewer else 'Name fewer patterns in fleet_snapshot_order'
    return (
        f'{hosts} hosts with {found.forks} forks take about {window:g} s from the first freeze to the last thaw, and '
        f'fleet_snapshot_max_frozen allows {max_frozen:g} s. {remedy}, or allow more.'
    )


def expected_window(hosts: int, forks: int, ranks: int) -> float:
    """Seconds from the first freeze to the last thaw: every fork does one host after the other.

    A freeze for each rank, the commit, and with several ranks a thaw for each.
    """
    steps = ranks * (2 if ranks > 1 else 1) + 1
    return math.ceil(hosts / forks) * steps * STEP


def strategy_of(task: t.Any) -> str | None:
    """The strategy of the play that a task is of; None where it cannot be found."""
    while task is not None:
        play = getattr(task, '_play', None)
        if play is not None:
            return str(play.strategy)
        task = getattr(task, '_parent', None)
    return None


class ActionModule(ActionBase):
    """What Ansible looks for."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Fail where the play cannot do it."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        known = task_vars or {}
        _checked, args = self.validate_argument_spec(
            {
                'ranks': {'type': 'int', 'required': True},
                'max_frozen': {'type': 'float', 'required': True},
                'job_template': {'type': 'str'},
                'workflow': {'type': 'str'},
            }
        )
        found = Circumstances(
            hosts=tuple(known.get('ansible_play_hosts_all', ())),
            active=tuple(known.get('ansible_play_hosts', ())),
            batch=tuple(known.get('ansible_play_batch', ())),
            forks=int(known.get('ansible_forks', 1)),
            strategy=strategy_of(self._task),
            job_template=args['job_template'],
            workflow=args['workflow'],
        )
        why = refusal(found, args['ranks'], args['max_frozen'])
        result['changed'] = False
        if why is not None:
            result.update(failed=True, msg=f'{why} Nothing was changed.')
        return result
