# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A play in a directory that has what the collection asks for, and nothing else, on a guest of a hypervisor by ssh."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.tests.ee.harness import HERE, INSIDE, Needs, build_root
from disksnap_lab import Fleet, Guest, GuestSpec, check_copy, view
from disksnap_lab.paths import make_root

Inside = Callable[..., 'subprocess.CompletedProcess[str]']


@pytest.fixture(scope='module')
def inside(needs: Needs, fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    """Run a program in the directory; its environment is as empty as a container's."""
    tree = build_root(needs, tmp_path_factory.mktemp('build'))
    top = make_root() / f'{fleet.name}-ee.view'
    view.unmount(top)
    view.mount_at(top, tree, fleet.host('hv1').paths.base)

    def call(*argv: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        words = ['/usr/sbin/chroot', str(top), *map(str, argv)]
        env = {'PATH': f'{INSIDE}/bin:{os.defpath}', 'HOME': '/root', 'LC_ALL': 'C.UTF-8', **more}
        return subprocess.run(words, env=env, capture_output=True, text=True, timeout=300, check=False)

    try:
        yield call
    finally:
        view.unmount(top)


@pytest.fixture(scope='module')
def app(fleet: Fleet) -> Guest:
    """A guest of the hypervisor."""
    guest = fleet.host('hv1').define(GuestSpec('app', writer_period_ms=50))
    guest.wait_agent()
    guest.wait_acked()
    return guest


def test_what_was_there_for_compiling_has_gone(inside: Inside) -> None:
    assert inside('python', '-c', 'import libvirt, lxml.etree').returncode == 0
    listed = inside('dpkg-query', '-W', '-f', '${db:Status-Abbrev} ${Package}\n').stdout
    installed = {line.split()[1] for line in listed.splitlines() if line.startswith('ii')}
    assert {'libvirt0', 'openssh-client'} <= installed
    assert not {'gcc', 'libvirt-dev', 'python3-dev', 'python3-libvirt', 'python3-lxml'} & installed


def test_a_play_takes_a_snapshot_and_removes_it(
    inside: Inside, app: Guest, fleet: Fleet, collections: Path, tmp_path: Path
) -> None:
    address = fleet.host('hv1').address
    uri = f'qemu+ssh://root@{address}/system?keyfile={fleet.paths.key}&no_verify=1&no_tty=1'
    inventory = tmp_path / 'inventory.json'
    inventory.write_text(json.dumps({'all': {'hosts': {'hv1': None}}}), encoding='utf-8')

    def play(state: str) -> dict[str, Any]:
        done = inside(
            'ansible-playbook',
            *('-i', inventory, '-e', json.dumps({'uri': uri, 'state': state}), HERE / 'play.yml'),
            ANSIBLE_COLLECTIONS_PATH=str(collections),
            ANSIBLE_HOME=str(tmp_path / 'ansible'),
            ANSIBLE_SHOW_CUSTOM_STATS='1',
            ANSIBLE_NOCOLOR='1',
        )
        assert done.returncode == 0, done.stdout + done.stderr
        [line] = [line for line in done.stdout.splitlines() if line.strip().startswith('RUN: ')]
        stats: dict[str, Any] = json.loads(line.partition('RUN: ')[2])
        assert stats['taken']['changed'] is True
        return stats

    acked = app.wait_acked()['vda']
    stats = play('present')
    [domain] = stats['taken']['domains']
    assert domain['consistency'] == 'filesystem'
    source = domain['disks'][0]['backup_source']
    report = check_copy(Path(source['path']), source['format'], 'ext4')
    assert report.clean, report
    assert report.holds(acked)
    assert [snapshot['name'] for snapshot in stats['found']['snapshots']] == ['nightly']
    assert app.source_file('vda') != app.disks['vda'].image

    later = app.wait_acked()['vda']
    assert play('absent')['found']['snapshots'] == []
    assert app.source_file('vda') == app.disks['vda'].image
    assert app.wait_acked()['vda'] > later
