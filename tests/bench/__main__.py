# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure how long guests stand still. Run it by ``make bench``; --help shows what can be chosen."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / 'lab'))

from disksnap_bench.cli import main  # type: ignore[import-not-found]  # noqa: E402

if __name__ == '__main__':
    sys.exit(main())
