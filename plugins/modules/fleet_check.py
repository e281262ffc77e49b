#!/usr/bin/python
# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

# Only what ansible-doc shows: the action plugin of this name does it all, and nothing is sent to a host.
DOCUMENTATION = r"""
module: fleet_check
short_description: Refuse a play that cannot take all guests of its hosts at one instant
version_added: 1.0.0
author:
  - The disksnap.libvirt contributors (@disksnap)
description:
  - The role P(disksnap.libvirt.fleet_snapshot#role) with C(fleet_snapshot_consistency=fleet) asks it first, once for
    all hosts.
  - It fails for a play with C(serial), with another strategy than C(linear), with hosts that failed before, with too
    few forks, or in a slice of a job of AWX. The message says which, and what to do.
  - It runs on the controller and reaches no host.
attributes:
  check_mode:
    description: Can run in C(check_mode) and predict its result without modifying anything.
    support: full
  diff_mode:
    description: Returns details on what has changed, or in C(check_mode) would change, when in diff mode.
    support: none
  platform:
    description: Target OS/families that can be operated against.
    support: N/A
    platforms: all
options:
  ranks:
    description: In how many steps guests are frozen.
    type: int
    required: true
  max_frozen:
    description: Seconds that a guest may stand still.
    type: float
    required: true
  job_template:
    description: Name of the job template of AWX that the play is a job of.
    type: str
  workflow:
    description: Name of the workflow job of AWX that the play is a job of.
    type: str
"""

EXAMPLES = r"""
- name: Look whether all hosts can go side by side
  disksnap.libvirt.fleet_check:
    ranks: 1
    max_frozen: 10
  run_once: true
"""

RETURN = r"""
# nothing of its own
"""
