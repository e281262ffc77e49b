# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the lab's package is, and how hypothesis runs its examples: as slowly as a machine that is shared lets it."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

settings.register_profile('shared-machine', deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('shared-machine')

# pytest by itself has this from pyproject.toml, which ansible-test does not read
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / 'tests' / 'lab'))
