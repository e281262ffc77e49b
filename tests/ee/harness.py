# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is needed to build an execution environment, and to stand in for a container engine.

ansible-builder makes a context with a Dockerfile. Its steps that matter here are done by hand, in the same order and by
its own scripts: the collection is installed, asked for what it needs, and that is installed in a Debian directory.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from disksnap_lab.system import System

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
VENV = ROOT / '.venv' / 'bin'
TOOLS = ROOT / '.build' / 'ee' / 'tools'
DEFINITION = ROOT / 'docs' / 'ee' / 'execution-environment.yml'
COLLECTION = Path('ansible_collections', 'disksnap', 'libvirt')
# in the environment: its Python, where Debian lets nobody but its own packages into the system's
INSIDE = Path('/opt/ee')
# of a base image: Python with pip
_BASE = ('python3', 'python3-venv')


Words = list[Union[str, Path]]


def run(argv: Sequence[str | Path], cwd: Path | None = None, timeout: float = 300) -> str:
    """Run a program that must succeed; what it printed. No setting of Ansible from outside reaches it."""
    words = [str(word) for word in argv]
    own = {name: value for name, value in os.environ.items() if not name.startswith('ANSIBLE_')}
    env = {**own, 'LC_ALL': 'C.UTF-8', 'DEBIAN_FRONTEND': 'noninteractive', 'ANSIBLE_NOCOLOR': '1'}
    done = subprocess.run(
        words, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f'{" ".join(words)} ended with {done.returncode}: {done.stdout}{done.stderr}'
    return done.stdout


def tools() -> Path:
    """bin/ with ansible-builder and bindep, of tests/ee/requirements.txt."""
    wanted = HERE / 'requirements.txt'
    made_of = hashlib.sha256(wanted.read_bytes()).hexdigest()
    stamp = TOOLS / 'made-of'
    if not (stamp.exists() and stamp.read_text(encoding='ascii') == made_of):
        shutil.rmtree(TOOLS, ignore_errors=True)
        run(['/usr/bin/python3', '-m', 'venv', TOOLS])
        run([TOOLS / 'bin' / 'pip', 'install', '-q', '--disable-pip-version-check', '-r', wanted], timeout=600)
        stamp.write_text(made_of, encoding='ascii')
    return TOOLS / 'bin'


# -- the stages of the Dockerfile ---------------------------------------------------------------------------------


def build_context(directory: Path) -> Path:
    """As the guide says: the collection's artifact beside the definition, then ansible-builder create."""
    shutil.copy(DEFINITION, directory)
    run([VENV / 'ansible-galaxy', 'collection', 'build', '--output-path', directory / 'built'], cwd=ROOT)
    [artifact] = (directory / 'built').iterdir()
    artifact.rename(directory / 'disksnap-libvirt.tar.gz')
    run([tools() / 'ansible-builder', 'create', '--file', DEFINITION.name, '--context', 'context'], cwd=directory)
    return directory / 'context'


def install_collections(context: Path, to: Path) -> None:
    """The galaxy stage: all collections of the definition."""
    argv: Words = [VENV / 'ansible-galaxy', 'collection', 'install', '-r', 'requirements.yml', '--collections-path', to]
    run(argv, cwd=context / '_build')


@dataclass(frozen=True)
class Needs:
    """What the collections say that they need: names of Python and, per platform, of system packages."""

    python: str
    bindep: str

    def packages(self, *profiles: str) -> list[str]:
        """System packages, as bindep has it for these profiles, like platform:rpm and compile."""
        program = 'import sys, bindep.depends as d\n'
        program += 'print(*(rule[0] for rule in d.Depends(sys.argv[1]).active_rules(sys.argv[2:])), sep="\\n")'
        return run([tools() / 'python', '-c', program, self.bindep, *profiles]).split()


def introspect(context: Path, collections: Path, scratch: Path) -> Needs:
    """The start of the builder stage, by the script that the context brings along."""
    python, bindep = scratch / 'requirements.txt', scratch / 'bindep.txt'
    script: Words = [tools() / 'python', context / '_build' / 'scripts' / 'introspect.py', 'introspect', collections]
    run([*script, f'--write-pip={python}', f'--write-bindep={bindep}'])
    return Needs(python.read_text(encoding='utf-8'), bindep.read_text(encoding='utf-8'))


def release() -> str:
    """This machine's Debian release, whose Python the environment has: so pip can fetch for it."""
    text = Path('/etc/os-release').read_text(encoding='utf-8')
    match = re.search(r'^VERSION_CODENAME=(\w+)$', text, re.MULTILINE)
    assert match, text
    return match[1]


def build_root(needs: Needs, scratch: Path) -> Path:
    """The builder and the final stage in one directory: what is there for compiling only goes again."""
    final = needs.packages('platform:dpkg')
    compiling = sorted(set(needs.packages('platform:dpkg', 'compile')) - set(final))
    ansible = run([VENV / 'python', '-c', 'import ansible; print(ansible.__version__)']).strip()
    wanted = f'ansible-core=={ansible}\n{needs.python}'
    pins = (HERE / 'constraints.txt').read_text(encoding='utf-8')
    root = System('ee', release(), (*_BASE, *final, *compiling), f'{wanted}{pins}{Path(__file__).read_text()}')

    def complete(tree: Path) -> None:
        (scratch / 'wanted.txt').write_text(wanted, encoding='utf-8')
        shutil.copy(HERE / 'constraints.txt', scratch)
        _fetch(scratch)
        shutil.copytree(scratch, tree / 'build')
        pip: Words = [
            'chroot',
            tree,
            INSIDE / 'bin' / 'pip',
            '--disable-pip-version-check',
            'install',
            '-q',
            '--no-index',
        ]
        run(['chroot', tree, '/usr/bin/python3', '-m', 'venv', INSIDE])
        offline = ['--find-links', '/build/wheels', '-c', '/build/constraints.txt', '-r', '/build/wanted.txt']
        run([*pip, *offline], timeout=600)
        run(['chroot', tree, 'apt-get', '-y', 'purge', '--auto-remove', *compiling])
        shutil.rmtree(tree / 'build')

    return root.build(complete)


def _fetch(scratch: Path) -> None:
    """All that pip will want in the directory, which has no network; libvirt-python is built with setuptools."""
    argv: Words = [VENV / 'pip', '--disable-pip-version-check', 'download', '-q', '-d', 'wheels', 'setuptools']
    run([*argv, '-c', 'constraints.txt', '-r', 'wanted.txt'], cwd=scratch, timeout=600)
