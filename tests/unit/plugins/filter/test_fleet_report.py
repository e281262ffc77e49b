# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a report shows: in which order, at which place of a chart, and which of it is not claimed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.disksnap.libvirt.plugins.filter.fleet_report import fleet_report
from ansible_collections.disksnap.libvirt.plugins.plugin_utils import chains, windows
from ansible_collections.disksnap.libvirt.plugins.plugin_utils.report import FEW, MOST

TEMPLATES = Path(__file__).resolve().parents[4] / 'roles' / 'fleet_snapshot' / 'templates'
ASKED = {'snapshot_name': 's1', 'state': 'present'}


def freeze(at: str = '02:00:00.000', ms: float | None = 100.0, **more: Any) -> dict[str, Any]:
    found = {'filesystems': 2, 'presynced': True, 'frozen_at': f'2026-03-01T{at}Z', 'window_ms': ms}
    return {**found, 'thawed_by': 'module', **more}


def taken(name: str, consistency: str = 'filesystem', **more: Any) -> dict[str, Any]:
    return {
        'name': name,
        'consistency': consistency,
        'freeze': freeze() if consistency == 'filesystem' else None,
        **more,
    }


def seen(name: str, group: str = 'g', problems: tuple[str, ...] = ()) -> dict[str, Any]:
    snapshot = {
        'name': 's1',
        'made_by': 'disksnap',
        'created_at': '2026-03-01T02:00:00.000Z',
        'group': group,
        'consistency': 'filesystem',
        'allocation': 1024,
        'merge_bytes': 1024,
        'disks': [],
    }
    told = [{'code': one, 'disk': 'vda', 'path': None, 'message': 'm.', 'remedy': 'r.'} for one in problems]
    return {'name': name, 'state': 'running', 'snapshots': [snapshot], 'disks': [], 'problems': told}


def result(*domains: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**ASKED, 'failed': False, 'msg': '', 'domains': list(domains), **more}


