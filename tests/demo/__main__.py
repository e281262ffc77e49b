# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Snapshot, back up and merge the disks of three real guests that write all the while; see disksnap_demo/story.py."""

from __future__ import annotations

import sys
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / 'lab'))

from disksnap_demo.story import main  # type: ignore[import-not-found]  # noqa: E402

if __name__ == '__main__':
    sys.exit(main())
