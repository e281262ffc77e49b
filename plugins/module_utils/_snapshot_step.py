# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one call of the module snapshot_step."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disksnap.libvirt.plugins.module_utils import _array, _part
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Host, open_host
from ansible_collections.disksnap.libvirt.plugins.module_utils._patterns import matches
from ansible_collections.disksnap.libvirt.plugins.module_utils._revert import halt
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import Request, refuse_time, selection
from ansible_collections.disksnap.libvirt.plugins.module_utils._take import TakeOptions


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Do the step that the task names."""
    params, check = module.params, module.check_mode
    choose, options = selection(params), replace(TakeOptions.of(params), arrays=True)
    for option in ('patience', 'timeout'):
        refuse_time(option, params[option])

    def select(host: Host) -> list[Request]:
        return ranked(choose(host), params['order'])

    if params['step'] == 'prepare' and not check:
        ranks = max(1, len(params['order']))
        part = _part.Part(params['uri'], select, options, params['group'], ranks, params['patience'])
        return _part.prepare(part, timeout=params['timeout'])
    with open_host(params['uri']) as host:
        if params['step'] == 'prepare':
            return _part.predict(host, select(host), options)
        return _later_step(params, host, select(host), check=check)


def _later_step(params: dict[str, t.Any], host: Host, wanted: list[Request], *, check: bool) -> dict[str, t.Any]:
    name, group, step = params['snapshot_name'], params['group'], params['step']
    if step in ('finish', 'abandon'):
        act = _part.finish if step == 'finish' else _part.abandon
        return act(host, wanted, name, group, check=check)
    if step == 'volumes':
        return _array.volumes(host, wanted, name, group)
    if step == 'removing':
        return _array.removing(host, wanted, name, group, check=check)
    if step == 'removed':
        return _array.removed(host, wanted, name, group, check=check)
    if step == 'reverted':
        return _array.reverted(host, wanted, name, check=check)
    return halt(host, wanted, name, force=params['force'], timeout=params['timeout'], check=check)


def ranked(wanted: t.Sequence[Request], order: t.Sequence[str]) -> list[Request]:
    """Give each domain the rank of the first pattern that its name matches; one that matches none has the first."""
    return [
        replace(request, rank=next((rank for rank, one in enumerate(order) if matches(request.name, one)), 0))
        for request in wanted
    ]
