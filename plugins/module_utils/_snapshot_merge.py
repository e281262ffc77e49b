# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one call of the module snapshot_merge."""

from __future__ import annotations

import contextlib
import time
import typing as t
from dataclasses import replace

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disksnap.libvirt.plugins.module_utils import _journal, _merge, _result
from ansible_collections.disksnap.libvirt.plugins.module_utils._ends import Wanted, by_ends, by_snapshot, named_disks
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._faults import useless
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain, open_host, refuse_same
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge import DomainMerge, MergeOptions, MergeResult
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import SnapshotRecord
from ansible_collections.disksnap.libvirt.plugins.module_utils._settle import foretold, settle, unsettled, work_on
from ansible_collections.disksnap.libvirt.plugins.module_utils._space import Budget, Floor
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import Request, refuse_time, requests


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Merge, or end merges, as the task says."""
    params, check = module.params, module.check_mode
    wanted, options = requests(params), _options(params)
    began = time.monotonic()
    with open_host(params['uri']) as host, contextlib.ExitStack() as stack:
        domains = [host.domain(request.name) for request in wanted]
        refuse_same(domains)
        if not check:
            stack.enter_context(work_on(domains, wait=options.timeout))
        options = replace(options, timeout=max(0.0, options.timeout - (time.monotonic() - began)))
        if params['state'] == 'aborted':
            return _abort(domains, wanted, params, options, check=check)
        return _merge_all(domains, wanted, params, options, check=check)


def _options(params: dict[str, t.Any]) -> MergeOptions:
    refuse_time('timeout', params['timeout'])
    return MergeOptions(
        direction=params['direction'],
        bandwidth=_merge.parse_bandwidth(params['bandwidth']),
        timeout=float(params['timeout']),
        on_timeout=params['on_timeout'],
        wait=params['wait'],
        own=params['snapshot_name'] is not None and params['direction'] == 'commit',
        budget=Budget(Floor.parse(params['min_free'])),
    )


# -- merged -------------------------------------------------------------------------------------------------------


def _merge_all(
    domains: t.Sequence[Domain],
    wanted: t.Sequence[Request],
    params: dict[str, t.Any],
    options: MergeOptions,
    *,
    check: bool,
) -> dict[str, t.Any]:
    journals = [(domain, _journal.load(domain.handle)) for domain in domains]
    halves = unsettled(journals)
    if check:
        settled = [text for domain in domains for text in foretold(domain, halves[domain.uuid])]
    else:
        settled = settle(journals)
    asked = [
        Wanted(domain) if check and _goes(halves[domain.uuid], params) else _wanted(domain, request, params, options)
        for domain, request in zip(domains, wanted)
    ]
    plans = _merge.plan_all([(one.domain, one.specs) for one in asked], options)
    if check:
        results = {plan.domain.name: _merge.predict(plan, options) for plan in plans}
    else:
        results = _merge.run(plans, options)
    unusable = [text for domain in domains for text in useless(domain, _journal.load(domain.handle))]
    warnings = [*settled, *unusable, *(text for one in asked for text in one.warnings)]
    outcome = {'space': options.budget.told(), **_outcome(plans, results, warnings)}
    outcome['changed'] |= bool(settled)
    _fail_if_unmerged(results, outcome)
    return outcome


def _goes(halves: t.Sequence[SnapshotRecord], params: dict[str, t.Any]) -> bool:
    """Whether what the task names goes with the half-taken snapshots, so that nothing is left to merge."""
    if params['snapshot_name'] is not None:
        return params['snapshot_name'] in [record.name for record in halves]
    paths = [volume.path for record in halves for disk in record.disks for volume in disk.volumes]
    return params['top'] in paths


def _wanted(domain: Domain, request: Request, params: dict[str, t.Any], options: MergeOptions) -> Wanted:
    if params['snapshot_name'] is not None:
        return by_snapshot(domain, request, params['snapshot_name'], options)
    return by_ends(domain, request, params['base'], params['top'], options)


def _outcome(
    plans: t.Sequence[DomainMerge], results: dict[str, list[MergeResult]], warnings: t.Sequence[str]
) -> dict[str, t.Any]:
    merged = [result for of_domain in results.values() for result in of_domain]
    return {
        'changed': any(result.changed for result in merged),
        'domains': [_facts(plan.domain, results[plan.domain.name]) for plan in plans],
        'diff': _result.merge_diff(plans, results),
        'warnings': [
            *warnings,
            *(text for plan in plans for text in plan.warnings),
            *(text for result in merged for text in result.warnings),
        ],
    }


def _facts(domain: Domain, results: t.Sequence[MergeResult]) -> dict[str, t.Any]:
    return {'name': domain.name, 'uuid': domain.uuid, 'disks': [result.to_dict() for result in results]}


def _fail_if_unmerged(results: dict[str, list[MergeResult]], outcome: dict[str, t.Any]) -> None:
    """One sentence for all disks that were not merged; the facts of all come with it."""
    every = [result for of_domain in results.values() for result in of_domain]
    bad = [result for result in every if result.state in (_merge.FAILED, _merge.ABORTED)]
    if not bad:
        return
    causes = ' '.join(result.error or f'The merge of disk {result.target} is {result.state}.' for result in bad)
    count = f'{len(bad)} of {len(every)} disks' if len(every) > 1 else 'the disk'
    error = DiskSnapError(f'Failed to merge {count}', why=causes)
    error.result = outcome
    raise error


# -- aborted ------------------------------------------------------------------------------------------------------


def _abort(
    domains: t.Sequence[Domain],
    wanted: t.Sequence[Request],
    params: dict[str, t.Any],
    options: MergeOptions,
    *,
    check: bool,
) -> dict[str, t.Any]:
    results: dict[str, list[MergeResult]] = {}
    for domain, request in zip(domains, wanted):
        targets = [disk.target for disk in named_disks(domain, request)]
        if params['snapshot_name'] is not None:
            snapshot = _journal.load(domain.handle).snapshots.get(params['snapshot_name'])
            recorded = {record.target for record in snapshot.disks} if snapshot else set()
            targets = [target for target in targets if target in recorded]
        results[domain.name] = _merge.abort(domain, targets, options, check=check)
    every = [result for of_domain in results.values() for result in of_domain]
    outcome = {
        'changed': any(result.changed for result in every),
        'domains': [_facts(domain, results[domain.name]) for domain in domains],
        'diff': _result.disk_diff([]),
        'warnings': [text for result in every for text in result.warnings],
    }
    failed = [result for result in every if result.state == _merge.FAILED]
    if failed:
        error = DiskSnapError('Failed to abort', why=' '.join(result.error or '' for result in failed))
        error.result = outcome
        raise error
    return outcome
