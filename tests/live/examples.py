# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every example in YAML that the collection's documentation shows: tasks, plays, and parts of either."""

from __future__ import annotations

import ast
import collections
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
TASK, PLAY, PART = 'task', 'play', 'part'
_MARKDOWN = re.compile(r'^```ya?ml.*?\n(.*?)^```', re.DOTALL | re.MULTILINE)
_DIRECTIVE = re.compile(r'\.\. (?:code-block|code|sourcecode):: *ya?ml')
# what only a play has
_OF_PLAYS = {'hosts', 'import_playbook', 'ansible.builtin.import_playbook'}


@dataclass(frozen=True)
class Example:
    """One example; ``body`` is the task or the play, or the keys and values of a part of one.

    ``key`` tells it from all others: the page (a plugin, README, a guide, a role) and the name, or the first key.
    """

    key: str
    kind: str
    body: dict[str, Any]


def examples() -> dict[str, Example]:
    """Key -> example, of all pages."""
    found = []
    for page, texts in _pages().items():
        seen: collections.Counter[str] = collections.Counter()
        for body in (body for text in texts for body in _bodies(page, text)):
            kind = PLAY if _OF_PLAYS & set(body) else TASK if 'name' in body else PART
            name = str(body['name'] if 'name' in body else next(iter(body)))
            seen[name] += 1
            again = f' ({seen[name]})' if seen[name] > 1 else ''
            found.append(Example(f'{page}: {name}{again}', kind, body))
    return {example.key: example for example in found}


def _bodies(page: str, text: str) -> list[dict[str, Any]]:
    read = yaml.safe_load(text)
    bodies = read if isinstance(read, list) else [read]
    assert bodies, f'{page} has an empty example'
    assert all(isinstance(body, dict) for body in bodies), (
        f'{page} has an example that is no task, play or part: {text}'
    )
    return bodies


def _pages() -> dict[str, list[str]]:
    """Page -> its texts in YAML."""
    pages = {}
    for folder in ('modules', 'filter'):
        for path in sorted((ROOT / 'plugins' / folder).iterdir()):
            if path.suffix in ('.py', '.yml'):
                pages[path.stem] = [_of_plugin(path)]
    for path in [ROOT / 'README.md', *sorted(ROOT.glob('roles/*/README.md'))]:
        page = 'README' if path.parent == ROOT else f'role {path.parent.name}'
        pages[page] = _MARKDOWN.findall(path.read_text(encoding='utf-8'))
    for path in sorted((ROOT / 'docs' / 'docsite' / 'rst').glob('*.rst')):
        pages[path.stem] = _of_guide(path.read_text(encoding='utf-8'))
    return pages


def _of_plugin(path: Path) -> str:
    """Its EXAMPLES; each module and filter has them."""
    text = path.read_text(encoding='utf-8')
    if path.suffix == '.yml':
        return str(yaml.safe_load(text)['EXAMPLES'])
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'EXAMPLES':
            return str(ast.literal_eval(node.value))
    raise AssertionError(f'{path} has no EXAMPLES')


def _of_guide(text: str) -> list[str]:
    """Its code blocks; one that is further to the right than the first goes on with the one before it."""
    blocks: list[str] = []
    edge = None
    lines = iter([*text.splitlines(), 'end'])
    line = next(lines, None)
    while line is not None:
        if not _DIRECTIVE.match(line):
            assert not _DIRECTIVE.match(line.lstrip()), f'an example within a list or a note is not found: {line}'
            line = next(lines, None)
            continue
        block = []
        for line in lines:
            if line and not line.startswith(' '):
                break
            block.append(line)
        body = '\n'.join(block).strip('\n') + '\n'
        margin = len(body) - len(body.lstrip(' '))
        edge = margin if edge is None else edge
        if margin > edge:
            blocks[-1] += textwrap.indent(textwrap.dedent(body), ' ' * (margin - edge))
        else:
            blocks.append(textwrap.dedent(body))
    return blocks
