# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one call of the module storage_quiesce."""

from __future__ import annotations

import contextlib
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.disksnap.libvirt.plugins.module_utils import _hold
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import open_host
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import requests, terms
from ansible_collections.disksnap.libvirt.plugins.module_utils._watchdog import Watchdog


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Freeze or thaw, as the task says."""
    params, check = module.params, module.check_mode
    wanted, freeze_terms = requests(params), terms(params)
    with contextlib.ExitStack() as stack:
        watchdog = None
        if params['state'] == 'quiesced' and not check:
            watchdog = stack.enter_context(contextlib.closing(Watchdog(params['uri'])))  # before the connection
        host = stack.enter_context(open_host(params['uri']))
        if params['state'] == 'thawed':
            return _hold.thaw(host, wanted, freeze_terms, check=check)
        return _hold.freeze(host, wanted, freeze_terms, params['quiesce'], watchdog, check=check)
