# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The survey specs: what AWX takes, and questions that the playbooks and the role know the answers to."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
SURVEYS = sorted((ROOT / 'docs' / 'awx').glob('*.survey.json'))
PLAYBOOKS = sorted(path.stem for path in (ROOT / 'playbooks').glob('*.yml'))
# what AWX accepts as the default of a question
TYPES: dict[str, Any] = {
    'text': str,
    'textarea': str,
    'password': str,
    'multiplechoice': str,
    'multiselect': str,
    'integer': int,
    'float': (float, int),
}
# an option of this type may be asked for by questions of these types; AWX has none for yes and no
ASKED_BY = {
    'str': {'text', 'multiplechoice'},
    'bool': {'multiplechoice'},
    'float': {'float'},
    'list': {'textarea', 'multiselect'},
    'dict': {'textarea'},
}


def survey(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding='utf-8'))
    return loaded


def playbook(path: Path) -> str:
    """The playbook of a survey without its comments."""
    text = (ROOT / 'playbooks' / f'{path.name.split(".")[0]}.yml').read_text(encoding='utf-8')
    return '\n'.join(line for line in text.splitlines() if not line.lstrip().startswith('#'))


def options_of_the_role() -> dict[str, dict[str, Any]]:
    text = (ROOT / 'roles' / 'fleet_snapshot' / 'meta' / 'argument_specs.yml').read_text(encoding='utf-8')
    options: dict[str, dict[str, Any]] = yaml.safe_load(text)['argument_specs']['main']['options']
    return options


def options_of_the_merge() -> dict[str, dict[str, Any]]:
    """As the playbook merge calls them."""
    tree = ast.parse((ROOT / 'plugins' / 'modules' / 'snapshot_merge.py').read_text(encoding='utf-8'))
    [text] = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'DOCUMENTATION'
    ]
    options = {**yaml.safe_load(text)['options'], 'domain': {'type': 'str'}, 'disks': {'type': 'list'}}
    return {f'fleet_snapshot_merge_{name}': option for name, option in options.items()}


OPTIONS = {
    **options_of_the_role(),
    **options_of_the_merge(),
    'fleet_snapshot_hosts': {'type': 'str', 'default': 'all'},
    'fleet_snapshot_audit_fail': {'type': 'bool', 'default': False},
}
QUESTIONS = [(path, question) for path in SURVEYS for question in survey(path)['spec']]
each_question = pytest.mark.parametrize(
    ('path', 'question'),
    QUESTIONS,
    ids=[f'{path.name.split(".")[0]}-{question["variable"]}' for path, question in QUESTIONS],
)


def test_each_playbook_has_a_survey() -> None:
    assert [path.name for path in SURVEYS] == [f'{name}.survey.json' for name in PLAYBOOKS]


@pytest.mark.parametrize('path', SURVEYS, ids=lambda path: path.name)
def test_awx_takes_it(path: Path) -> None:
    loaded = survey(path)
    assert set(loaded) == {'name', 'description', 'spec'}
    assert loaded['name']
    assert isinstance(loaded['description'], str)
    variables = [question['variable'] for question in loaded['spec']]
    assert variables
    assert len(set(variables)) == len(variables)


@each_question
def test_awx_takes_the_question(path: Path, question: dict[str, Any]) -> None:
    for key in ('type', 'question_name', 'question_description', 'variable'):
        assert isinstance(question[key], str)
    assert isinstance(question['required'], bool)
    assert isinstance(question['default'], (str, *_tuple(TYPES[question['type']])))
    for key in ('min', 'max'):
        assert isinstance(question.get(key, 0), int)
    if question['type'] in ('multiplechoice', 'multiselect'):
        assert question['default'] in question['choices']
    assert not question['default'] or not isinstance(question['default'], str) or 'encrypted' not in question['default']


def _tuple(types: Any) -> tuple[Any, ...]:
    return types if isinstance(types, tuple) else (types,)


@each_question
def test_the_playbook_knows_the_answer(path: Path, question: dict[str, Any]) -> None:
    variable = question['variable']
    option = OPTIONS[variable]
    assert question['type'] in ASKED_BY[option['type']]
    if variable not in options_of_the_role():
        assert re.search(rf'\b{variable}\b', playbook(path))
    choices = option.get('choices', ['false', 'true'] if option['type'] == 'bool' else None)
    if choices:
        assert sorted(question['choices']) == sorted(choices)


@each_question
def test_no_answer_is_the_default_of_the_option(path: Path, question: dict[str, Any]) -> None:
    option = OPTIONS[question['variable']]
    if question['default'] == '':
        return
    default = option['default']
    assert question['default'] == (str(default).lower() if option['type'] == 'bool' else default)


@each_question
def test_an_empty_answer_is_understood_where_awx_lets_it_pass(path: Path, question: dict[str, Any]) -> None:
    """AWX refuses an empty answer to a required question, if text must have a character at least."""
    variable = question['variable']
    if question['required']:
        assert question['type'] not in ('text', 'textarea') or question['min'] >= 1
        return
    assert question['default'] == ''
    assert not question.get('min')
    if OPTIONS[variable]['type'] == 'list' and variable in options_of_the_role():
        return  # the role makes a list of them all
    guarded = r'(default\([^)]*, true\)|default\(none\) \| disksnap\.libvirt\.fleet_list)'
    assert re.search(rf'\b{variable} \| {guarded}', playbook(path))


@pytest.mark.parametrize('name', ['restore', 'snapshot'])
def test_what_the_role_requires_is_required(name: str) -> None:
    asked = {question['variable']: question for path, question in QUESTIONS if path.name.startswith(name)}
    required = [variable for variable, option in options_of_the_role().items() if option.get('required')]
    assert required
    assert all(asked[variable]['required'] for variable in required)
