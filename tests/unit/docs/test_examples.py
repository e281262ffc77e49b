# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every example of the documentation has its place among those that run, or a reason; and all are checked."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.disksnap.libvirt.tests.live.examples import PART, PLAY, ROOT, TASK, Example, examples
from ansible_collections.disksnap.libvirt.tests.live.scenes import BESIDE_A_SCRIPT, NOT_RUN, ON_HYPERVISOR, SCENES

BIN = ROOT / '.venv' / 'bin'
with_tools = pytest.mark.skipif(
    not BIN.exists(), reason='Ansible and ansible-builder are in .venv, which ansible-test does not have: see make unit'
)
ENV = {**os.environ, 'ANSIBLE_COLLECTIONS_PATH': str(ROOT / '.build' / 'collections')}
# whatever else a task has is its module
KEYWORDS = re.compile(r'(name|register|loop|loop_control|vars|when|changed_when|failed_when|run_once|delegate_to)$')
# of modules that take what they like: free words, or names of variables
FREE = {'ansible.builtin.command', 'ansible.builtin.set_fact', 'ansible.builtin.include_role'}
SAMPLES: dict[str, Any] = {'int': 1, 'float': 1.0, 'bool': True, 'list': [], 'dict': {}}


def ansible(program: str, *words: str, **options: Any) -> str:
    done = subprocess.run(
        [str(BIN / program), *words], env=ENV, capture_output=True, text=True, timeout=300, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tasks() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Key of the example, module and options, of all tasks."""
    for key, example in examples().items():
        for task in [example.body] if example.kind == TASK else example.body.get('tasks', []):
            [module] = [word for word in task if not KEYWORDS.match(word)]
            yield key, module, task[module] or {}


def test_each_example_has_one_place() -> None:
    placed = [key for scene in SCENES for key in scene.examples] + [*ON_HYPERVISOR, *BESIDE_A_SCRIPT, *NOT_RUN]
    found = list(examples())
    assert len(found) > 50
    assert sorted(placed) == sorted(found), (
        'Give each example a scene in tests/live/scenes.py, or take it out there: '
        f'{sorted(set(placed) ^ set(found)) or "one stands there twice"}'
    )
    assert all(NOT_RUN.values())


@with_tools
def test_ansible_takes_the_syntax_of_all(tmp_path: Path) -> None:
    files = []
    for number, example in enumerate(examples().values()):
        if example.kind == PART:
            continue
        body = example.body if example.kind == PLAY else {'hosts': 'all', 'tasks': [example.body]}
        files.append(tmp_path / f'{number}.yml')
        files[-1].write_text(yaml.safe_dump([body], sort_keys=False), encoding='utf-8')
    ansible('ansible-playbook', '--syntax-check', '-i', 'hypervisor1,', *map(str, files), cwd=tmp_path)


# -- options --------------------------------------------------------------------------------------------------------


def specification(documented: dict[str, Any]) -> dict[str, Any]:
    """An argument spec, from the options that a plugin's documentation has."""
    spec = {}
    for name, option in documented.items():
        kept = ('type', 'elements', 'choices', 'required', 'aliases')
        spec[name] = {key: option[key] for key in kept if key in option}
        if isinstance(option.get('choices'), dict):
            spec[name]['choices'] = list(option['choices'])
        below = option.get('suboptions') or (option['options'] if isinstance(option.get('options'), dict) else None)
        if below:
            spec[name]['options'] = specification(below)
    return spec


def filled(value: Any, spec: dict[str, Any]) -> Any:
    """An option with something of its type in the place of a template."""
    if isinstance(value, str) and '{{' in value:
        return spec['choices'][0] if spec.get('choices') else SAMPLES.get(spec.get('type', 'str'), value)
    if isinstance(value, dict):
        return {key: filled(one, spec.get('options', {}).get(key, {})) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one, {**spec, 'type': spec.get('elements', 'str')}) for one in value]
    return value


def faults(options: dict[str, Any], spec: dict[str, Any]) -> list[str]:
    values = {key: filled(value, spec.get(key, {})) for key, value in options.items()}
    return list(ArgumentSpecValidator(spec).validate(values).error_messages)


@with_tools
def test_all_modules_take_the_options_that_the_examples_give_them() -> None:
    found = [one for one in tasks() if one[1] not in FREE]
    documented = json.loads(
        ansible('ansible-doc', '--json', '-t', 'module', *{module for _key, module, _options in found})
    )
    assert {module for _key, module, _options in found} == set(documented)
    wrong = {}
    for key, module, options in found:
        spec = specification(documented[module]['doc']['options'])
        wrong[key] = faults(options, spec)
    assert len(wrong) > 40
    assert {key: said for key, said in wrong.items() if said} == {}


def variables_of_roles() -> Iterator[tuple[str, dict[str, Any]]]:
    """Key of the example, and what it sets for a role."""
    for key, example in examples().items():
        yield from ((key, role['vars']) for role in example.body.get('roles', []))
        if example.kind == PART and all(name.startswith('fleet_snapshot_') for name in example.body):
            yield key, {'fleet_snapshot_name': 'nightly', **example.body}
    for key, module, options in tasks():
        if module == 'ansible.builtin.include_role':
            yield key, {'fleet_snapshot_name': 'nightly', **examples()[key].body['tasks'][0]['vars']}
            assert options['name'] == 'disksnap.libvirt.fleet_snapshot'


def test_the_role_takes_the_variables_that_the_examples_give_it() -> None:
    text = (ROOT / 'roles' / 'fleet_snapshot' / 'meta' / 'argument_specs.yml').read_text(encoding='utf-8')
    spec = specification(yaml.safe_load(text)['argument_specs']['main']['options'])
    wrong = {key: faults(variables, spec) for key, variables in variables_of_roles()}
    assert len(wrong) > 3
    assert {key: said for key, said in wrong.items() if said} == {}


@with_tools
@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'nmae': 'db1'}, 'nmae'),
        ({'state': 'gone'}, 'gone'),
        ({'disks': [{'terget': 'vda'}]}, 'terget'),
        ({}, 'required'),
    ],
)
def test_a_wrong_option_is_found(options: dict[str, Any], words: str) -> None:
    told = json.loads(ansible('ansible-doc', '--json', '-t', 'module', 'disksnap.libvirt.disk_snapshot'))
    spec = specification(told['disksnap.libvirt.disk_snapshot']['doc']['options'])
    given = {'snapshot_name': 'nightly', **options} if options else {}
    assert words in ' '.join(faults(given, spec))


@with_tools
def test_ansible_builder_takes_the_execution_environment(tmp_path: Path) -> None:
    shown: Example = examples()['guide_awx: version']
    (tmp_path / 'execution-environment.yml').write_text(yaml.safe_dump(shown.body), encoding='utf-8')
    ansible('ansible-builder', 'create', '--output-filename', 'Containerfile', cwd=tmp_path)
    assert 'openssh-clients' in (tmp_path / 'context' / '_build' / 'bindep.txt').read_text(encoding='utf-8')
