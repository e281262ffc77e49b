# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stand-in for get-pip.py, which ansible-test would fetch from a host that a closed network does not reach.

Starts from the pip that Python itself bundles, then installs the versions that ansible-test asks for.
"""

from __future__ import annotations

import subprocess
import sys

WITHOUT_MEANING_HERE = ('--no-setuptools', '--no-wheel')

if __name__ == '__main__':
    wanted = [argument for argument in sys.argv[1:] if argument not in WITHOUT_MEANING_HERE]
    subprocess.run([sys.executable, '-m', 'ensurepip', '--default-pip'], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([sys.executable, '-m', 'pip', 'install', '--quiet', '--upgrade', *wanted], check=True)
