# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one call of the module disk_snapshot_info."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disksnap.libvirt.plugins.module_utils import _chain
from ansible_collections.disksnap.libvirt.plugins.module_utils._audit import Findings, audit
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Host, look_up, open_host
from ansible_collections.disksnap.libvirt.plugins.module_utils._info import Teller
from ansible_collections.disksnap.libvirt.plugins.module_utils._problem import Problem
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import Request, requests
from ansible_collections.disksnap.libvirt.plugins.module_utils._survey import DomainView


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Look at the domains that the task names, or at the whole host."""
    params = module.params
    named = params['name'] is not None or params['domains'] is not None
    wanted = requests(params) if named else None
    with open_host(params['uri']) as host:
        disks = _named(host, wanted) if wanted is not None else None
        findings = audit(host, lambda view: disks is None or view.uuid in disks)
        teller = Teller(findings)
        views = {view.uuid: view for view in findings.survey.domains}
        chosen = [(views[uuid], disks[uuid]) for uuid in disks if uuid in views] if disks is not None else None
        result: dict[str, t.Any] = {
            'changed': False,
            'domains': [
                teller.domain(view, targets)
                for view, targets in (chosen if chosen is not None else [(view, None) for view in views.values()])
            ],
            'problems': [problem.to_dict() for problem in _elsewhere(findings, disks is None)],
            'pools': teller.pools(),
        }
        result['warnings'] = _warnings(findings, disks)
        return result


def _named(host: Host, wanted: t.Sequence[Request]) -> dict[str, set[str] | None]:
    """UUIDs of the domains that the task names, in its order, each with the targets of its disks; None is all.

    Raises:
        DiskSnapError: if one is not there.
    """
    found: dict[str, set[str] | None] = {}
    for domain, request in zip(look_up(host, [one.name for one in wanted]), wanted):
        targets = None
        if request.disks is not None:
            disks = domain.read().disks
            targets = {_chain.find(disks, entry['target'], domain).target for entry in request.disks}
        found[domain.uuid] = targets
    return found


def _elsewhere(findings: Findings, whole: bool) -> list[Problem]:
    return findings.elsewhere if whole else []


def _warnings(findings: Findings, disks: t.Mapping[str, t.Any] | None) -> list[str]:
    def meant(view: DomainView) -> bool:
        return disks is None or view.uuid in disks

    return [
        f'Another run is at work on the domain {view.name}: its problems are not told.'
        for view in findings.survey.domains
        if view.uuid in findings.at_work and meant(view)
    ]
