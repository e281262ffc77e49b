# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Test the collection with several releases of ansible-core and Python, and print a table. See ``make test-all``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / '.build' / 'collections')]

from ansible_collections.disksnap.libvirt.tests.matrix.cells import Cell, all_cells, quick_cells  # noqa: E402
from ansible_collections.disksnap.libvirt.tests.matrix.machine import (  # noqa: E402
    PYTHONS,
    find_pythons,
    read_cores,
)
from ansible_collections.disksnap.libvirt.tests.matrix.run import FAILED, last_words, run  # noqa: E402
from ansible_collections.disksnap.libvirt.tests.matrix.table import closing_line, table  # noqa: E402
from ansible_collections.disksnap.libvirt.tests.matrix.venvs import NotMade, core_venv, unit_venv  # noqa: E402

CORES = read_cores((ROOT / 'tests' / 'matrix' / 'cores.txt').read_text(encoding='utf-8').splitlines())
#: Where ansible-test finds them, and no shim beside them.
LINKS = ROOT / '.build' / 'pythons'


def main() -> int:
    """Exit status 0 where nothing failed."""
    parser = argparse.ArgumentParser(prog='tests/matrix', description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    names = [core.name for core in CORES]
    commands.add_parser('run', help='all cores').add_argument(
        'cells', nargs='*', metavar='WORD', help='only the cells that have all these words, as: 2.16 units'
    )
    commands.add_parser('quick', help='the newest core that this machine can run, and the oldest')
    commands.add_parser('core', help='print the folder of the venv of a core').add_argument(
        'name', choices=['newest', 'oldest', *names]
    )
    commands.add_parser('unit-python', help='print the Python that has what the unit tests need').add_argument(
        'name', choices=PYTHONS
    )
    commands.add_parser('link', help='lay the Pythons of this machine into .build/pythons, and say which it has not')
    options = parser.parse_args()
    try:
        return int(COMMANDS[options.command](options))
    except NotMade as error:
        print(f'tests/matrix: {error}', file=sys.stderr)
        return 1


def run_some(options: argparse.Namespace) -> int:
    """The whole matrix, or what was named of it."""
    cells = [cell for cell in all_cells(CORES, find_pythons()) if set(options.cells) <= set(cell.name.split())]
    return run_cells(cells)


def run_quick(_options: argparse.Namespace) -> int:
    """What ``make test`` runs of it."""
    return run_cells(quick_cells(CORES, find_pythons()))


def run_cells(cells: list[Cell]) -> int:
    """Run them one after the other, and print the table; a matrix of which nothing could run has failed."""
    started = time.monotonic()
    outcomes = []
    for cell in cells:
        outcomes.append(run(cell))
        if not cell.reason:
            done = outcomes[-1]
            print(f'{cell.name:<20} {done.state} ({done.seconds:.0f} s) {done.reason}'.rstrip(), flush=True)
            if done.state == FAILED:
                print(*(f'    {line}' for line in last_words(cell)), sep='\n', flush=True)
    pythons = find_pythons()
    print('', *table(outcomes, {core: core.choose(pythons) or '' for core in CORES}), '', sep='\n')
    print(f'{(time.monotonic() - started) / 60:.0f} min')
    print(closing_line(outcomes))
    failed = any(outcome.state == FAILED for outcome in outcomes)
    return 1 if failed or all(cell.reason for cell in cells) else 0


def print_core(options: argparse.Namespace) -> int:
    """The folder of the venv of the core of this name."""
    pythons = find_pythons()
    able = {core.name: (core, python) for core in CORES if (python := core.choose(pythons))}
    names = list(able)
    name = {'newest': names[-1], 'oldest': names[0]}.get(options.name, options.name) if names else options.name
    if name not in able:
        wanted = [' or '.join(core.pythons) for core in CORES if core.name == name]
        raise NotMade(f'ansible-core {name} needs Python {wanted}, and this machine has none of them')
    core, python = able[name]
    print(core_venv(core, python, pythons[python]))
    return 0


def print_unit_python(options: argparse.Namespace) -> int:
    """The interpreter for ansible-test's ``--python-interpreter``."""
    pythons = find_pythons()
    if options.name not in pythons:
        raise NotMade(f'this machine has no Python {options.name}')
    print(unit_venv(options.name, pythons[options.name]) / 'bin' / f'python{options.name}')
    return 0


def link(_options: argparse.Namespace) -> int:
    """ansible-test takes the first ``pythonX.Y`` on its PATH, and there a shim is no Python."""
    LINKS.mkdir(parents=True, exist_ok=True)
    pythons = find_pythons()
    for version in PYTHONS:
        place = LINKS / f'python{version}'
        if version not in pythons:
            place.unlink(missing_ok=True)
            print(f'Python {version}: compile and import tests are skipped, this machine does not have it')
        elif not place.exists() or place.resolve() != pythons[version].resolve():
            place.unlink(missing_ok=True)
            place.symlink_to(pythons[version].resolve())
    return 0


COMMANDS = {
    'run': run_some,
    'quick': run_quick,
    'core': print_core,
    'unit-python': print_unit_python,
    'link': link,
}


if __name__ == '__main__':
    sys.exit(main())
