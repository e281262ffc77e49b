# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The script and the playbooks that the guide "From virsh scripts" shows, run as they stand there, on a guest."""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.disksnap.libvirt.tests.live.harness import ROOT, Guests, Runner, chain, frozen, journal, ready
from ansible_collections.disksnap.libvirt.tests.live.playing import playbook
from disksnap_lab import Guest, GuestSpec, Lab, check_copy

GUIDE = ROOT / 'docs' / 'docsite' / 'rst' / 'guide_virsh.rst'
IMAGES, BACKUPS = '/var/lib/libvirt/images/', '/var/backups/'


def block(language: str, words: str) -> str:
    """The one code block of this language that has these words."""
    text = GUIDE.read_text(encoding='utf-8')
    found = re.findall(rf'^\.\. code-block:: {re.escape(language)}\n\n((?: {{3}}.*\n|\n)+)', text, re.MULTILINE)
    [one] = [textwrap.dedent(each) for each in found if words in each]
    return one


def placed(text: str, guest: Guest, directory: Path) -> str:
    """The same with the directories of the lab."""
    images = Path(guest.disks['vda'].image).parent
    return text.replace(IMAGES, f'{images}/').replace(BACKUPS, f'{directory}/')


def script(lab: Lab, guest: Guest, directory: Path) -> subprocess.CompletedProcess[str]:
    text = placed(block('sh', 'domfsfreeze'), guest, directory)
    return subprocess.run(
        ['sh', '-c', text],
        env={**os.environ, 'LIBVIRT_DEFAULT_URI': lab.uri},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def virsh(lab: Lab, *words: str) -> str:
    command = ['virsh', '--connect', lab.uri, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def play(lab: Lab, text: str, directory: Path) -> str:
    """Run a playbook of the guide against the lab; what it printed."""
    [one] = yaml.safe_load(text)
    one['hosts'] = 'all'
    one['module_defaults'] = {'group/disksnap.libvirt.snapshot': {'uri': lab.uri}}
    path = directory / 'play.yml'
    path.write_text(yaml.safe_dump([one]), encoding='utf-8')
    done = playbook(lab, str(path), directory, {})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def problems(run_module: Runner, guest: Guest) -> list[str]:
    [domain] = run_module('disk_snapshot_info', {'name': guest.name})['domains']
    return [problem['code'] for problem in domain['problems']]


def whole(copy: Path, acked: dict[str, int]) -> bool:
    report = check_copy(copy, 'qcow2', 'ext4')
    return report.clean and not report.holes and report.holds(acked['vda'])


@pytest.fixture(scope='module')
def running(shared: Guests) -> Guest:
    """A guest with one disk, as the script is for one."""
    return shared(GuestSpec('db1'))


@pytest.fixture
def made(running: Guest) -> Iterator[Guest]:
    """The same; each test leaves it without an overlay."""
    ready(running)
    before = chain(running, 'vda')
    yield running
    assert chain(running, 'vda') == before
    assert journal(running) is None


def test_the_script_and_what_it_leaves(lab: Lab, made: Guest, run_module: Runner, tmp_path: Path) -> None:
    before = chain(made, 'vda')
    done = script(lab, made, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'db1-vda.qcow2').exists()
    assert chain(made, 'vda') == before

    # an overlay that a script which was killed has left is in the way of the next, which leaves the guest frozen
    virsh(lab, 'snapshot-create-as', 'db1', 'nightly', '--disk-only', '--atomic', '--no-metadata')
    done = script(lab, made, tmp_path)
    assert done.returncode != 0
    assert frozen(made)
    assert problems(run_module, made) == ['frozen_guest']
    run_module('storage_quiesce', {'name': 'db1', 'state': 'thawed'})

    # a commit that was never told to pivot is taken over
    virsh(lab, 'blockcommit', 'db1', 'vda', '--active')
    assert problems(run_module, made) == ['unfinished_job']
    acked = made.wait_acked()
    text = block('yaml+jinja', 'is match')
    said = play(lab, text, tmp_path)
    assert 'changed=1' in said
    assert chain(made, 'vda') == before
    assert made.acked()['vda'] >= acked['vda']
    assert not Path(before[0]).with_suffix('.nightly').exists(), said
    assert 'changed=0' in play(lab, text, tmp_path)


def test_the_play_that_takes_its_place(lab: Lab, made: Guest, tmp_path: Path) -> None:
    acked = made.acked()
    printed = play(lab, placed(block('yaml+jinja', 'Back up a guest'), made, tmp_path), tmp_path)
    assert 'changed=3' in printed
    assert whole(tmp_path / 'db1-vda.qcow2', acked)


def test_several_layers_and_libvirt_s_own_record(lab: Lab, made: Guest, run_module: Runner, tmp_path: Path) -> None:
    before = chain(made, 'vda')
    virsh(lab, 'snapshot-create-as', 'db1', 'weekly', '--disk-only', '--atomic', '--no-metadata')
    virsh(lab, 'snapshot-create-as', 'db1', 'nightly', '--disk-only', '--atomic')
    [domain] = run_module('disk_snapshot_info', {'name': 'db1'})['domains']
    assert [layer['made_by'] for layer in domain['disks'][0]['chain']] == ['libvirt', 'other', None]
    assert [snapshot['name'] for snapshot in domain['snapshots']] == ['nightly']

    # a snapshot over them, and away again
    over: dict[str, Any] = {'name': 'db1', 'snapshot_name': 's1'}
    run_module('disk_snapshot', {**over, 'quiesce': 'required'})
    run_module('disk_snapshot', {**over, 'state': 'absent'})
    assert len(chain(made, 'vda')) == 3

    [task] = yaml.safe_load(placed(block('yaml+jinja', 'Merge whatever stands'), made, tmp_path))
    run_module('snapshot_merge', {**task['disksnap.libvirt.snapshot_merge'], 'base': before[0]})
    assert 'deleted' in virsh(lab, *block('console', '--metadata').split('\n')[0].removeprefix('$ virsh ').split())


def test_a_commit_by_hand_of_a_snapshot_of_ours(lab: Lab, made: Guest, run_module: Runner) -> None:
    task = {'name': 'db1', 'snapshot_name': 'nightly'}
    run_module('disk_snapshot', {**task, 'quiesce': 'required'})
    overlay = chain(made, 'vda')[0]
    virsh(lab, 'blockcommit', 'db1', 'vda', '--active', '--pivot', '--wait')
    assert problems(run_module, made) == ['snapshot_unused']
    Path(overlay).unlink()
    assert problems(run_module, made) == ['snapshot_lost']
    run_module('disk_snapshot', {**task, 'state': 'absent'})
    assert problems(run_module, made) == []
