# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""xfs_reader.py IMAGE OUT: mount a scratch copy of an xfs (which replays its log) and copy its /log to OUT.

Run by copy_check.py in a mount namespace of its own: mount and loop device end with this process.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> int:
    """Exit status 1 when the file system can't be mounted or unmounted; mount says why on stderr."""
    image, out = sys.argv[1:]
    with tempfile.TemporaryDirectory() as point:
        if subprocess.run(
            ['mount', '-t', 'xfs', '-o', 'loop,nouuid', image, point], timeout=60, check=False
        ).returncode:
            return 1
        try:
            if Path(point, 'log').exists():
                shutil.copyfile(Path(point, 'log'), out)
        finally:
            unmounted = subprocess.run(['umount', point], timeout=60, check=False)
    return 1 if unmounted.returncode else 0


if __name__ == '__main__':
    sys.exit(main())
