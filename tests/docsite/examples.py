# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lay out the examples of the modules, filters and guides as playbooks and task files, for ansible-lint.

By itself it does not look at them as tasks: neither at their options nor at their names.

Usage: tests/docsite/examples.py FOLDER
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r'^( *)\.\. code-block:: yaml(?:\+jinja)?\n(?:\1 +:.*\n)*\n((?:\1 +.*\n|\n)+)', re.MULTILINE)


def _of_plugin(path: Path) -> Iterator[str]:
    if path.suffix == '.yml':
        documented = yaml.safe_load(path.read_text(encoding='utf-8'))
        if isinstance(documented, dict) and 'EXAMPLES' in documented:
            yield documented['EXAMPLES']
        return
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'EXAMPLES':
            yield ast.literal_eval(node.value)


def of_guide(text: str) -> list[str]:
    """The YAML blocks of a guide."""
    return [textwrap.dedent(block).strip('\n') + '\n' for _edge, block in _BLOCK.findall(text)]


def examples() -> Iterator[tuple[str, str]]:
    """Where each example is from, and its YAML."""
    for folder in ('modules', 'filter'):
        for path in sorted((ROOT / 'plugins' / folder).iterdir()):
            if path.suffix in ('.py', '.yml'):
                yield from ((f'{folder}_{path.stem}', text) for text in _of_plugin(path))
    for path in sorted((ROOT / 'docs' / 'docsite' / 'rst').glob('*.rst')):
        yield from ((path.stem, text) for text in of_guide(path.read_text(encoding='utf-8')))


def kind(text: str) -> str:
    """``playbooks`` or ``tasks``, or ``other`` for what is neither, as variables.

    Raises:
        yaml.YAMLError: if it is no YAML.
    """
    loaded = yaml.safe_load(text)
    if not isinstance(loaded, list) or not all(isinstance(entry, dict) for entry in loaded):
        return 'other'
    return 'playbooks' if any('hosts' in entry or 'import_playbook' in entry for entry in loaded) else 'tasks'


def main() -> int:
    folder = Path(sys.argv[1])
    texts: dict[tuple[str, str], list[str]] = {}
    for name, text in examples():
        texts.setdefault((kind(text), name), []).append(text.strip('\n'))
    for (what, name), parts in texts.items():
        if what != 'other':
            path = folder / what / f'{name}.yml'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text('---\n' + '\n\n'.join(parts) + '\n', encoding='utf-8')
    print(f'{sum(map(len, texts.values()))} examples')
    return 0 if texts else 1


if __name__ == '__main__':
    sys.exit(main())
