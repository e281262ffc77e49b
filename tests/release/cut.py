# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Cut the release that galaxy.yml names: the fragments become CHANGELOG.rst and changelogs/changelog.yaml.

Nothing is committed, tagged or published; CONTRIBUTING.md says what comes before and after. See ``make release``.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300
# what the sections of fragments ask of the next version number; all others are content with the last digit
BREAKING = frozenset({'breaking_changes', 'removed_features'})
ADDING = frozenset({'major_changes', 'minor_changes', 'deprecated_features'})

Number = tuple[int, int, int]


class Refused(Exception):
    """Why there can be no release, and what to do."""


@dataclass(frozen=True)
class State:
    """What a collection says of its releases.

    Attributes:
        version: in galaxy.yml.
        released: the versions in changelogs/changelog.yaml.
        fragments: name of each file in changelogs/fragments -> its sections.
    """

    version: str
    released: tuple[str, ...]
    fragments: dict[str, frozenset[str]]


def look(root: Path) -> State:
    """What the collection in a directory says."""
    changelog = root / 'changelogs' / 'changelog.yaml'
    known = yaml.safe_load(changelog.read_text('utf-8')) if changelog.exists() else None
    files = sorted((root / 'changelogs' / 'fragments').glob('*.yml'))
    return State(
        version=str(yaml.safe_load((root / 'galaxy.yml').read_text('utf-8'))['version']),
        released=tuple((known or {}).get('releases', ())),
        fragments={file.name: frozenset(yaml.safe_load(file.read_text('utf-8'))) for file in files},
    )


def check(state: State) -> None:
    """Hold the version number against the policy in the guide on support.

    Raises:
        Refused: if there is nothing to release, or by another number.
    """
    version = number(state.version)
    if not state.fragments:
        raise Refused(f'There is no fragment in changelogs/fragments, so nothing to say of {state.version}.')
    if not state.released:
        if not written_for(state):
            raise Refused(f'The first release needs its summary, in changelogs/fragments/{state.version}.yml.')
        return
    least = next_number(max(map(number, state.released)), frozenset().union(*state.fragments.values()))
    if version < least:
        wanted = '.'.join(map(str, least))
        raise Refused(
            f'galaxy.yml says {state.version}, and what the {len(state.fragments)} fragments tell makes it {wanted} at '
            'least. Set version there.'
        )


def number(version: str) -> Number:
    """The three parts of a version.

    Raises:
        Refused: if it has others.
    """
    parts = re.fullmatch(r'(\d+)\.(\d+)\.(\d+)', version)
    if parts is None:
        raise Refused(f'The version {version} is not of the form MAJOR.MINOR.PATCH.')
    return int(parts[1]), int(parts[2]), int(parts[3])


def next_number(last: Number, sections: frozenset[str]) -> Number:
    """The lowest version that may follow the last one with such fragments."""
    major, minor, patch = last
    if sections & BREAKING:
        return major + 1, 0, 0
    if sections & ADDING or any(section.startswith('add ') for section in sections):
        return major, minor + 1, 0
    return major, minor, patch + 1


def written_for(state: State) -> list[str]:
    """The fragments that were written for this very release; their names begin with its number."""
    return [name for name in state.fragments if name.removeprefix(state.version)[:1] in ('.', '-')]


def cut(root: Path, date: datetime.date) -> None:
    """Write the changelog of the release.

    Raises:
        Refused: if there can be none.
    """
    state = look(root)
    check(state)
    if not state.released:
        # No user has seen what these changed, so that a first release tells only what was written for it.
        for name in sorted(set(state.fragments) - set(written_for(state))):
            print(f'left out: {name}')
            (root / 'changelogs' / 'fragments' / name).unlink()
    programs = Path(sys.executable).parent
    done = subprocess.run(
        [str(programs / 'antsibull-changelog'), 'release', '--date', date.isoformat(), '--reload-plugins'],
        cwd=root,
        env={**os.environ, 'PATH': f'{programs}{os.pathsep}{os.environ["PATH"]}'},
        stdin=subprocess.DEVNULL,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise Refused(f'antsibull-changelog ended with {done.returncode}; its own words stand above.')
    print(f'CHANGELOG.rst and changelogs/changelog.yaml have {state.version} of {date}. Read them, then commit.')


def main() -> int:
    """Exit status 0 where it was cut."""
    parser = argparse.ArgumentParser(prog='cut.py', description=__doc__)
    day = datetime.date.fromisoformat
    parser.add_argument('--date', type=day, default=datetime.date.today(), help='of the release, as 2026-03-01')
    try:
        cut(ROOT, parser.parse_args().date)
    except Refused as why:
        print(why, file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
