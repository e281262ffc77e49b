# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The house plan in CONTRIBUTING.md, held against what the files import."""

from __future__ import annotations

import ast
import fnmatch
import graphlib
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
UTILS = ROOT / 'plugins' / 'module_utils'
PACKAGE = 'ansible_collections.disksnap.libvirt.plugins.module_utils'


def plan() -> dict[str, int]:
    """Room (``_pool.py``, ``_xml/``, a pattern) -> floor, from the table in CONTRIBUTING.md."""
    floors = {}
    for line in (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8').splitlines():
        row = re.match(r'\| (\d) \| ([^|]+) \|', line)
        if row:
            floors.update({room: int(row.group(1)) for room in re.findall(r'`([^`]+)`', row.group(2))})
    return floors


def room_of(path: Path) -> str:
    relative = path.relative_to(UTILS)
    return f'{relative.parts[0]}/' if len(relative.parts) > 1 else relative.name


def floor_of(room: str, floors: dict[str, int]) -> int:
    found = [floor for pattern, floor in floors.items() if fnmatch.fnmatch(room, pattern)]
    assert len(found) == 1, f'{room} stands {len(found)} times in the table of CONTRIBUTING.md'
    return found[0]


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports when it runs, as dotted names below module_utils."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith(PACKAGE):
            below = (node.module or '')[len(PACKAGE) + 1 :]
            names |= {f'{below}.{alias.name}'.strip('.') for alias in node.names}
    return names


def files() -> dict[str, Path]:
    """Dotted name below module_utils -> file."""
    return {
        '.'.join(path.relative_to(UTILS).with_suffix('').parts): path
        for path in sorted(UTILS.rglob('*.py'))
        if path.name != '__init__.py'
    }


def graph() -> dict[str, set[str]]:
    """File -> files that it imports."""
    known = files()
    found: dict[str, set[str]] = {}
    for name, path in known.items():
        dotted = imports(path)
        found[name] = {other for other in known if any(one == other or one.startswith(f'{other}.') for one in dotted)}
    return found


def test_every_file_has_its_floor() -> None:
    floors = plan()
    assert len(files()) > 30
    for path in files().values():
        floor_of(room_of(path), floors)


def test_nothing_imports_from_above() -> None:
    floors, known = plan(), files()
    upward = [
        f'{name} imports {other}'
        for name, others in graph().items()
        for other in others
        if floor_of(room_of(known[other]), floors) > floor_of(room_of(known[name]), floors)
    ]
    assert upward == []


def test_no_circle() -> None:
    order = list(graphlib.TopologicalSorter(graph()).static_order())  # raises CycleError and names the circle
    assert set(order) == set(files())
