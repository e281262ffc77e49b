# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes on between two snapshots of a fleet: merges that are watched, retention, the audit, the report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from lxml import html

from ansible_collections.disksnap.libvirt.tests.fleet.harness import Play, ansible, frozen, one_each, until
from disksnap_lab import Fleet, Guest
from disksnap_lab.fleet_host import FleetHost

GUEST = 'upkeep'
MERGED = Path(__file__).with_name('merged.yml')
# a su that fails at the first look at each host, as a machine that is out of processes does
SU = """#!/bin/sh
case "$*" in
    *printf*/progress-*)
        if mkdir "{scratch}/failed-$(uname -n)" 2>/dev/null; then
            echo 'su: Resource temporarily unavailable' >&2
            exit 1
        fi
        ;;
esac
exec su "$@"
"""


@pytest.fixture(scope='module')
def guests(fleet: Fleet) -> list[Guest]:
    """A guest on each host."""
    return one_each(fleet, GUEST)


def on_all(fleet: Fleet, scratch: Path, module: str, **options: Any) -> dict[str, Any]:
    """Host -> result of a module for the guest of each host."""
    arguments = json.dumps({'name': f'{{{{ inventory_hostname }}}}-{GUEST}', **options})
    inventory = fleet.write_inventory(scratch / 'all.json')
    results = ansible(inventory, scratch, f'disksnap.libvirt.{module}', '--args', arguments)
    assert set(results) == {host.name for host in fleet.hosts}
    assert not any(result.get('failed') for result in results.values()), results
    return results


def snapshots(fleet: Fleet, scratch: Path) -> list[list[str]]:
    """Names of the snapshots of each guest."""
    looks = on_all(fleet, scratch, 'disk_snapshot_info')
    return [[one['name'] for one in looks[host.name]['domains'][0]['snapshots']] for host in fleet.hosts]


def traces(host: FleetHost) -> str:
    """Files that a merge in the background has while it runs."""
    return host.run(['sh', '-c', 'ls -d ~/.ansible_async/j* /run/disksnap/progress-* 2>/dev/null'], check=False).stdout


def test_a_merge_is_watched_by_ssh_and_become(fleet: Fleet, guests: list[Guest], tmp_path: Path) -> None:
    before = [guest.source_file('vda') for guest in guests]
    clean = [traces(host) for host in fleet.hosts]
    on_all(fleet, tmp_path, 'disk_snapshot', snapshot_name='watched')
    for guest in guests:
        wrote = guest.exec('dd', 'if=/dev/urandom', 'of=/mnt/vda/filler', 'bs=1048576', 'count=6', 'conv=fsync')
        assert wrote.status == 0, wrote
    su, log = tmp_path / 'su', tmp_path / 'log'
    su.write_text(SU.format(scratch=tmp_path), encoding='utf-8')
    su.chmod(0o755)
    play = Play(
        fleet,
        tmp_path,
        'watched',
        playbook=MERGED,
        environment={'ANSIBLE_BECOME_ALLOW_SAME_USER': '1', 'ANSIBLE_LOG_PATH': str(log)},
        guest=GUEST,
        disksnap_libvirt_progress='{{ 5 - 4 }}',
        ansible_become=True,
        ansible_become_method='su',
        ansible_become_exe=str(su),
    )

    def said() -> bool:
        text = log.read_text(encoding='utf-8') if log.exists() else ''
        return play.process.poll() is not None or all(f'{guest.name} vda merging' in text for guest in guests)

    until('a line of each guest', said, 200)
    for guest in guests:
        if guest.domain.blockJobInfo('vda', 0):
            guest.domain.blockJobSetSpeed('vda', 0, 0)
    results = play.succeed()
    for host, guest, source in zip(fleet.hosts, guests, before):
        assert (tmp_path / f'failed-{host.paths.hostname}').is_dir()  # its su was asked, and has failed once
        shape = rf'^{host.name} \| {guest.name} vda merging \d+% [\d.]+/[\d.]+ MiB'
        assert re.search(shape, play.said, re.MULTILINE), play.said
        [disk] = results[host.name]['domains'][0]['disks']
        assert (disk['state'], results[host.name]['changed']) == ('merged', True)
        assert guest.source_file('vda') == source
    assert [traces(host) for host in fleet.hosts] == clean


def test_prune_removes_on_all_hosts(fleet: Fleet, guests: list[Guest], tmp_path: Path) -> None:
    for name in ('n1', 'n2'):
        on_all(fleet, tmp_path, 'disk_snapshot', snapshot_name=name)
    play = Play(
        fleet,
        tmp_path,
        'n',
        playbook='disksnap.libvirt.prune',
        fleet_snapshot_keep={'last': 1},
        fleet_snapshot_keep_names='n*',
    )
    play.succeed()
    removed = play.stat('fleet_snapshot_prune')
    for host, guest in zip(fleet.hosts, guests):
        [gone] = removed[host.name]
        assert (gone['domain'], gone['name']) == (guest.name, 'n1')
        assert gone['allocation'] > 0
        assert re.search(rf'{guest.name} n1: [\d.]+ [KM]iB come back at most', play.said), play.said
        guest.wait_acked()
    assert [[name for name in names if name[0] == 'n'] for names in snapshots(fleet, tmp_path)] == [['n2'], ['n2']]


def test_the_audit_names_the_problem_of_each_host(fleet: Fleet, guests: list[Guest], tmp_path: Path) -> None:
    lost = guests[0].images / 'left.qcow2'
    base = guests[0].source_file('vda')
    fleet.hosts[0].run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', lost])
    guests[1].agent_command('guest-fsfreeze-freeze')
    try:
        play = Play(fleet, tmp_path, 'n', playbook='disksnap.libvirt.audit', fleet_snapshot_audit_fail=True)
        play.wait()
    finally:
        guests[1].agent_command('guest-fsfreeze-thaw')
        lost.unlink()
    assert play.process.returncode == 2, play.said
    found = play.stat('fleet_snapshot_audit')
    assert [(one['code'], one['path']) for one in found['hv1']] == [('orphaned_overlay', str(lost))]
    assert [(one['code'], one['domain']) for one in found['hv2']] == [('frozen_guest', guests[1].name)]
    assert not frozen(guests[1])


def test_the_report_has_the_windows_of_all_hosts(fleet: Fleet, guests: list[Guest], tmp_path: Path) -> None:
    report = tmp_path / 'report.html'
    play = Play(fleet, tmp_path, 'reported', fleet_snapshot_report=str(report))
    results = play.succeed()
    page: Any = html.fromstring(report.read_text(encoding='utf-8'))
    lanes = page.xpath('//section[@id="windows"]//details')
    assert [lane.findtext('summary/b') for lane in lanes] == [host.name for host in fleet.hosts]
    for lane, host, guest in zip(lanes, fleet.hosts, guests):
        [row] = lane.xpath('div')
        assert row.findtext('span') == guest.name
        window = results[host.name]['domains'][0]['freeze']['window_ms']
        assert window > 0
        assert row.xpath('.//s[contains(@class, "good")]')
