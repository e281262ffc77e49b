# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which version number may be released, after what and with which fragments; tests/release does it in earnest."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from ansible_collections.disksnap.libvirt.tests.release.cut import Refused, State, check, cut, look, written_for

MENDED, ADDED, BROKEN = 'bugfixes', 'minor_changes', 'breaking_changes'


def state(version: str, *sections: str, released: tuple[str, ...] = ('1.0.0', '1.2.3', '1.10.0')) -> State:
    return State(version, released, {f'{section}.yml': frozenset({section}) for section in sections})


@pytest.mark.parametrize(
    ('version', 'sections'),
    [
        ('1.10.1', [MENDED]),
        ('1.10.1', ['trivial']),
        ('1.11.0', [MENDED]),
        ('1.11.0', [ADDED, MENDED]),
        ('1.11.0', ['deprecated_features']),
        ('1.11.0', ['add object.playbook']),
        ('2.0.0', [BROKEN, ADDED]),
        ('2.0.0', ['removed_features']),
    ],
)
def test_a_version_as_the_policy_has_it(version: str, sections: list[str]) -> None:
    check(state(version, *sections))


@pytest.mark.parametrize(
    ('version', 'sections', 'least'),
    [
        ('1.10.0', [MENDED], '1.10.1'),
        ('1.2.4', [MENDED], '1.10.1'),
        ('1.10.1', [MENDED, ADDED], '1.11.0'),
        ('1.10.1', ['add object.playbook'], '1.11.0'),
        ('1.11.0', [ADDED, BROKEN], '2.0.0'),
    ],
)
def test_a_version_that_says_too_little(version: str, sections: list[str], least: str) -> None:
    with pytest.raises(Refused, match=rf'galaxy.yml says {version}, .* makes it {least} at least'):
        check(state(version, *sections))


def test_nothing_to_tell() -> None:
    with pytest.raises(Refused, match='no fragment'):
        check(state('1.11.0'))


@pytest.mark.parametrize('version', ['1.11', '1.11.0-rc1', 'v2.0.0', ''])
def test_another_form_of_number(version: str) -> None:
    with pytest.raises(Refused, match=r'MAJOR\.MINOR\.PATCH'):
        check(state(version, ADDED))


def test_the_first_release_has_fragments_of_its_own() -> None:
    first = State('1.0.0', (), {name: frozenset({ADDED}) for name in ('1.0.0.yml', '1.0.0-known.yml', '1.0.00.yml')})
    check(first)
    assert written_for(first) == ['1.0.0.yml', '1.0.0-known.yml']
    with pytest.raises(Refused, match=r'changelogs/fragments/1\.0\.0\.yml'):
        check(state('1.0.0', ADDED, released=()))


def test_a_refused_release_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / 'changelogs' / 'fragments').mkdir(parents=True)
    (tmp_path / 'galaxy.yml').write_text('version: 1.0.0\n', encoding='utf-8')
    (tmp_path / 'changelogs' / 'changelog.yaml').write_text('releases:\n  1.0.0: {}\n', encoding='utf-8')
    (tmp_path / 'changelogs' / 'fragments' / '8-new.yml').write_text('minor_changes: [new]\n', encoding='utf-8')
    before = look(tmp_path)
    with pytest.raises(Refused, match=r'makes it 1\.1\.0'):
        cut(tmp_path, datetime.date(2026, 3, 1))
    assert look(tmp_path) == before == State('1.0.0', ('1.0.0',), {'8-new.yml': frozenset({ADDED})})
