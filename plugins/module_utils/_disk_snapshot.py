# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one call of the module disk_snapshot.

What only one state needs is imported then: Ansible ships sources, and each file that is compiled costs every host.
"""

from __future__ import annotations

import contextlib
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disksnap.libvirt.plugins.module_utils._host import open_host
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import selection
from ansible_collections.disksnap.libvirt.plugins.module_utils._take import TakeOptions, take
from ansible_collections.disksnap.libvirt.plugins.module_utils._watchdog import Watchdog


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Take or remove a snapshot, or go back to it, as the task says."""
    params, check = module.params, module.check_mode
    choose = selection(params)
    options = TakeOptions.of(params)
    with contextlib.ExitStack() as stack:
        watchdog = None
        if params['state'] == 'present' and not check:
            watchdog = stack.enter_context(contextlib.closing(Watchdog(params['uri'])))  # before the connection
        host = stack.enter_context(open_host(params['uri']))
        wanted = choose(host)
        if not wanted:
            return {'changed': False, 'domains': []}
        if params['state'] == 'absent':
            from ansible_collections.disksnap.libvirt.plugins.module_utils._remove import remove

            return remove(
                host,
                wanted,
                options.snapshot_name,
                timeout=params['timeout'],
                check=check,
                min_free=params['min_free'],
            )
        if params['state'] == 'reverted':
            from ansible_collections.disksnap.libvirt.plugins.module_utils._revert import revert

            return revert(
                host, wanted, options.snapshot_name, force=params['force'], timeout=params['timeout'], check=check
            )
        return take(host, wanted, options, watchdog, check=check)
