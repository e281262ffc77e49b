# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Patterns of guests' names, as the role takes them."""

from __future__ import annotations

import fnmatch


def matches(name: str, pattern: str) -> bool:
    """Whether a name is of the pattern: ``*`` stands for any characters and ``?`` for any one; brackets, which a name
    may have, mean themselves."""
    return fnmatch.fnmatchcase(name, pattern.replace('[', '[[]'))
