# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks as job templates of AWX: surveys, artifacts, slices, and jobs that are cancelled."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _lock
from ansible_collections.disksnap.libvirt.tests.live.awx import Template
from ansible_collections.disksnap.libvirt.tests.live.harness import (
    Guests,
    Runner,
    chain,
    frozen,
    journal,
    put_back,
    ready,
    until,
    untouched,
)
from disksnap_lab import Guest, GuestSpec, Lab

# what AWX adds to the job of a workflow
WORKFLOW = {'awx_job_launch_type': 'workflow', 'awx_workflow_job_id': 40, 'awx_workflow_job_launch_type': 'manual'}


@pytest.fixture(scope='module')
def both(shared: Guests) -> list[Guest]:
    """An application and its database."""
    made = [shared(GuestSpec(name), wait=False) for name in ('awx-app', 'awx-db')]
    ready(*made)
    return made


@pytest.fixture
def pair(both: list[Guest]) -> Iterator[list[Guest]]:
    """The two as they were made."""
    yield both
    put_back(*both)
    ready(*both)


MakeTemplate = Callable[..., Template]


@pytest.fixture
def template(lab: Lab, tmp_path: Path) -> MakeTemplate:
    """Makes a job template: template('snapshot')."""

    def make(playbook: str, **options: Any) -> Template:
        return Template(lab, playbook, tmp_path / playbook, **options)

    return make


def names(result: dict[str, Any]) -> list[str]:
    return [domain['name'] for domain in result['domains']]


def test_snapshot_and_removal(pair: list[Guest], template: MakeTemplate) -> None:
    app, db = pair
    answers = {
        'fleet_snapshot_name': 'nightly',
        'fleet_snapshot_hosts': 'hv1',
        'fleet_snapshot_domains': 'awx-app\r\nawx-db\n',
        'fleet_snapshot_exclude': 'scratch-*\n*-d?',
        'fleet_snapshot_consistency': 'host',
        'fleet_snapshot_quiesce': 'required',
        'fleet_snapshot_max_frozen': 12.5,
    }
    result = template('snapshot').launch(answers).taken()['hv1']
    assert (result['changed'], result['failed'], result['consistency']) == (True, False, 'host')
    assert names(result) == ['awx-app']
    assert result['domains'][0]['consistency'] == 'filesystem'
    assert [len(chain(guest, 'vda')) for guest in pair] == [2, 1]

    # no answers to the optional questions: all guests that run
    removal = template('merge', blank=None).launch({'fleet_snapshot_name': 'nightly'}).taken()['hv1']
    assert (removal['changed'], removal['state']) == (True, 'absent')
    assert sorted(names(removal)) == ['awx-app', 'awx-db']
    assert [len(chain(guest, 'vda')) for guest in pair] == [1, 1]
    assert journal(app) is journal(db) is None


def test_the_way_back(pair: list[Guest], lab: Lab, run_module: Runner, template: MakeTemplate) -> None:
    db = pair[1]
    run_module('disk_snapshot', {'name': db.name, 'snapshot_name': 'before'})
    restore = template('restore')
    answers = {'fleet_snapshot_name': 'before', 'fleet_snapshot_hosts': 'hv1', 'fleet_snapshot_domains': f'{db.name}\n'}
    with untouched(lab, *pair):
        nobody = restore.launch(answers, extra={'fleet_snapshot_domains': ' \n'})
        assert nobody.status == 'failed'
        assert 'Name the guests' in nobody.printed
    result = restore.launch({**answers, 'fleet_snapshot_force': 'true'}).taken()['hv1']
    assert (result['changed'], names(result)) == (True, [db.name])
    ready(db)


def test_a_part_of_a_chain(pair: list[Guest], lab: Lab, run_module: Runner, template: MakeTemplate) -> None:
    app = pair[0]
    base = chain(app, 'vda')
    for snapshot in ('s1', 's2'):
        run_module('disk_snapshot', {'name': app.name, 'snapshot_name': snapshot})
    merge = template('merge')
    answers = {'fleet_snapshot_merge_domain': app.name, 'fleet_snapshot_merge_disks': 'vda\n'}
    with untouched(lab, *pair):
        refused = merge.launch({**answers, 'fleet_snapshot_name': 's1'})
        assert refused.status == 'failed'
        assert 'leave the other empty' in refused.printed
    top = chain(app, 'vda')[1]
    job = merge.launch({**answers, 'fleet_snapshot_merge_top': top})
    assert job.status == 'successful', job.printed
    result = job.artifacts['fleet_snapshot_merge']['hv1']
    assert result['changed'] is True
    assert result['domains'][0]['disks'][0]['removed'] == [top]
    assert chain(app, 'vda')[1:] == base


