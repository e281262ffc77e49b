# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules document about themselves: check mode, diff mode, platform, action group."""

from __future__ import annotations


class ModuleDocFragment:
    # Each module says how far its support goes; this is what the words mean.
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and predict its result without modifying anything.
  diff_mode:
    description: Returns details on what has changed, or in C(check_mode) would change, when in diff mode.
  platform:
    description: Target OS/families that can be operated against.
    support: N/A
"""

    # Should be used together with the standard fragment.
    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This action does not modify state.
  diff_mode:
    support: N/A
    details:
      - This action does not modify state.
"""

    # Should be used together with the standard fragment, by the members of the action group.
    ACTION_GROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/disksnap.libvirt.snapshot) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - disksnap.libvirt.snapshot
"""

    # Should be used together with the standard fragment.
    PLATFORM_LINUX = r"""
options: {}
attributes:
  platform:
    platforms: linux
    support: full
"""
