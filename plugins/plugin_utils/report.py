# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a report shows of a fleet, in the order in which it is read: pure, and of the shapes that its template takes.

A host comes with ``result``, what the role keeps of it as ``fleet_snapshot_result``, and ``info``, what
disk_snapshot_info returned of it; either may be empty, and ``info`` may have failed.
"""

from __future__ import annotations

import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils._problem import CODES
from ansible_collections.disksnap.libvirt.plugins.plugin_utils import chains, windows
from ansible_collections.disksnap.libvirt.plugins.plugin_utils.sizes import counted, human

Record = t.Mapping[str, t.Any]

# with more guests than this, those without a problem are folded up
FEW = 24
# problems beyond these, which are the lesser ones, are folded up
MOST = 20
OURS = 'disksnap'
# how a guest's consistency is said, the best first
REACHED = {
    'filesystem': 'filesystem-consistent',
    'offline': 'shut off',
    'crash': 'crash-consistent',
}
_TITLES = {'present': 'Snapshot {}', 'absent': 'Snapshot {} removed', 'reverted': 'Back to snapshot {}'}


def build(hosts: t.Mapping[str, Record], asked: Record) -> dict[str, t.Any]:
    """The whole page.

    Args:
        hosts: by name.
        asked: ``snapshot_name`` and ``state``; empty for a report of what is there alone.
    """
    told = [_host(name, one, asked) for name, one in hosts.items()]
    told.sort(key=lambda host: (not host['fault'], -host['problems'], host['name']))
    guests = [guest for host in told for guest in host['guests']]
    problems = [problem for name, one in hosts.items() for problem in _problems(name, one)]
    problems.sort(key=lambda one: (_rank(one['code']), one['host'], one['domain'] or ''))
    charts = windows.charts([guest['freeze'] for guest in guests if guest['freeze']], few=FEW)
    faults = [{'host': host['name'], 'text': host['fault']} for host in told if host['fault']]
    for host in told:
        _fold(host, len(guests))
    return {
        'title': _TITLES[asked['state']].format(asked['snapshot_name']) if asked else 'Audit',
        'bad': bool(faults or problems),
        'lead': _lead(asked, told, guests),
        'tiles': _tiles(asked, told, guests, problems),
        'faults': faults,
        'problems': problems[:MOST],
        'more': problems[MOST:],
        'charts': charts,
        'hosts': told,
        'removed': [{**one, 'host': name} for name, host in hosts.items() for one in _removed(host)],
    }


def _removed(host: Record) -> list[dict[str, t.Any]]:
    """What a retention has removed."""
    return [
        {'domain': one['domain'], 'name': one['name'], 'size': human(one.get('allocation'))}
        for one in (host.get('result') or {}).get('removed', ())
    ]


def _rank(code: str) -> int:
    return CODES.index(code) if code in CODES else len(CODES)


def _problems(name: str, host: Record) -> t.Iterator[dict[str, t.Any]]:
    info = host.get('info') or {}
    for domain in info.get('domains', ()):
        yield from ({**problem, 'host': name, 'domain': domain['name']} for problem in domain['problems'])
    yield from ({**problem, 'host': name, 'domain': None} for problem in info.get('problems', ()))


# -- hosts and guests ---------------------------------------------------------------------------------------------


def _host(name: str, host: Record, asked: Record) -> dict[str, t.Any]:
    result, info = host.get('result') or {}, host.get('info') or {}
    taken = {domain['name']: domain for domain in result.get('domains', ())}
    seen = {domain['name']: domain for domain in info.get('domains', ())}
    names = list(taken) + [one for one in seen if one not in taken]
    guests = [_guest(name, one, taken.get(one), seen.get(one), asked) for one in names]
    guests.sort(key=lambda guest: (-len(guest['problems']), guest['reached'] != 'crash', guest['name']))
    return {
        'name': name,
        'fault': _fault(result, info, bool(asked)),
        'problems': sum(len(guest['problems']) for guest in guests) + len(info.get('problems', ())),
        'guests': guests,
        'count': counted(len(guests), 'guest'),
    }


def _fault(result: Record, info: Record, asked: bool) -> str | None:
    """Why a host has not done what was asked of it, in a sentence."""
    if result.get('failed'):
        return str(result.get('msg') or 'It failed, and did not say why.')
    if info.get('unreachable'):
        return 'The host cannot be reached.'
    if asked and not result:
        return 'The host did not come to the end: it could not be reached, or the play was broken off.'
    if info.get('failed'):
        return f'Its guests could not be looked at: {info.get("msg") or "no reason was given."}'
    return None


def _guest(host: str, name: str, taken: Record | None, seen: Record | None, asked: Record) -> dict[str, t.Any]:
    found = seen or {}
    problems = [problem['code'] for problem in found.get('problems', ())]
    freeze = (taken or {}).get('freeze') if asked.get('state') == 'present' else None
    snapshots = [_snapshot(one) for one in found.get('snapshots', ())]
    here = next((one for one in snapshots if one['name'] == asked.get('snapshot_name') and one['ours']), None)
    return {
        'host': host,
        'name': name,
        'state': found.get('state'),
        'reached': (taken or {}).get('consistency') if asked.get('state') == 'present' else None,
        'group': here['group'] if here else None,
        'freeze': windows.window(host, name, freeze) if freeze else None,
        'snapshots': snapshots,
        'disks': chains.disks(found),
        'problems': problems,
        'taken': taken is not None,
        'size': human(here['allocation']) if here else None,
    }


def _snapshot(one: Record) -> dict[str, t.Any]:
    return {
        'name': one['name'],
        'ours': one['made_by'] == OURS,
        'made_by': one['made_by'],
        'created_at': windows.readable(one['created_at']),
        'group': one['group'],
        'reached': REACHED.get(one['consistency'] or '', ''),
        'allocation': one['allocation'],
        'size': human(one['allocation']),
        'merge': human(one['merge_bytes']) if one['merge_bytes'] else '',
        'disks': ', '.join(f'{disk["target"]} ({disk["method"]})' for disk in one['disks']),
    }


def _fold(host: dict[str, t.Any], total: int) -> None:
    """Show guests unfolded where there are few, or where there is something to see."""
    for guest in host['guests']:
        guest['open'] = total <= FEW or bool(guest['problems'])
    host['open'] = total <= FEW or any(guest['open'] for guest in host['guests'])


# -- what it comes to -----------------------------------------------------------------------------------------------


def _lead(asked: Record, hosts: t.Sequence[Record], guests: t.Sequence[Record]) -> list[str]:
    """Sentences on what was reached."""
    taken = [guest for guest in guests if guest['taken']]
    if not asked:
        return [f'{counted(len(guests), "guest")} on {counted(len(hosts), "host")} looked at.']
    lines = [f'{counted(len(taken), "guest")} on {counted(len(hosts), "host")}.']
    if asked['state'] == 'present' and taken:
        reached = [f'{count} {REACHED[kind]}' for kind, count in _reached(taken).items() if count]
        lines[0] = f'{lines[0][:-1]}: {", ".join(reached)}.'
        lines += [line for line in (_instant(taken), windows.together([one['freeze'] for one in taken])) if line]
    return lines


def _reached(guests: t.Sequence[Record]) -> dict[str, int]:
    return {kind: sum(guest['reached'] == kind for guest in guests) for kind in REACHED}


def _instant(taken: t.Sequence[Record]) -> str:
    """Of how many instants the guests are, by what their journals say; nothing where that is not known."""
    groups = [guest['group'] for guest in taken]
    if not all(groups) or len(taken) < 2:
        return ''
    if len(set(groups)) == 1:
        return 'All of them were taken at one instant.'
    hosts: dict[str, set[str]] = {}
    for guest in taken:
        hosts.setdefault(guest['host'], set()).add(guest['group'])
    if all(len(of_host) == 1 for of_host in hosts.values()):
        return 'The guests of each host were taken at one instant, those of different hosts were not.'
    return 'They were not taken at one instant.'


def _tiles(
    asked: Record, hosts: t.Sequence[Record], guests: t.Sequence[Record], problems: t.Sequence[Record]
) -> list[dict[str, t.Any]]:
    """The few numbers that matter; ``kind`` says how they are to be taken."""
    failed = sum(bool(host['fault']) for host in hosts)
    tiles = [
        _tile('problems', len(problems), 'bad' if problems else 'good'),
        _tile('hosts that failed', f'{failed} of {len(hosts)}', 'bad' if failed else 'good'),
    ]
    taken = [guest for guest in guests if guest['taken']]
    if asked and asked['state'] == 'present':
        for kind, count in _reached(taken).items():
            if count or kind == 'filesystem':
                tiles.append(_tile(REACHED[kind], f'{count} of {len(taken)}', 'warn' if kind == 'crash' else 'plain'))
        longest = windows.longest([guest['freeze'] for guest in taken])
        if longest:
            tiles.append(
                _tile('stood still at most', longest['text'], 'plain', f'{longest["guest"]}, {longest["host"]}')
            )
    else:
        tiles.append(_tile('guests', len(guests), 'plain'))
        tiles.append(_tile('snapshots', sum(len(guest['snapshots']) for guest in guests), 'plain'))
    return tiles


def _tile(label: str, value: t.Any, kind: str, note: str = '') -> dict[str, t.Any]:
    return {'label': label, 'value': str(value), 'kind': kind, 'note': note}
