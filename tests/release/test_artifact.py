# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is in the release, and what is not."""

from __future__ import annotations

import hashlib
import posixpath
import re
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from ansible_collections.disksnap.libvirt.tests.release.artifact import (
    PROGRAMS,
    ROOT,
    Artifact,
    build,
    lay,
    run,
    sources,
)
from ansible_collections.disksnap.libvirt.tests.release.cut import look

# what only those need who change the collection, by the first part of the path or the whole of it
DEVELOPERS = ('tests', 'Makefile', 'pyproject.toml', 'galaxy.yml', 'changelogs/fragments')
# what Ansible makes while it builds
MADE = {'MANIFEST.json', 'FILES.json'}
# what cutting a release makes, and what it may not make
CHANGELOGS = {'CHANGELOG.rst', 'changelogs/changelog.yaml'}


def for_users(name: str) -> bool:
    hidden = any(part.startswith('.') for part in name.split('/'))
    return not hidden and not any(name == one or name.startswith(f'{one}/') for one in DEVELOPERS)


def test_all_that_git_has_is_in_it_but_what_is_for_developers(artifact: Artifact) -> None:
    wanted = {name for name in sources() if for_users(name)}
    assert set(artifact.files) == wanted | MADE | CHANGELOGS


@pytest.mark.parametrize(
    'wanted',
    [
        'README.md',
        'SECURITY.md',
        'CHANGELOG.rst',
        'CODE_OF_CONDUCT.md',
        'CONTRIBUTING.md',
        'COPYING',
        'LICENSES/GPL-3.0-or-later.txt',
        'changelogs/changelog.yaml',
        'docs/awx/snapshot.survey.json',
        'docs/docsite/extra-docs.yml',
        'docs/docsite/rst/guide_quick_start.rst',
        'docs/docsite/rst/guide_support.rst',
        'meta/runtime.yml',
        'playbooks/audit.yml',
        'playbooks/merge.yml',
        'playbooks/snapshot.yml',
        'plugins/action/snapshot_merge.py',
        'plugins/doc_fragments/common.py',
        'plugins/filter/fleet_list.py',
        'plugins/module_utils/_methods/qemu.py',
        'plugins/modules/disk_snapshot.py',
        'plugins/plugin_utils/retention.py',
        'roles/fleet_snapshot/README.md',
        'roles/fleet_snapshot/meta/argument_specs.yml',
        'roles/fleet_snapshot/tasks/main.yml',
    ],
)
def test_what_users_need_is_in_it(artifact: Artifact, wanted: str) -> None:
    assert artifact.files[wanted].strip()


def test_all_guides_are_in_it(artifact: Artifact) -> None:
    listed = artifact.yaml('docs/docsite/extra-docs.yml')['sections']
    for name in (name for section in listed for name in section['toctree']):
        assert artifact.files[f'docs/docsite/rst/{name}.rst']


def test_a_build_in_a_used_checkout_is_the_same(
    artifact: Artifact, tree: Path, env: dict[str, str], tmp_path: Path
) -> None:
    """What git ignores lies about there: environments, caches, logs, earlier builds."""
    used = lay(tmp_path / 'tree')
    for name in CHANGELOGS:  # as they are released
        (used / name).write_bytes((tree / name).read_bytes())
    litter = [
        _match(line) for line in (used / '.gitignore').read_text('utf-8').splitlines() if line[:1] not in ('', '#')
    ]
    assert len(litter) > 10
    for name in litter:
        (used / name).parent.mkdir(parents=True, exist_ok=True)
        (used / name).write_text('litter', encoding='utf-8')
    ignored = run(['git', 'check-ignore', '--', *litter], cwd=used, env=None).split()
    assert sorted(ignored) == sorted(litter)

    assert build(used, tmp_path / 'out', env).entries == artifact.entries


def _match(pattern: str) -> str:
    """A file that a line of .gitignore is about."""
    name = pattern.strip('/').replace('*', 'x')
    if pattern.endswith('/'):
        name += '/litter'
    return name if pattern.startswith('/') else f'plugins/modules/{name}'


def test_the_versions_agree(artifact: Artifact) -> None:
    version = str(yaml.safe_load((ROOT / 'galaxy.yml').read_text('utf-8'))['version'])
    assert artifact.path.name == f'disksnap-libvirt-{version}.tar.gz'
    assert artifact.version == version
    newest = re.search(r'^v(\S+)\n=+$', artifact.files['CHANGELOG.rst'].decode(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version
    assert version in artifact.yaml('changelogs/changelog.yaml')['releases']


def test_the_changelog_keeps_its_rules(tree: Path) -> None:
    """Galaxy and the Ansible package read changelog.yaml; it must be of their form, to the letter."""
    changelog = tree / 'changelogs' / 'changelog.yaml'
    linter = [str(PROGRAMS / 'antsibull-changelog'), 'lint-changelog-yaml', '--strict']
    run([*linter, str(changelog)], cwd=tree, env=None)


def test_the_changelog_tells_when_each_thing_came(artifact: Artifact) -> None:
    releases = artifact.yaml('changelogs/changelog.yaml')['releases'].values()
    told = {
        'plugins/modules': [one['name'] for release in releases for one in release.get('modules', ())],
        'plugins/filter': [one['name'] for release in releases for one in release.get('plugins', {}).get('filter', ())],
        'roles': [one['name'] for release in releases for one in release.get('objects', {}).get('role', ())],
        'playbooks': [one['name'] for release in releases for one in release.get('objects', {}).get('playbook', ())],
    }
    assert {folder: sorted(names) for folder, names in told.items()} == {
        folder: sorted(artifact.names(folder)) for folder in told
    }


def test_each_release_has_a_summary(artifact: Artifact) -> None:
    """That of the next one may still come, but for the first, which has nothing else."""
    releases = artifact.yaml('changelogs/changelog.yaml')['releases']
    for version in look(ROOT).released or releases:
        assert releases[version]['changes'].get('release_summary'), version


def test_the_checksums_are_right(artifact: Artifact) -> None:
    listed = artifact.json('MANIFEST.json')['file_manifest_file']
    assert listed['name'] == 'FILES.json'
    assert hashlib.sha256(artifact.files['FILES.json']).hexdigest() == listed['chksum_sha256']
    files = {one['name']: one for one in artifact.json('FILES.json')['files'] if one['ftype'] == 'file'}
    assert set(files) == set(artifact.files) - MADE
    for name, one in files.items():
        assert hashlib.sha256(artifact.files[name]).hexdigest() == one['chksum_sha256'], name


def test_no_file_has_a_path_of_this_machine(artifact: Artifact, tree: Path) -> None:
    paths = {str(ROOT), str(tree), sys.prefix, tempfile.gettempdir(), str(Path.home())}
    # what documentation may well name on any machine
    paths -= {'/root', '/tmp'}
    pattern = re.compile('|'.join(rf'(?<![\w.]){re.escape(path)}(?![\w-])' for path in sorted(paths)).encode())
    found = [(name, hit[0].decode()) for name, text in artifact.files.items() if (hit := pattern.search(text))]
    assert found == []


def test_the_documents_link_to_nothing_that_is_missing(artifact: Artifact) -> None:
    links = []
    for name in (name for name in artifact.files if name.endswith('.md')):
        for target in re.findall(r'\]\(([^)\s]+)\)', artifact.files[name].decode()):
            if not re.match(r'[a-z]+:', target):
                path = posixpath.normpath(posixpath.join(posixpath.dirname(name), target.partition('#')[0]))
                links.append((name, path))
    assert links
    assert [(name, path) for name, path in links if path not in artifact.entries] == []
