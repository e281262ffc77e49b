# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Build the collection as a release is built, install it as users do, and run Ansible with nothing but that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / '.venv' / 'bin'
SECONDS = 300


def sources() -> list[str]:
    """The files that git has, and new ones that it does not ignore, as paths below the root."""
    listed = run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], cwd=ROOT, env=None)
    return [name for name in listed.split('\0') if name and (ROOT / name).exists()]


def run(argv: list[str], *, cwd: Path, env: dict[str, str] | None) -> str:
    """What a program printed to its standard output; an error with all that it printed if it fails."""
    done = subprocess.run(
        argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, f'{argv} ended with {done.returncode}:\n{done.stdout}{done.stderr}'
    return done.stdout


def lay(tree: Path) -> Path:
    """A copy of the sources, as a fresh clone would have them."""
    for name in sources():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)
    # without it, tools would ask the repository around it
    run(['git', 'init', '--quiet', '.'], cwd=tree, env=None)
    return tree


def build(tree: Path, into: Path, env: dict[str, str]) -> Artifact:
    """Build the collection of a tree into an empty directory."""
    shutil.rmtree(into, ignore_errors=True)
    run([str(PROGRAMS / 'ansible-galaxy'), 'collection', 'build', '--output-path', str(into)], cwd=tree, env=env)
    [path] = into.iterdir()
    return Artifact(path)


def cut(tree: Path) -> None:
    """What ``make release`` does, in a tree."""
    run([sys.executable, str(tree / 'tests' / 'release' / 'cut.py')], cwd=tree, env=None)


def bare_environment(home: Path, collections: Path) -> dict[str, str]:
    """An environment in which Ansible knows no setting and no collection but those in one directory."""
    config = home / 'ansible.cfg'
    home.mkdir(exist_ok=True)
    config.write_text('', encoding='utf-8')
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith('ANSIBLE_')},
        'ANSIBLE_CONFIG': str(config),
        'ANSIBLE_HOME': str(home),
        'ANSIBLE_COLLECTIONS_PATH': str(collections),
        'ANSIBLE_COLLECTIONS_SCAN_SYS_PATH': 'false',
        'ANSIBLE_NOCOLOR': '1',
    }


@dataclass(frozen=True)
class Artifact:
    """A built collection."""

    path: Path

    @cached_property
    def files(self) -> dict[str, bytes]:
        """Path -> content of all files, those that Ansible adds among them."""
        with tarfile.open(self.path) as tar:
            found = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
            return {name: stream.read() for name, stream in found.items() if stream is not None}

    @cached_property
    def entries(self) -> set[str]:
        """All paths, also of directories and links."""
        with tarfile.open(self.path) as tar:
            return {member.name.rstrip('/') for member in tar}

    def json(self, name: str) -> Any:
        """A file of it that is JSON."""
        return json.loads(self.files[name])

    def yaml(self, name: str) -> Any:
        """A file of it that is YAML."""
        return yaml.safe_load(self.files[name])

    @property
    def version(self) -> str:
        """Its version, as Galaxy sees it."""
        return str(self.json('MANIFEST.json')['collection_info']['version'])

    def names(self, folder: str) -> set[str]:
        """Names of the plugins, playbooks or roles in a folder."""
        inside = {name.removeprefix(f'{folder}/') for name in self.files if name.startswith(f'{folder}/')}
        return {name.partition('/')[0].partition('.')[0] for name in inside}


@dataclass(frozen=True)
class Installed:
    """A directory with the installed collection, and an environment for Ansible that has only that."""

    collections: Path
    env: dict[str, str]

    def ansible(self, program: str, *words: str) -> str:
        """Run a program of Ansible's, away from the sources; what it printed."""
        return run([str(PROGRAMS / program), *words], cwd=self.collections, env=self.env)