def info(*domains: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {'domains': list(domains), 'problems': [], **more}


def page(infos: dict[str, Any], results: dict[str, Any], asked: Any = None) -> dict[str, Any]:
    return fleet_report(infos, results, ASKED if asked is None else asked)


# -- what was reached -----------------------------------------------------------------------------------------------


def test_one_instant_over_hosts() -> None:
    shown = page(
        {'a': info(seen('x')), 'b': info(seen('y'))}, {'a': result(taken('x')), 'b': result(taken('y', 'crash'))}
    )
    assert shown['lead'] == [
        '2 guests on 2 hosts: 1 filesystem-consistent, 1 crash-consistent.',
        'All of them were taken at one instant.',
    ]
    assert shown['bad'] is False
    assert shown['title'] == 'Snapshot s1'


@pytest.mark.parametrize(
    ('groups', 'said'),
    [
        (('g', 'g', 'h'), 'The guests of each host were taken at one instant, those of different hosts were not.'),
        (('g', 'h', 'i'), 'They were not taken at one instant.'),
        (('g', 'g', None), None),
    ],
)
def test_other_instants_are_not_called_one(groups: tuple[Any, ...], said: str | None) -> None:
    first, second, third = groups
    shown = page(
        {'a': info(seen('x', first), seen('y', second)), 'b': info(seen('z', third))},
        {'a': result(taken('x'), taken('y')), 'b': result(taken('z'))},
    )
    assert [line for line in shown['lead'] if 'instant' in line] == ([said] if said else [])


def test_nothing_is_said_of_an_instant_where_the_guests_could_not_be_looked_at() -> None:
    shown = page({'a': {'failed': True, 'msg': 'no libvirt.'}}, {'a': result(taken('x'), taken('y'))})
    assert not any('instant' in line for line in shown['lead'])
    assert shown['faults'] == [{'host': 'a', 'text': 'Its guests could not be looked at: no libvirt.'}]
    assert [guest['name'] for guest in shown['hosts'][0]['guests']] == ['x', 'y']


def test_hosts_that_failed_come_first_and_those_that_were_lost_are_there() -> None:
    shown = page(
        {'a': info(seen('x')), 'b': info(), 'c': '', 'd': {'unreachable': True}},
        {'a': result(taken('x')), 'b': result(failed=True, msg='No agent.'), 'd': result(taken('y'))},
    )
    faults = {one['host']: one['text'] for one in shown['faults']}
    assert faults['b'] == 'No agent.'
    assert 'did not come to the end' in faults['c']
    assert faults['d'] == 'The host cannot be reached.'
    assert [host['name'] for host in shown['hosts']] == ['b', 'c', 'd', 'a']
    assert shown['bad'] is True


def test_the_worst_problem_comes_first_and_many_are_folded() -> None:
    many = [seen(f'x{number:02}', problems=('orphaned_overlay',)) for number in range(MOST)]
    shown = page({'a': info(*many), 'b': info(seen('y', problems=('frozen_guest',)))}, {}, {})
    assert shown['problems'][0]['code'] == 'frozen_guest'
    assert len(shown['problems']) == MOST
    assert len(shown['more']) == 1
    assert shown['title'] == 'Audit'
    assert [guest['open'] for guest in shown['hosts'][0]['guests']] == [True] * MOST


def test_a_problem_of_the_host_itself() -> None:
    problem = {'code': 'orphaned_copy', 'disk': None, 'path': '/x', 'message': 'm.', 'remedy': 'r.'}
    shown = page({'a': info(problems=[problem])}, {}, {})
    assert [(one['host'], one['domain']) for one in shown['problems']] == [('a', None)]
    assert shown['hosts'][0]['problems'] == 1


def test_of_many_guests_only_those_with_a_problem_are_unfolded() -> None:
    guests = [seen(f'x{number}') for number in range(FEW)]
    shown = page({'a': info(*guests), 'b': info(seen('bad', problems=('base_modified',)))}, {}, {})
    unfolded = {guest['name']: guest['open'] for host in shown['hosts'] for guest in host['guests']}
    assert [name for name, is_open in unfolded.items() if is_open] == ['bad']
    assert [(host['name'], host['open']) for host in shown['hosts']] == [('b', True), ('a', False)]


def test_what_hosts_say_is_never_a_template() -> None:
    [guest] = page({'a': info(seen('{{ 1 + 1 }}'))}, {}, {})['hosts'][0]['guests']
    assert getattr(guest['name'], '__UNSAFE__', True)
    assert guest['name'] == '{{ 1 + 1 }}'


def test_something_else_is_refused() -> None:
    with pytest.raises(AnsibleFilterError):
        fleet_report(['not', 'by', 'host'])


# -- when they stood still --------------------------------------------------------------------------------------------


def shown_windows(*freezes: dict[str, Any]) -> list[dict[str, Any]]:
    return [windows.window('a', f'g{number}', one) for number, one in enumerate(freezes)]


def test_for_how_long_all_stood_still() -> None:
    both = shown_windows(freeze('02:00:00.000', 500), freeze('02:00:00.300', 400))
    assert windows.together(both) == 'All stood still together for 200 ms.'
    apart = shown_windows(freeze('02:00:00.000', 100), freeze('02:00:00.300', 400))
    assert windows.together(apart) == ''
    assert windows.together([*both, None]) == ''
    assert windows.together(shown_windows(freeze(), freeze(frozen_at=None))) == ''


def test_a_snapshot_that_was_there_before_has_a_chart_of_its_own() -> None:
    charts = windows.charts(
        shown_windows(freeze('02:00:00.000'), freeze('03:00:00.000'), freeze('02:00:01.000')), few=9
    )
    assert [chart['moment'] for chart in charts] == ['2026-03-01 03:00:00.000 UTC', '2026-03-01 02:00:00.000 UTC']
    assert [chart['count'] for chart in charts] == [1, 2]


def test_who_thawed_too_early_stands_out() -> None:
    [one] = shown_windows(freeze(thawed_by='watchdog', filesystems=1))
    assert (one['kind'], one['how']) == ('bad', '1 file system, synced before, thawed by the watchdog')


@given(
    st.lists(
        st.tuples(st.integers(0, 59), st.floats(0, 1e6, allow_nan=False), st.sampled_from(['a', 'b']), st.booleans()),
        max_size=12,
    )
)
@example([(0, 1.00001, 'a', True)])
def test_every_bar_is_within_its_chart(found: list[tuple[int, float, str, bool]]) -> None:
    given_windows = [
        windows.window(
            host, f'g{number}', freeze(f'02:00:{second:02}.000', ms, **({} if known else {'frozen_at': None}))
        )
        for number, (second, ms, host, known) in enumerate(found)
    ]
    charts = windows.charts(given_windows, few=3)
    bars = [one for chart in charts for lane in chart['lanes'] for one in lane['bars']]
    assert sorted(one['guest'] for one in bars) == sorted(f'g{n}' for n, entry in enumerate(found) if entry[3])
    for one in bars:
        assert 0 <= one['left'] <= 100
        assert one['left'] + one['width'] <= 100.01
    for chart in charts:
        assert all(0 <= mark['left'] <= 100 for mark in chart['marks'])
        assert 1 <= len(chart['marks']) <= 8


@pytest.mark.parametrize(
    ('ms', 'text'), [(48.3, '48 ms'), (1250, '1.25 s'), (60_000, '1 min'), (125_000, '2 min 5 s'), (0, '0 ms')]
)
def test_lengths_of_time(ms: float, text: str) -> None:
    assert windows.duration(ms) == text


# -- chains -----------------------------------------------------------------------------------------------------------


def layer(path: str | None, **more: Any) -> dict[str, Any]:
    found = {'path': path, 'format': 'qcow2', 'capacity': 100, 'allocation': 50, 'pool': None, 'made_by': None}
    return {**found, 'snapshot': None, **more}


def domain(*layers: dict[str, Any], **more: Any) -> dict[str, Any]:
    disk = {'target': 'vda', 'device': 'disk', 'type': 'file', 'left_out': None, 'chain': list(layers)}
    return {'disks': [disk], 'problems': [], 'snapshots': [], **more}


def test_the_base_is_on_the_left_and_an_overlay_points_at_it() -> None:
    top = layer('/i/top', made_by='libvirt', snapshot='theirs')
    [disk] = chains.disks(domain(top, layer('/i/base', allocation=200)))
    base, overlay = disk['boxes']
    assert (base['name'], base['kind'], overlay['name'], overlay['kind']) == ('base', 'layer', 'top', 'active')
    assert base['x'] < overlay['x']
    [line] = disk['lines']
    assert line['x1'] == overlay['x'] > line['x2'] > base['x'] + base['width']
    assert overlay['note'] == 'theirs by libvirt'
    assert overlay['filled'] == overlay['bar'] / 2
    assert base['filled'] == base['bar']  # more than the guest sees: metadata


def test_a_copy_is_below_the_image_and_a_broken_one_says_why() -> None:
    copy: dict[str, Any] = {
        'target': 'vda',
        'method': 'reflink',
        'backup_source': {'path': '/i/copy', 'format': 'raw'},
        'volumes': [],
        'allocation': None,
        'fault': 'it is not there',
    }
    snapshot = {'name': 's1', 'disks': [copy, {**copy, 'target': 'vdb'}, {**copy, 'method': 'qemu'}]}
    [disk] = chains.disks(domain(layer('/i/base'), snapshots=[snapshot]))
    base, below = disk['boxes']
    assert (below['name'], below['note'], below['kind']) == ('copy', 'it is not there', 'bad')
    assert below['y'] > base['y']
    assert disk['height'] > below['y'] + below['height']


def test_what_a_problem_is_about_stands_out() -> None:
    problem = {'code': 'missing_image', 'disk': 'vda', 'path': '/i/base', 'message': '', 'remedy': ''}
    [disk] = chains.disks(domain(layer('/i/top'), layer('/i/base', allocation=None), problems=[problem]))
    assert [(box['kind'], box['note']) for box in disk['boxes']] == [('bad', 'missing_image'), ('active', '')]
    assert 'size unknown' in disk['boxes'][0]['size']


def test_a_network_source_and_an_empty_drive() -> None:
    found = chains.disks(domain(layer(None)))
    assert found[0]['boxes'][0]['name'] == 'not known'
    assert chains.disks(domain()) == []


@given(st.text(max_size=80), st.integers(5, 40))
def test_a_name_that_is_too_long_keeps_its_ends(text: str, length: int) -> None:
    short = chains.fit(text, length)
    assert len(short) == min(len(text), length)
    assert short[0:1] == text[0:1]
    assert short[-1:] == text[-1:]


# -- templates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('path', sorted(TEMPLATES.rglob('*.j2')), ids=lambda path: path.name)
def test_every_value_is_escaped(path: Path) -> None:
    """Ansible's own environment does not, whatever the template says: since 2.19 it is a native one."""
    values = re.findall(r'\{\{(.*?)\}\}', path.read_text(encoding='utf-8'))
    assert [one for one in values if not one.rstrip().endswith('| e')] == []
