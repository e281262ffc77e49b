# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Held against the sources: no shell, no XML that is read by anything but our parser, no file where others guess it."""

from __future__ import annotations

import ast
import functools
import re
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
SOURCES = sorted((ROOT / 'plugins').rglob('*.py'))

# what runs a text as a program, by a shell or by Python, or makes values of bytes that are code
RUNS_TEXT = re.compile(
    r'(os\.(system|popen|exec\w+|spawn\w+|posix_spawnp?)|subprocess\.get(status)?output|pty\.spawn'
    r'|asyncio\.create_subprocess_shell|eval|exec|compile|pickle\.loads?|marshal\.loads?|yaml\.(unsafe_)?load'
    r'|module\.run_command)'
)
# who starts programs, and with what: a list, never a text
STARTERS = {'_command.py': ['list(argv)'], '_merge_offline.py': ['argv']}
PARSERS = {
    'parse.py': ['etree.XMLParser', 'etree.fromstring'],
    'schema.py': ['etree.RelaxNG', 'etree.RelaxNG', 'etree.fromstring'],
}
READS_XML = re.compile(
    r'(etree|objectify|lxml\.\w+)\.(fromstring\w*|parse|XML|XMLID|HTML|iterparse|XMLParser|HTMLParser|XMLPullParser'
    r'|RelaxNG|XMLSchema|DTD|XSLT|XInclude)|.*\.xinclude'
)
TEMPORARY = {'_apparmor.py': ['tempfile.mkstemp'], '_merge_offline.py': ['tempfile.TemporaryFile'] * 2}
# raw has the words of _barrier.py's command, and of a play, brought to a host; see test_only_words_are_brought
SHELLS = {'shell', 'command', 'script', 'raw', 'expect', 'psexec', 'telnet', 'win_shell', 'win_command'}
RAW = {'fleet_word.yml', 'fleet_abandon.yml'}


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """All that a file consists of."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding='utf-8'))))


@functools.cache
def calls(path: Path) -> tuple[tuple[str, ast.Call], ...]:
    """Every call of a file, with the dotted name of what is called."""
    return tuple((ast.unparse(node.func), node) for node in nodes(path) if isinstance(node, ast.Call))


def of_sources(pattern: re.Pattern[str]) -> dict[str, list[str]]:
    """File -> what it calls of the pattern, sorted."""
    found = {path.name: sorted(name for name, _call in calls(path) if pattern.fullmatch(name)) for path in SOURCES}
    return {name: names for name, names in found.items() if names}


def test_nothing_runs_a_text() -> None:
    assert len(SOURCES) > 60
    assert of_sources(RUNS_TEXT) == {}


def test_no_call_has_an_option_for_a_shell() -> None:
    options = {
        f'{path.name}: {keyword.arg}'
        for path in SOURCES
        for _name, call in calls(path)
        for keyword in call.keywords
        if keyword.arg in ('shell', 'use_unsafe_shell', 'executable', 'preexec_fn')
    }
    assert options == set()


def test_programs_are_started_by_lists() -> None:
    found: dict[str, list[str]] = {}
    for path in SOURCES:
        for name, call in calls(path):
            if name.startswith('subprocess.') and name != 'subprocess.TimeoutExpired':
                assert name == 'subprocess.Popen', f'{path.name} calls {name}'
                found.setdefault(path.name, []).append(ast.unparse(call.args[0]))
    assert found == STARTERS


@pytest.mark.parametrize('module', ['subprocess', 'etree', 'pickle', 'shelve', 'ctypes'])
def test_they_are_known_by_their_own_names(module: str) -> None:
    """Else what is looked for above would not be seen."""
    for path in SOURCES:
        for node in nodes(path):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                of = getattr(node, 'module', None) or ''
                assert of.rpartition('.')[2] != module, f'{path.name} imports from {module}'
                for alias in node.names:
                    assert module not in ('pickle', 'shelve', 'ctypes') or alias.name != module
                    assert alias.name.rpartition('.')[2] != module or alias.asname in (None, module)


def test_only_our_parser_reads_xml() -> None:
    """It refuses a DOCTYPE, loads nothing and has limits; the schema is our own text."""
    assert of_sources(READS_XML) == PARSERS


def test_temporary_files_are_made_by_tempfile() -> None:
    assert of_sources(re.compile(r'tempfile\.\w+')) == TEMPORARY
    for path in SOURCES:
        for node in nodes(path):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.match(r'/(var/)?tmp\b|/dev/shm\b', node.value), f'{path.name}: {node.value}'


# -- roles --------------------------------------------------------------------------------------------------------


def tasks(node: t.Any) -> Iterator[dict[str, t.Any]]:
    """Every mapping of a YAML file, as a task may be in a block."""
    if isinstance(node, list):
        for entry in node:
            yield from tasks(entry)
    elif isinstance(node, dict):
        yield node
        for value in node.values():
            yield from tasks(value)


def in_roles() -> Iterator[tuple[Path, dict[str, t.Any]]]:
    """Every task of the roles and playbooks."""
    for folder in ('roles', 'playbooks'):
        for path in sorted((ROOT / folder).rglob('*.yml')):
            if path.parent.name in ('tasks', 'handlers', 'playbooks'):
                for task in tasks(yaml.safe_load(path.read_text(encoding='utf-8'))):
                    yield path, task


def test_roles_use_no_shell() -> None:
    found = {(path.name, key) for path, task in in_roles() for key in task if str(key).rpartition('.')[2] in SHELLS}
    assert found == {(name, 'ansible.builtin.raw') for name in RAW}


def test_only_words_are_brought() -> None:
    """What comes after the command of _barrier.py, which is quoted there, is a word of ours or is quoted."""
    words = set()
    for path, task in in_roles():
        raw = task.get('ansible.builtin.raw')
        if raw is not None:
            command, _space, rest = re.sub(r'\s+', ' ', raw).partition(' }} ')
            assert command == '{{ __fleet_snapshot_prepared.command'
            assert rest == 'abandon' or re.fullmatch(
                r'\{\{ __fleet_snapshot_word if __fleet_snapshot_beside is undefined else \(.*\) \| quote \}\}', rest
            ), f'{path.name}: {rest}'
        variables = task.get('vars')
        if isinstance(variables, dict) and '__fleet_snapshot_word' in variables:
            words.add(variables['__fleet_snapshot_word'])
    assert words
    assert all(re.fullmatch('[a-z]+', word) for word in words), words
