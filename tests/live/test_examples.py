# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The examples that the documentation shows, run as they stand there, on real guests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.disksnap.libvirt.tests.live.examples import PLAY, TASK, Example, examples
from ansible_collections.disksnap.libvirt.tests.live.harness import Guests, Runner, end_watchdogs
from ansible_collections.disksnap.libvirt.tests.live.scenes import SCENES, Scene
from ansible_collections.disksnap.libvirt.tests.live.stage import Outcome, Stage
from disksnap_lab import Lab

OURS = 'disksnap.libvirt.'
# modules of ours that change nothing
LOOKS = ('disksnap.libvirt.disk_snapshot_info', 'disksnap.libvirt.fleet_check')


@pytest.fixture(scope='module')
def stage(lab: Lab, shared: Guests, run_module: Runner) -> Iterator[Stage]:
    """The host that all examples are for."""
    yield Stage(lab, shared, run_module)
    shared.remove()
    lab.remove_filesystem('stage')


def must_have_happened(shown: list[Example], outcomes: list[Outcome]) -> None:
    """No task of the examples was passed over, a loop without items neither, and what changes things has done so."""
    for example in shown:
        tasks = [str(task['name']) for task in example.body.get('tasks', [])] if example.kind == PLAY else []
        for name in tasks or ([str(example.body['name'])] if example.kind == TASK else []):
            ran = [one for one in outcomes if one.task == name]
            assert ran, f'{name} did not run'
            for one in ran:
                assert one.status == 'ok', (name, one)
                if one.action.startswith(OURS) and one.action not in LOOKS:
                    assert one.result['changed'], f'{name} had nothing to do'
        if example.kind == PLAY and not tasks:  # roles
            assert any(one.action.startswith(OURS) and one.result.get('changed') for one in outcomes)


@pytest.mark.parametrize('scene', SCENES, ids=[scene.title for scene in SCENES])
def test_scene(scene: Scene, stage: Stage, tmp_path: Path) -> None:
    known = examples()
    shown = [known[key] for key in scene.examples]
    try:
        outcomes = scene.play(stage, shown, scene.before(stage, tmp_path), tmp_path)
        must_have_happened(shown, outcomes)
        scene.after(stage, tmp_path)
    finally:
        end_watchdogs()
        stage.put_back()