def two_hosts(pair: list[Guest]) -> dict[str, dict[str, Any]]:
    """Two hypervisors that are one; each looks after another guest."""
    return {f'hv{number}': {'fleet_snapshot_domains': [guest.name]} for number, guest in enumerate(pair, 1)}


FLEET = {
    'fleet_snapshot_name': 'instant',
    'fleet_snapshot_consistency': 'fleet',
    'fleet_snapshot_quiesce': 'required',
    'fleet_snapshot_order': 'awx-db\nawx-a*\n',
}


def test_a_fleet_of_which_the_inventory_names_the_guests(pair: list[Guest], template: MakeTemplate) -> None:
    snapshot = template('snapshot', hosts=two_hosts(pair), blank='absent', imported=True)
    job = snapshot.launch(FLEET, extra={**WORKFLOW, 'awx_workflow_job_name': 'every night'})
    results = job.taken()
    assert {host: names(result) for host, result in results.items()} == {'hv1': ['awx-app'], 'hv2': ['awx-db']}
    domains = [domain for result in results.values() for domain in result['domains']]
    assert [domain['consistency'] for domain in domains] == ['filesystem', 'filesystem']


def test_a_slice_of_a_fleet(pair: list[Guest], lab: Lab, template: MakeTemplate) -> None:
    one_of_two = dict(list(two_hosts(pair).items())[:1])
    snapshot = template('snapshot', hosts=one_of_two, blank='absent')
    of_a_slice = {**WORKFLOW, 'awx_workflow_job_name': 'snapshot', 'awx_job_template_name': 'snapshot'}
    with untouched(lab, *pair):
        job = snapshot.launch(FLEET, extra=of_a_slice)
    assert job.status == 'failed'
    assert 'a slice of the job template snapshot' in job.printed
    assert 'Nothing was changed' in job.printed
    by_itself = snapshot.launch({**FLEET, 'fleet_snapshot_consistency': 'host'}, extra=of_a_slice)
    assert names(by_itself.taken()['hv1']) == ['awx-app']


def assert_the_next_job_takes_it(snapshot: Template, answers: dict[str, Any], guests: list[Guest]) -> None:
    """After a job that was cancelled: nobody is frozen, and the same job again makes it good."""
    result = snapshot.launch(answers).taken()['hv1']
    assert [domain['consistency'] for domain in result['domains']] == ['filesystem', 'filesystem']
    assert not any(frozen(guest) for guest in guests)
    assert [len(chain(guest, 'vda')) for guest in guests] == [2, 2]
    for guest in guests:
        guest.wait_acked(timeout=60)


def test_cancelled_while_a_guest_is_frozen(pair: list[Guest], template: MakeTemplate) -> None:
    app, db = pair
    snapshot = template('snapshot')
    # a step for each pattern, in which the first guest stands still
    steps = {'fleet_snapshot_order': 'awx-app\n' + 'nobody\n' * 5 + 'awx-db', 'fleet_snapshot_max_frozen': 15}
    job = snapshot.launch({**FLEET, **steps}, cancel=lambda: frozen(app))
    assert job.status == 'canceled', job.printed
    until('both thawed', lambda: not frozen(app) and not frozen(db), 60)
    assert_the_next_job_takes_it(snapshot, FLEET, pair)


@contextlib.contextmanager
def at_work_on(guest: Guest) -> Iterator[None]:
    """As another task on this guest: who comes meanwhile waits."""
    path = Path(_lock.private_directory()) / f'{guest.domain.UUIDString()}.lock'
    with path.open('w', encoding='ascii') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def test_cancelled_when_the_freeze_is_near(pair: list[Guest], template: MakeTemplate) -> None:
    snapshot = template('snapshot')
    answers = {**FLEET, 'fleet_snapshot_consistency': 'host'}
    started: list[str] = []

    def heard(event: dict[str, Any]) -> None:
        if event['event'] == 'runner_on_start' and event['event_data']['task_action'].endswith('disk_snapshot'):
            started.append(event['uuid'])

    with at_work_on(pair[0]):
        job = snapshot.launch(answers, heard=heard, cancel=lambda: bool(started))
    assert job.status == 'canceled', job.printed
    assert job.events[-1]['uuid'] == started[0]
    assert_the_next_job_takes_it(snapshot, answers, pair)
