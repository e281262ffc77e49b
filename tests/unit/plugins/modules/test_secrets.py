# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The password of a URI shows nowhere: not in results, their invocation and messages, nor in what is logged."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import typing as t

import pytest
from ansible.module_utils import basic

MODULES: dict[str, dict[str, t.Any]] = {
    'disk_snapshot': {'snapshot_name': 's1', 'state': 'absent'},
    'snapshot_merge': {'snapshot_name': 's1'},
    'snapshot_step': {'snapshot_name': 's1', 'step': 'stop'},
    'storage_quiesce': {'state': 'thawed'},
}
# each with what libvirt does with it: it connects, it knows no such transport, it quotes what it cannot read
URIS = {
    'connects': 'test://me:hush-hush@/default',
    'is refused': 'test+nothing://me:hush-hush@host/default',
    'is quoted': 'qemu+ssh://me:hush-hush@ho st/system?no_verify=1',
    'is not escaped': 'qemu+ssh://me:hush-/@hush@host/system',
    'is escaped': 'qemu+nothing://me:hush%2Dhush@host/system',
    'is malformed': 'qemu+ssh://me:hush-hush@[::1/system',
    'would be another letter': 'qemu+nothing://me:hush-hush@ho\u2100st/system',
}


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the module says to syslog."""
    found: list[str] = []
    monkeypatch.setattr(basic, 'has_journal', False)
    monkeypatch.setattr(basic.AnsibleModule, '_log_to_syslog', lambda _self, text: found.append(text))
    return found


def outcome(name: str, args: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch) -> str:
    """What a module prints, in check mode."""
    internal = {'check_mode': True, 'verbosity': 3, 'inject_invocation': True}
    # ansible-core 2.21 returns the invocation only where it is told to, which others do not know
    known = {f'_ansible_{key}': value for key, value in internal.items() if key in basic.PASS_VARS}
    wanted = {'ANSIBLE_MODULE_ARGS': {**args, **known}}
    monkeypatch.setattr(basic, '_ANSIBLE_ARGS', json.dumps(wanted).encode())
    monkeypatch.setattr(basic, '_ANSIBLE_PROFILE', 'legacy', raising=False)
    module = importlib.import_module(f'ansible_collections.disksnap.libvirt.plugins.modules.{name}')
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
        module.main()
    return printed.getvalue()


def refuse_secret(text: str) -> None:
    """A password, or a part of one."""
    assert 'hush' not in text, text


@pytest.mark.parametrize('uri', URIS.values(), ids=list(URIS))
@pytest.mark.parametrize('name', MODULES)
def test_the_result_does_not_have_it(name: str, uri: str, logged: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = outcome(name, {'uri': uri, 'name': 'nobody', **MODULES[name]}, monkeypatch)

    refuse_secret(text)
    result = json.loads(text)
    assert result['failed']
    assert 'nobody' in result['msg'] or 'Failed to connect to libvirt' in result['msg']
    assert '://' in result['invocation']['module_args']['uri']
    [said] = logged
    assert 'uri=' in said
    refuse_secret(said)


@pytest.mark.parametrize('name', MODULES)
def test_nor_has_that_of_a_task_whose_options_are_wrong(
    name: str, logged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_secret(outcome(name, {'uri': URIS['connects'], 'nonsense': 1}, monkeypatch))
    refuse_secret(' '.join(logged))


def test_a_uri_without_a_password_is_shown(logged: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = outcome('disk_snapshot', {'uri': 'test:///default', 'name': 'nobody', 'snapshot_name': 's1'}, monkeypatch)

    assert json.loads(text)['invocation']['module_args']['uri'] == 'test:///default'
    assert logged
