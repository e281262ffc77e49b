# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands in for the C half of libvirt-python, as the first of this name on PYTHONPATH; see crash_point.py."""

from crash_point import stand_in

globals().update(stand_in('libvirtmod', __file__))
