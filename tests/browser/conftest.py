# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A headless Chromium without a network, and reports of fleets of any size, written by the role itself."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / '.build' / 'pictures'
_QUIET = (
    '--headless=new',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-dev-shm-usage',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--no-first-run',
    '--host-resolver-rules=MAP * ~NOTFOUND',
)
# it is the role that writes the report, of what is said of each host here
_PLAY: list[dict[str, Any]] = [
    {
        'hosts': 'all',
        'gather_facts': False,
        'tasks': [
            {
                'ansible.builtin.include_role': {
                    'name': 'disksnap.libvirt.fleet_snapshot',
                    'tasks_from': 'report_write',
                },
                'vars': {
                    '__fleet_snapshot_of': 'made_up',
                    '__fleet_snapshot_asked_for': '{{ asked }}',
                    '__fleet_snapshot_shown_results': '{{ results }}',
                },
            }
        ],
    }
]


@pytest.fixture(scope='session')
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """The browser."""
    options = ChromeOptions()
    options.binary_location = '/usr/bin/chromium'
    for word in (*_QUIET, f'--user-data-dir={tmp_path_factory.mktemp("chromium")}'):
        options.add_argument(word)
    driver = Chrome(options=options, service=Service('/usr/bin/chromedriver'))
    driver.set_page_load_timeout(120)
    driver.set_script_timeout(120)
    yield driver
    driver.quit()


@pytest.fixture(scope='session')
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write the report of a fleet, as fleets.py makes them, and return its file."""

    def write(hosts: dict[str, dict[str, Any]], asked: dict[str, str]) -> Path:
        directory = tmp_path_factory.mktemp('report')
        inventory = {'all': {'hosts': {name: {'made_up': one['info']} for name, one in hosts.items()}}}
        (directory / 'inventory.yml').write_text(yaml.safe_dump(inventory), encoding='utf-8')
        (directory / 'play.yml').write_text(yaml.safe_dump(_PLAY), encoding='utf-8')
        report = directory / 'report.html'
        results = {name: one['result'] for name, one in hosts.items() if one['result']}
        extra = {'asked': asked, 'results': results, 'fleet_snapshot_report': str(report)}
        (directory / 'extra.json').write_text(json.dumps(extra), encoding='utf-8')
        done = subprocess.run(
            [
                str(ROOT / '.venv' / 'bin' / 'ansible-playbook'),
                '-i',
                str(directory / 'inventory.yml'),
                '-e',
                f'@{directory / "extra.json"}',
                str(directory / 'play.yml'),
            ],
            env={**os.environ, 'ANSIBLE_COLLECTIONS_PATH': str(ROOT / '.build' / 'collections')},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return report

    return write


@pytest.fixture
def picture(browser: Chrome) -> Callable[[str], None]:
    """Keep what the browser shows, for people to look at."""

    def take(name: str) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(PICTURES / f'{name}.png'))

    return take
