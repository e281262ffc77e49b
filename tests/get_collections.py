# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Unpack other collections beside ours, out of the wheel of the package ansible: those that our examples go with.

Usage: tests/get_collections.py WHEEL_DIRECTORY COLLECTIONS
"""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

# community.libvirt is what the tests of interoperation run; of the others, the tests of the examples read the options
WANTED = ('community.libvirt', 'awx.awx', 'netapp.ontap', 'purestorage.flasharray')
PARTS = ('plugins', 'meta', 'MANIFEST.json')


def unpack(wheel: Path, target: Path) -> None:
    """What a play needs of each, and no tests; what was there of them goes."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for wanted in WANTED:
            folder = f'ansible_collections/{wanted.replace(".", "/")}/'
            found = [name for name in names if name.startswith(tuple(folder + part for part in PARTS))]
            if not found:
                raise SystemExit(f'tests/get_collections.py: {wheel.name} does not have {wanted}')
            shutil.rmtree(target / folder, ignore_errors=True)
            archive.extractall(target, found)


if __name__ == '__main__':
    [one] = Path(sys.argv[1]).glob('ansible-*.whl')
    unpack(one, Path(sys.argv[2]))
