# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the guide on versions says is what the files say that Ansible and the linters go by."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.disksnap.libvirt.plugins.module_utils._journal import VERSION

ROOT = Path(__file__).resolve().parents[3]
GUIDE = (ROOT / 'docs' / 'docsite' / 'rst' / 'guide_support.rst').read_text(encoding='utf-8')


def loaded(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding='utf-8'))


def said(pattern: str) -> str:
    """What the guide says once."""
    [found] = re.findall(pattern, re.sub(r'\s+', ' ', GUIDE))
    return str(found)


def test_ansible_core() -> None:
    version = said(r'ansible-core ([\d.]+) or newer')
    assert loaded('meta/runtime.yml')['requires_ansible'] == f'>={version}.0'
    for role in (ROOT / 'roles').iterdir():
        assert loaded(f'roles/{role.name}/meta/main.yml')['galaxy_info']['min_ansible_version'] == version


def test_python_of_the_hypervisor() -> None:
    version = said(r'Python ([\d.]+) or newer')
    linters = (ROOT / 'pyproject.toml').read_text(encoding='utf-8')
    assert f'target-version = "py{version.replace(".", "")}"' in linters


def test_version_of_the_journal() -> None:
    assert said(r'in a journal with a version of its own, now (\d+)\.') == VERSION


def test_the_action_group_has_each_module_that_talks_to_libvirt() -> None:
    modules = sorted(path for path in (ROOT / 'plugins' / 'modules').glob('*.py'))
    group = [path.stem for path in modules if 'attributes.action_group' in path.read_text(encoding='utf-8')]
    assert loaded('meta/runtime.yml')['action_groups'] == {'snapshot': group}
