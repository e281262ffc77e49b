# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# /// script
# dependencies = ["nox==2026.10.20", "antsibull-nox==1.10.0", "ansible-core"]
# ///

"""The sessions that antsibull-nox.toml names."""

import antsibull_nox
import nox

nox.options.envdir = '.build/nox'

antsibull_nox.load_antsibull_nox_toml()

if __name__ == '__main__':
    nox.main()
