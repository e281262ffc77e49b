# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""disk_snapshot, state absent, on a host that is made up: what comes before and after the merges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _remove
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import Request

pytest.importorskip('libvirt')


class OneDomain:
    """A host that has one domain, by whatever name."""

    def domain(self, _name: str) -> Domain:
        return Domain(self, None, 'web', 'u')  # type: ignore[arg-type]


@pytest.fixture
def remove() -> Callable[..., dict[str, Any]]:
    def call(*names: str, timeout: float = 60.0, check: bool = False) -> dict[str, Any]:
        wanted = [Request(name, None) for name in names]
        return _remove.remove(OneDomain(), wanted, 'nightly', timeout=timeout, check=check)  # type: ignore[arg-type]

    return call


@pytest.mark.parametrize('check', [False, True])
def test_one_domain_by_two_names(remove: Callable[..., dict[str, Any]], check: bool) -> None:
    with pytest.raises(DiskSnapError, match='more than once'):
        remove('web', '0e8a3c4a-0000-4000-8000-000000000000', check=check)
