# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checks of the docs site find what they are for; the pins of venvs and of nox agree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.disksnap.libvirt.tests.docsite import examples, links

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ('link', 'why'),
    [
        ('other.html', None),
        ('other.html#here', None),
        ('#top', None),
        ('sub/', None),
        ('gone.html', 'there is no such file'),
        ('/', 'there is no such file'),
        ('other.html#nowhere', 'other.html has no such place'),
        ('#nowhere', 'index.html has no such place'),
    ],
)
def test_links(link: str, why: str | None, tmp_path: Path) -> None:
    (tmp_path / 'index.html').write_text(f'<p id="top"><a href="{link}">x</a> <a href="https://e.org/no">y</a></p>')
    (tmp_path / 'other.html').write_text('<h1><a name="here"></a></h1>')
    (tmp_path / 'sub').mkdir()
    (tmp_path / 'sub' / 'index.html').write_text('<p></p>')
    assert links.check(tmp_path) == (1, [] if why is None else [f'index.html: {link}: {why}'])


def test_blocks_of_a_guide() -> None:
    text = 'a\n\n  .. code-block:: yaml\n     :caption: c\n\n     - a: 1\n\n       b: 2\n\nc\n'
    text += '\n.. code-block:: sh\n\n   - x\n'
    assert examples.of_guide(text) == ['- a: 1\n\n  b: 2\n']


@pytest.mark.parametrize(
    ('text', 'kind'),
    [
        ('- hosts: all', 'playbooks'),
        ('- import_playbook: a.b.c', 'playbooks'),
        ('- name: t', 'tasks'),
        ('a: 1', 'other'),
    ],
)
def test_kinds(text: str, kind: str) -> None:
    assert examples.kind(text) == kind


def test_what_is_no_yaml_is_an_error() -> None:
    with pytest.raises(yaml.YAMLError):
        examples.kind('a: [')


def test_each_module_and_each_guide_with_yaml_is_among_them() -> None:
    names = {name for name, _body in examples.examples()}
    modules = {f'modules_{path.stem}' for path in (ROOT / 'plugins' / 'modules').glob('*.py')}
    guides = {
        path.stem
        for path in (ROOT / 'docs' / 'docsite' / 'rst').glob('*.rst')
        if 'code-block:: yaml' in path.read_text(encoding='utf-8')
    }
    assert modules | guides <= names


def test_each_guide_is_on_the_site() -> None:
    listed = yaml.safe_load((ROOT / 'docs' / 'docsite' / 'extra-docs.yml').read_text(encoding='utf-8'))
    named = [guide for section in listed['sections'] for guide in section['toctree']]
    assert sorted(named) == sorted(path.stem for path in (ROOT / 'docs' / 'docsite' / 'rst').glob('*.rst'))


@pytest.mark.parametrize('name', ['nox', 'antsibull-nox'])
def test_nox_by_hand_is_the_same_as_make_nox(name: str) -> None:
    found = [
        re.findall(rf'["\n]{re.escape(name)}==([0-9.]+)', (ROOT / file).read_text(encoding='utf-8'))
        for file in ('noxfile.py', 'tests/tools/nox.txt')
    ]
    assert found[0] == found[1] != []
