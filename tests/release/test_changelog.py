# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The next release is cut in a copy of the sources, whether or not something waits for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ansible_collections.disksnap.libvirt.tests.release.artifact import PROGRAMS, cut, lay, run
from ansible_collections.disksnap.libvirt.tests.release.cut import look, number

MENDED = 'disk_snapshot - what was wrong is right now.'


def releases(tree: Path) -> dict[str, Any]:
    known: dict[str, Any] = yaml.safe_load((tree / 'changelogs' / 'changelog.yaml').read_text('utf-8'))
    return known['releases']


def test_the_next_one_is_added_to_those_before(tree: Path, tmp_path: Path) -> None:
    before = releases(tree)
    ahead = lay(tmp_path / 'ahead')
    for name in ('CHANGELOG.rst', 'changelogs/changelog.yaml'):
        (ahead / name).write_bytes((tree / name).read_bytes())
    fragments = ahead / 'changelogs' / 'fragments'
    fragments.mkdir(exist_ok=True)  # git keeps no empty folder
    for waiting in fragments.iterdir():
        waiting.unlink()
    major, minor, patch = max(number(version) for version in before)
    version = f'{major}.{minor}.{patch + 1}'
    galaxy = ahead / 'galaxy.yml'
    was = look(ahead).version
    galaxy.write_text(galaxy.read_text('utf-8').replace(f'version: {was}\n', f'version: {version}\n'), 'utf-8')
    (fragments / 'mended.yml').write_text(yaml.safe_dump({'bugfixes': [MENDED]}), 'utf-8')

    cut(ahead)

    after = releases(ahead)
    assert after.pop(version)['changes'] == {'bugfixes': [MENDED]}
    assert after == before
    assert look(ahead).fragments == {}
    text = (ahead / 'CHANGELOG.rst').read_text('utf-8')
    assert text.index(f'v{version}') < text.index(MENDED) < text.index(f'v{major}.{minor}.{patch}\n')
    changelog = str(PROGRAMS / 'antsibull-changelog')
    run([changelog, 'lint-changelog-yaml', '--strict', 'changelogs/changelog.yaml'], cwd=ahead, env=None)
