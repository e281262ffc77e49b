# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab on the command line; see README.md beside this file."""

from __future__ import annotations

import sys

sys.dont_write_bytecode = True

try:
    from disksnap_lab.cli import main
except ImportError as error:
    PACKAGES = {'libvirt': 'python3-libvirt', 'libvirt_qemu': 'python3-libvirt', 'lxml': 'python3-lxml'}
    sys.exit(f'lab: {error}: install the Debian package {PACKAGES.get(error.name or "", "python3")}')

if __name__ == '__main__':
    sys.exit(main())
