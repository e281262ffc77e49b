# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which libvirt and QEMU these tests run on: those that the guide on versions names, and all of one release."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from ansible_collections.disksnap.libvirt.tests.live.harness import ROOT
from disksnap_lab import Lab

GUIDE = ROOT / 'docs' / 'docsite' / 'rst' / 'guide_versions.rst'
ROW = re.compile(r'^ +\* - Debian (\d+)\n +- (\d+)\.(\d+)\n +- (\d+)\.(\d+)\n', re.MULTILINE)
RELEASES = {'trixie': 13}


def numbers(version: int) -> list[int]:
    """Major and minor of a version as libvirt counts it."""
    return [version // 1000000, version // 1000 % 1000]


@pytest.mark.core
def test_all_is_of_one_release_and_in_the_guide(lab: Lab) -> None:
    release = int(lab.daemon.run_inside('cat', '/etc/debian_version').partition('.')[0])
    system = os.environ.get('DISKSNAP_TEST_SYSTEM')
    assert release == RELEASES.get(system or '', release)

    ask = [lab.python, '-c', 'import libvirt; print(libvirt.getVersion())']
    asked = subprocess.run(ask, capture_output=True, text=True, check=True, timeout=60)
    assert numbers(int(asked.stdout)) == numbers(lab.connection.getLibVersion())

    [described] = [
        list(map(int, versions))
        for number, *versions in ROW.findall(GUIDE.read_text(encoding='utf-8'))
        if int(number) == release
    ]
    assert numbers(lab.connection.getLibVersion()) + numbers(lab.connection.getVersion()) == described
