# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two Python packages that the managed host must have, imported with a guard.

Every other file takes ``libvirt``, ``libvirt_qemu`` and ``etree`` from here, so that a host without them
gets one sentence instead of a traceback, and `ansible-test sanity --test import` passes without them.
"""

from __future__ import annotations

import traceback
import typing as t

try:
    import libvirt
    import libvirt_qemu

    LIBVIRT_IMPORT_ERROR: str | None = None
except ImportError:
    libvirt: t.Any = None  # type: ignore[no-redef]
    libvirt_qemu: t.Any = None  # type: ignore[no-redef]
    LIBVIRT_IMPORT_ERROR = traceback.format_exc()

try:
    from lxml import etree

    LXML_IMPORT_ERROR: str | None = None
except ImportError:
    etree: t.Any = None  # type: ignore[no-redef]
    LXML_IMPORT_ERROR = traceback.format_exc()

__all__ = ['etree', 'libvirt', 'libvirt_qemu', 'require']

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def require(module: AnsibleModule) -> None:
    """End the module with one sentence if libvirt-python or lxml is missing on the managed host."""
    # late: `ansible.module_utils` is there on every managed host, but pure unit tests need not load it
    from ansible.module_utils.basic import missing_required_lib

    for package, error in (('libvirt-python', LIBVIRT_IMPORT_ERROR), ('lxml', LXML_IMPORT_ERROR)):
        if error is not None:
            module.fail_json(
                msg=missing_required_lib(
                    package, reason=f'which Debian and RHEL ship as python3-{package.split("-", maxsplit=1)[0]}'
                ),
                exception=error,
            )
