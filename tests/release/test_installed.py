# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The release, installed from its file into an empty path that is all that Ansible has: its words, and a real guest."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.tests.live.harness import Guests, chain, journal
from ansible_collections.disksnap.libvirt.tests.live.playing import playbook, stat
from ansible_collections.disksnap.libvirt.tests.release.artifact import Artifact, Installed
from disksnap_lab import DiskSpec, GuestSpec, Lab, check_copy

NAME = 'disksnap.libvirt'
# where the plugins of a type are, and what their documentation calls their name
TYPES = {'module': ('plugins/modules', 'module'), 'filter': ('plugins/filter', 'name')}
# an action that only judges the play returns nothing but whether it can go on
RETURNS_NOTHING = {'fleet_check'}


@pytest.fixture(scope='module')
def told(installed: Installed, artifact: Artifact) -> dict[str, dict[str, Any]]:
    """What ansible-doc says of the plugins of each type, by their names."""
    return {type_: json.loads(doc(installed, artifact, type_, '--json')) for type_ in TYPES}


def doc(installed: Installed, artifact: Artifact, type_: str, *words: str) -> str:
    """What ansible-doc prints of all plugins of a type."""
    names = [f'{NAME}.{name}' for name in sorted(artifact.names(TYPES[type_][0]))]
    assert names
    return installed.ansible('ansible-doc', *words, '-t', type_, *names)


def test_ansible_knows_this_collection_and_no_other(installed: Installed, artifact: Artifact) -> None:
    listed = json.loads(installed.ansible('ansible-galaxy', 'collection', 'list', '--format', 'json'))
    # ansible-core has one of its own within its package
    others = {path: found for path, found in listed.items() if not Path(path).is_relative_to(sys.prefix)}
    assert others == {str(installed.collections / 'ansible_collections'): {NAME: {'version': artifact.version}}}


def test_what_is_installed_is_what_was_built(installed: Installed) -> None:
    printed = installed.ansible('ansible-galaxy', 'collection', 'verify', '--offline', NAME)
    assert 'Successfully verified that checksums' in printed


@pytest.mark.parametrize('type_', TYPES)
def test_ansible_doc_has_every_plugin(
    told: dict[str, dict[str, Any]], installed: Installed, artifact: Artifact, type_: str
) -> None:
    folder, key = TYPES[type_]
    assert sorted(told[type_]) == sorted(f'{NAME}.{name}' for name in artifact.names(folder))
    for full_name, one in told[type_].items():
        name = full_name.removeprefix(f'{NAME}.')
        assert Path(one['doc']['filename']).is_relative_to(installed.collections)
        assert one['doc'][key] == name
        assert full_name in one['examples']
        assert one['return'] or name in RETURNS_NOTHING


@pytest.mark.parametrize('type_', TYPES)
def test_ansible_doc_prints_every_plugin(installed: Installed, artifact: Artifact, type_: str) -> None:
    printed = doc(installed, artifact, type_)
    headings = re.findall(rf'^> {type_.upper()} ({re.escape(NAME)}\.\w+)', printed, re.MULTILINE)
    assert sorted(headings) == sorted(f'{NAME}.{name}' for name in artifact.names(TYPES[type_][0]))


def test_ansible_doc_has_every_role(installed: Installed, artifact: Artifact) -> None:
    assert artifact.names('roles')
    for name in artifact.names('roles'):
        told = json.loads(installed.ansible('ansible-doc', '--json', '-t', 'role', f'{NAME}.{name}'))
        specs = artifact.yaml(f'roles/{name}/meta/argument_specs.yml')['argument_specs']
        assert told[f'{NAME}.{name}']['entry_points']['main']['options'] == specs['main']['options']


def test_each_thing_came_with_a_release(told: dict[str, dict[str, Any]], artifact: Artifact) -> None:
    """version_added names releases that the changelog has."""
    releases = set(artifact.yaml('changelogs/changelog.yaml')['releases'])
    said = {
        name: [one['doc']['version_added'], *_versions(one)]
        for plugins in told.values()
        for name, one in plugins.items()
    }
    for name in artifact.names('roles'):
        for entry, spec in artifact.yaml(f'roles/{name}/meta/argument_specs.yml')['argument_specs'].items():
            said[f'{name} {entry}'] = [spec['version_added'], *_versions(spec)]
    assert {name: versions for name, versions in said.items() if not set(versions) <= releases} == {}


def _versions(told: Any) -> Iterator[str]:
    """All values of version_added, however deep."""
    if isinstance(told, dict):
        for key, value in told.items():
            if key == 'version_added':
                yield str(value)
            else:
                yield from _versions(value)
    elif isinstance(told, list):
        for one in told:
            yield from _versions(one)


def test_its_playbooks_on_a_guest(
    installed: Installed, lab: Lab, guest: Guests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snapshot, audit and merge of a guest that writes all the while."""
    monkeypatch.chdir(tmp_path)
    db1 = guest(GuestSpec('db1', disks=[DiskSpec(), DiskSpec(format='raw')]))
    before = {target: chain(db1, target) for target in db1.disks}
    acked = db1.acked()

    taken = play(installed, lab, 'snapshot', tmp_path, {'fleet_snapshot_name': 'first'}, 'fleet_snapshot')
    [domain] = taken['hv1']['domains']
    assert (domain['name'], domain['consistency'], taken['hv1']['failed']) == ('db1', 'filesystem', False)
    for disk in domain['disks']:
        source, target = disk['backup_source'], disk['target']
        assert chain(db1, target)[1:] == before[target]
        report = check_copy(source['path'], source['format'], 'ext4')
        assert report.clean
        assert report.holds(acked[target])

    assert play(installed, lab, 'audit', tmp_path, {'fleet_snapshot_audit_fail': True}, 'fleet_snapshot_audit') == {
        'hv1': []
    }

    merged = play(installed, lab, 'merge', tmp_path, {'fleet_snapshot_name': 'first'}, 'fleet_snapshot')
    assert merged['hv1']['changed']
    assert {target: chain(db1, target) for target in db1.disks} == before
    assert journal(db1) is None
    db1.wait_acked(1, timeout=60)


def play(installed: Installed, lab: Lab, name: str, directory: Path, variables: dict[str, Any], what: str) -> Any:
    """Run a playbook by its full name; the custom stat that it leaves."""
    done = playbook(lab, name, directory, variables, more=installed.env)
    assert done.returncode == 0, done.stdout + done.stderr
    return stat(done, what)
