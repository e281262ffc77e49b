# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether all hosts of a fleet have come to the same point."""

from __future__ import annotations

import json
import typing as t

from ansible.utils.unsafe_proxy import wrap_var

DOCUMENTATION = r"""
name: fleet_verdict
short_description: Whether all hosts of a fleet have gone through a step of a snapshot
version_added: 1.0.0
author:
  - The disksnap.libvirt contributors (@disksnap)
description:
  - Judges the registered results of one step of M(disksnap.libvirt.snapshot_step), of all hosts at once. The role
    P(disksnap.libvirt.fleet_snapshot#role) asks it after each step, and goes on if all hosts have come along.
options:
  _input:
    description:
      - The registered result of each host, keyed by the host's name; empty where a host has none. A host that skipped
        the step, or answers V(nothing), has no guest to take.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Whether all hosts are ready
  ansible.builtin.set_fact:
    verdict: >-
      {{ dict(ansible_play_hosts_all | zip(ansible_play_hosts_all | map('extract', hostvars)
              | map(attribute='prepared', default='')))
         | disksnap.libvirt.fleet_verdict }}
  run_once: true
"""

RETURN = r"""
_value:
  description: The verdict.
  type: dict
  contains:
    go:
      description: Whether all hosts have gone through the step.
      type: bool
    why:
      description: If not, why, in a sentence for each host that failed.
      type: str
    state:
      description:
        - The state that is to be made of it, as V(prepared) or V(committed) where all hosts have that, or V(present)
          where all have the snapshot.
        - V(finish) where some have it as V(present) and the others as V(committed), all of one group.
        - V(mixed) where it is V(committed) on some hosts only, of a group that is V(present) on none, so that it can be
          undone, or V(left) on some.
        - V(partial) where it is V(present) on some hosts only, or on all and not of one group.
        - V(nothing) where no host has a guest to take.
      type: str
    group:
      description: The group of the snapshot that is there on some hosts, if it is one.
      type: str
    there:
      description: The hosts where it is V(present) or V(committed).
      type: list
      elements: str
    answers:
      description: What the hosts that have a guest to take say was changed, and on which domains, keyed by host.
      type: dict
    warnings:
      description: What the hosts warn of, keyed by host.
      type: dict
    interrupted:
      description:
        - The groups that are V(committed) or V(left) on some host and V(present) on none, if all hosts have answered.
      type: list
      elements: str
"""

PREPARED = 'prepared'
COMMITTED = 'committed'
PRESENT = 'present'
LEFT = 'left'
NOTHING = 'nothing'
_KEPT = ('changed', 'domains')


def fleet_verdict(results: dict[str, t.Any]) -> dict[str, t.Any]:
    """The verdict over one step."""
    answers: dict[str, dict[str, t.Any]] = {}
    faults = []
    for host, result in results.items():
        fault, answer = _judge(result)
        if fault is not None:
            faults.append(f'{host}: {fault}')
        elif answer and answer.get('state') != NOTHING:
            answers[host] = answer
    states = {answer.get('state', PREPARED) for answer in answers.values()}
    # guests of one host that are of no common group are not of one instant with those of other hosts either
    groups = {
        state: {answer.get('group') or f'?{host}' for host, answer in answers.items() if answer.get('state') == state}
        for state in (PRESENT, COMMITTED, LEFT)
    }
    known = groups[PRESENT] | groups[COMMITTED] | groups[LEFT]
    interrupted = sorted((groups[COMMITTED] | groups[LEFT]) - groups[PRESENT]) if not faults else []
    verdict = {
        'go': not faults,
        'why': ' '.join(faults),
        'state': _state(states, known, interrupted),
        'group': next(iter(known)) if len(known) == 1 else '',
        'interrupted': interrupted,
        'there': sorted(host for host, answer in answers.items() if answer.get('state') in groups),
        'answers': {
            host: {key: _plain(answer[key]) for key in _KEPT if key in answer} for host, answer in answers.items()
        },
        'warnings': {host: _plain(answer['warnings']) for host, answer in answers.items() if answer.get('warnings')},
    }
    # hosts have said this, and guests through them: it is never a template
    return t.cast('dict[str, t.Any]', wrap_var(verdict))


def _state(states: set[str], groups: set[str], interrupted: t.Sequence[str]) -> str:
    if not states:
        return 'nothing'
    if len(states) == 1 and len(groups) <= 1 and states != {LEFT}:
        return next(iter(states))
    if states == {PRESENT, COMMITTED} and len(groups) == 1:
        return 'finish'
    return 'mixed' if interrupted else 'partial'


def _judge(result: t.Any) -> tuple[str | None, dict[str, t.Any]]:
    """Why the host has not gone through the step (None: it has), and what it answered."""
    if not isinstance(result, t.Mapping) or not result:
        return 'it has not come to this step. Leave it out of the play, or set fleet_snapshot_domains to [] for it.', {}
    if result.get('unreachable'):
        return f'it cannot be reached: {_sentence(result.get("msg"))}', {}
    if result.get('skipped'):
        return None, {}
    if isinstance(result.get('results'), (list, tuple)):
        judged = [_judge(one) for one in result['results']]  # of a loop
        return next((one for one in judged if one[0] is not None), judged[-1] if judged else (None, {}))
    answer = _answer(result) if 'stdout' in result else dict(result)
    if answer is None:
        said = str(result.get('stdout') or '').strip() or str(result.get('stderr') or result.get('msg') or '')
        return f'it could not be told what to do: {_sentence(said)}', {}
    if answer.get('failed'):
        return _sentence(answer.get('msg')), {}
    return None, answer


def _answer(result: t.Mapping[str, t.Any]) -> dict[str, t.Any] | None:
    """The line of JSON among what came back; a login may have put words of its own before it."""
    for line in reversed(str(result['stdout']).splitlines()):
        if line.lstrip().startswith('{'):
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict) and 'failed' in found:
                return found
    return None


def _plain(value: t.Any) -> t.Any:
    """The value in containers of Python's own: ansible-core has some that cannot be wrapped."""
    if isinstance(value, t.Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value


def _sentence(text: t.Any) -> str:
    words = ' '.join(str(text or 'no reason was given').split()).rstrip('.')
    return f'{words}.'


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter of this file."""
        return {'fleet_verdict': fleet_verdict}
