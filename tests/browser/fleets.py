# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fleets of any size, as the modules and the role tell of them; tests/live/test_report.py has real ones."""

from __future__ import annotations

import datetime
import random
from typing import Any

GIB = 1024**3
NAME = 'nightly-2026-03-01'
_BEGIN = datetime.datetime(2026, 3, 1, 2, 0, 0, 300_000, tzinfo=datetime.timezone.utc)


def _moment(seconds: float) -> str:
    return (_BEGIN + datetime.timedelta(seconds=seconds)).strftime('%Y-%m-%dT%H:%M:%S.%f')[:-3] + 'Z'


def fleet(guests: int, *, hosts: int, wrong: int = 0, seed: int = 1) -> dict[str, dict[str, Any]]:
    """So many guests over so many hosts, so many of them with a problem: ``info`` and ``result`` of each host."""
    dice = random.Random(seed)
    made: dict[str, dict[str, Any]] = {}
    for number in range(hosts):
        mine = range(number, guests, hosts)
        domains = [_domain(dice, f'{_kind(one)}{one:03}', bad=one < wrong) for one in mine]
        made[f'hv{number + 1:02}.example.net'] = {
            'info': {'domains': [info for info, _taken in domains], 'problems': [], 'pools': []},
            'result': {
                'snapshot_name': NAME,
                'state': 'present',
                'consistency': 'fleet',
                'changed': True,
                'failed': False,
                'msg': '',
                'domains': [taken for _info, taken in domains],
            },
        }
    return made


def _kind(number: int) -> str:
    return ('db', 'app', 'web', 'customer-relations-management-staging-')[number % 4]


def _domain(dice: random.Random, name: str, *, bad: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    freeze = None
    consistency = dice.choices(['filesystem', 'crash', 'offline'], [30, 1, 1])[0]
    if consistency == 'filesystem':
        freeze = {
            'filesystems': dice.randint(1, 5),
            'presynced': dice.random() < 0.9,
            'frozen_at': _moment(dice.uniform(0, 0.5)),
            'window_ms': round(dice.uniform(500, 1600), 1),
            'thawed_by': 'module',
        }
    targets = ['vda', 'vdb', 'vdc'][: dice.randint(1, 3)]
    disks = [_disk(dice, name, target, layers=dice.randint(1, 4)) for target in targets]
    snapshot = {
        'name': NAME,
        'made_by': 'disksnap',
        'state': 'present',
        'created_at': _moment(-1),
        'group': 'one-group',
        'description': None,
        'consistency': consistency,
        'freeze': freeze,
        'needed_by': [],
        'allocation': dice.randint(1, 40) * GIB // 7,
        'merge_bytes': dice.randint(1, 40) * GIB // 7,
        'disks': [_part(name, target, dice) for target in targets],
    }
    info = {
        'name': name,
        'uuid': f'00000000-0000-0000-0000-{abs(hash(name)) % 10**12:012}',
        'state': 'off' if consistency == 'offline' else 'running',
        'agent': True,
        'frozen': False,
        'snapshots': [snapshot],
        'disks': disks,
        'jobs': [],
        'problems': [_problem(disks[0])] if bad else [],
    }
    taken = {
        'name': name,
        'uuid': info['uuid'],
        'snapshot_name': NAME,
        'created_at': snapshot['created_at'],
        'description': None,
        'consistency': consistency,
        'freeze': freeze,
        'disks': [],
    }
    return info, taken


def _part(name: str, target: str, dice: random.Random) -> dict[str, Any]:
    method = dice.choice(['qemu', 'qemu', 'reflink'])
    path = f'/srv/guests/{name}/{name}-{target}.{NAME}.qcow2'
    return {
        'target': target,
        'method': method,
        'backup_source': {'path': path, 'format': 'qcow2'},
        'volumes': [{'path': path}],
        'allocation': dice.randint(1, 40) * GIB // 3,
        'fault': None,
    }


def _disk(dice: random.Random, name: str, target: str, *, layers: int) -> dict[str, Any]:
    chain = []
    for number in reversed(range(layers)):
        middle = f'.daily-{number}' if number else ''
        chain.append(
            {
                'path': f'/srv/guests/{name}/{name}-{target}{middle}.qcow2',
                'format': 'qcow2',
                'capacity': 64 * GIB,
                'allocation': dice.randint(1, 60 if not number else 6) * GIB,
                'pool': 'guests',
                'volume': f'{name}-{target}{middle}.qcow2',
                'made_by': 'disksnap' if number else None,
                'snapshot': f'daily-{number}' if number else None,
            }
        )
    return {
        'target': target,
        'device': 'disk',
        'type': 'file',
        'format': 'qcow2',
        'path': chain[0]['path'],
        'left_out': None,
        'chain': chain,
    }


def _problem(disk: dict[str, Any]) -> dict[str, Any]:
    path = disk['chain'][-1]['path']
    return {
        'code': 'base_modified',
        'disk': disk['target'],
        'snapshot': None,
        'path': path,
        'message': f'{path} was written to after an overlay was made on it.',
        'remedy': 'What stands on it is not what it was: compare it with a backup.',
    }
