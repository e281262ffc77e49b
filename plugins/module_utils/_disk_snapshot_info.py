# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one call of the module disk_snapshot_info."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disksnap.libvirt.plugins.module_utils import _chain
from ansible_collections.disksnap.libvirt.plugins.module_utils._audit import Findings, audit
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Host, look_up, open_host
from ansible_collections.disksnap.libvirt.plugins.module_utils._info import Teller
from ansible_collections.disksnap.libvirt.plugins.module_utils._problem import Problem
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import Request, requests
from ansible_collections.disksnap.libvirt.plugins.module_utils._survey import DomainView, Survey


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Look at the domains that the task names, or at the whole host."""
    params = module.params
    named = params['name'] is not None or params['domains'] is not None
    wanted = requests(params) if named else None
    with open_host(params['uri']) as host:
        disks = _named(host, wanted) if wanted is not None else None
        findings = audit(host, lambda view: disks is None or view.uuid in disks)
        teller = Teller(findings)
        result: dict[str, t.Any] = {
            'changed': False,
            'domains': [teller.domain(view, targets) for view, targets in chosen(findings.survey, disks)],
            'problems': [problem.to_dict() for problem in _elsewhere(findings, disks is None)],
            'pools': teller.pools(),
        }
        result['warnings'] = _warnings(findings, disks)
        return result


def chosen(
    found: Survey, disks: t.Mapping[str, tuple[str, set[str] | None]] | None
) -> list[tuple[DomainView, set[str] | None]]:
    """The domains that are told, each with the targets of its disks.

    Args:
        found: the whole host.
        disks: what the task names, as ``_named`` has it; None is all.

    Raises:
        DiskSnapError: if one that is named could not be read.
    """
    if disks is None:
        return [(view, None) for view in found.domains]
    views = {view.uuid: view for view in found.domains}
    for uuid, (name, _targets) in disks.items():
        if uuid not in views:
            error = found.unread.get(name)
            raise DiskSnapError(
                'Failed to read the domain',
                domain=name,
                why=(error.why or error.what) if error else 'it went away while the host was read',
                hint='Look at it with virsh.',
                code=error.code if error else None,
            )
    return [(views[uuid], targets) for uuid, (_name, targets) in disks.items()]


def _named(host: Host, wanted: t.Sequence[Request]) -> dict[str, tuple[str, set[str] | None]]:
    """UUIDs of the domains that the task names, in its order, each with its name and the targets of its disks.

    None as targets is all.

    Raises:
        DiskSnapError: if one is not there.
    """
    found: dict[str, tuple[str, set[str] | None]] = {}
    for domain, request in zip(look_up(host, [one.name for one in wanted]), wanted):
        targets = None
        if request.disks is not None:
            disks = domain.read().disks
            targets = {_chain.find(disks, entry['target'], domain).target for entry in request.disks}
        found[domain.uuid] = domain.name, targets
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
