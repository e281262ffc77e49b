# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Any combination of options, in check mode on libvirt's own test driver: a result or one sentence, no traceback."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import re
import tempfile
import typing as t
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from ansible.module_utils import basic
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.disksnap.libvirt.plugins.module_utils import _lvm
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import TAKES

NODE = """<node>
<pool type='dir'><name>images</name><uuid>35bb2ad9-388a-cdfe-461a-b8907f6e53fe</uuid>
<target><path>/images</path></target>
<volume><name>a.qcow2</name><capacity>1048576</capacity><target><format type='qcow2'/></target></volume>
<volume><name>b.raw</name><capacity>1048576</capacity><target><format type='raw'/></target></volume></pool>
<domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>{off}
<name>web</name><uuid>004b96e1-2d78-c30f-5aa5-f03c87d21e67</uuid><memory>8192</memory><os><type>hvm</type></os>
<devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/images/a.qcow2'/>
<target dev='vda' bus='virtio'/></disk>
<disk type='volume' device='disk'><driver name='qemu' type='raw'/><source pool='images' volume='b.raw'/>
<target dev='vdb' bus='virtio'/></disk>
<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='nbd' name='x'>
<host name='h'/></source><target dev='vdc' bus='virtio'/></disk>
<disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>
</devices></domain></node>"""

# -- options -----------------------------------------------------------------------------------------------------

ODD = st.sampled_from(
    [
        *('', ' ', '.', '..', '../x', '/', '/images/../etc/x', '-f', '~', '*', '[', 'a/b', '%s', '{{ x }}', '<a/>'),
        *('a\nb', 'a\0b', '\x1b[0m', '\ufffe', '\u202e', '\xb2', '9' * 400, 'x' * 300, '/x\0'),
        *('vda', 'web', 'a.qcow2', '/images/a.qcow2', 's1', '004b96e1-2d78-c30f-5aa5-f03c87d21e67'),
    ]
) | st.text(max_size=5)
DOMAIN = st.sampled_from(['web', 'web', 'nobody']) | ODD
TARGET = st.sampled_from(['vda', 'vdb', 'vdc', 'sda', 'vdz', '/images/a.qcow2']) | ODD
COUNT = st.sampled_from([0, -1, 1, 10, 2**31, 10**30])
# Ansible itself takes neither an infinite int nor a float of that size
WHOLE = COUNT | st.just(10**400)
NUMBER = COUNT | st.sampled_from([0.5, 1e300, float('nan'), float('inf'), float('-inf')])
YES = st.booleans()


def wrapped(text: str) -> str:
    """Something like a method_xml."""
    return f'<diskSnapshot method="qemu"><target file="{text}"/></diskSnapshot>'


DISK = st.fixed_dictionaries(
    {'target': TARGET},
    optional={
        'method': st.sampled_from(['auto', *TAKES]),
        'method_xml': ODD | ODD.map(wrapped),
        'device': ODD,
        'pool': st.just('images') | ODD,
        'file': st.just('new.qcow2') | ODD,
        'size': st.sampled_from(['1G', '20%ORIGIN']) | ODD,
        'volume': st.dictionaries(ODD, ODD | NUMBER | st.none() | st.lists(ODD, max_size=1), max_size=2),
    },
)
DISKS = st.lists(DISK, max_size=3)
COMMON: dict[str, t.Any] = {
    'name': DOMAIN,
    'domains': st.lists(st.fixed_dictionaries({'name': DOMAIN}, optional={'disks': DISKS}), max_size=3),
    'disks': DISKS,
}
FREEZE: dict[str, t.Any] = {
    'quiesce': st.sampled_from(['required', 'preferred', 'none']),
    'mountpoints': st.lists(st.just('/') | ODD, max_size=3),
    'max_frozen': NUMBER,
    'agent_timeout': NUMBER,
    'presync': YES,
}
TAKE: dict[str, t.Any] = {
    **COMMON,
    **FREEZE,
    'running': st.fixed_dictionaries(
        {},
        optional={
            'exclude': st.lists(ODD, max_size=2),
            'disks': st.dictionaries(DOMAIN, DISKS | ODD | st.none() | st.lists(ODD, max_size=1), max_size=2),
        },
    ),
    'method': st.sampled_from(['auto', *TAKES]),
    'description': ODD,
    'force': YES,
    'timeout': WHOLE,
}
NAMED = {'snapshot_name': st.sampled_from(['s1', 's1', 's2']) | ODD}
# a module -> the options that are always there, and those that may be
MODULES: dict[str, tuple[dict[str, t.Any], dict[str, t.Any]]] = {
    'disk_snapshot': (
        NAMED,
        {
            **TAKE,
            'state': st.sampled_from(['present', 'absent', 'reverted']),
            'instant': st.sampled_from(['group', 'domain']),
        },
    ),
    'snapshot_step': (
        {
            **NAMED,
            'step': st.sampled_from(
                ['prepare', 'finish', 'abandon', 'volumes', 'removing', 'removed', 'stop', 'reverted']
            ),
            'group': ODD,
        },
        {**TAKE, 'order': st.lists(ODD, max_size=2), 'patience': NUMBER},
    ),
    'storage_quiesce': ({'state': st.sampled_from(['quiesced', 'thawed'])}, {**COMMON, **FREEZE}),
    'snapshot_merge': (
        {},
        {
            **COMMON,
            **NAMED,
            'base': ODD,
            'top': ODD,
            'state': st.sampled_from(['merged', 'aborted']),
            'direction': st.sampled_from(['commit', 'pull']),
            'bandwidth': st.sampled_from(['0', '1.5G', '-1', '9' * 400, '\u0663M']) | ODD,
            'timeout': WHOLE,
            'on_timeout': st.sampled_from(['abort', 'leave']),
            'wait': YES,
        },
    ),
}
# a module -> options that it takes
PLAIN: dict[str, list[dict[str, t.Any]]] = {
    'disk_snapshot': [
        {'snapshot_name': 's1', 'name': 'web', 'disks': [{'target': 'vda'}]},
        {'snapshot_name': 's1', 'domains': [{'name': 'web', 'disks': [{'target': 'vdb'}]}], 'quiesce': 'none'},
        {'snapshot_name': 's1', 'running': {}, 'method': 'qemu'},
        {'snapshot_name': 's1', 'name': 'web', 'state': 'absent'},
        {'snapshot_name': 's1', 'name': 'web', 'state': 'reverted', 'force': True},
    ],
    'snapshot_step': [
        {'snapshot_name': 's1', 'running': {}, 'step': 'prepare', 'group': 'g', 'order': ['web']},
        {
            'snapshot_name': 's1',
            'domains': [{'name': 'web', 'disks': [{'target': 'vda'}]}],
            'step': 'prepare',
            'group': 'g',
        },
        {'snapshot_name': 's1', 'name': 'web', 'step': 'abandon', 'group': 'g'},
    ],
    'storage_quiesce': [
        {'name': 'web', 'state': 'quiesced', 'disks': [{'target': 'vda'}]},
        {'domains': [{'name': 'web'}], 'state': 'thawed'},
    ],
    'snapshot_merge': [
        {'name': 'web', 'top': '/images/a.qcow2', 'direction': 'pull'},
        {'name': 'web', 'base': 'vda[1]', 'disks': [{'target': 'vda'}]},
        {'name': 'web', 'snapshot_name': 's1', 'bandwidth': '1.5G'},
        {'domains': [{'name': 'web'}], 'snapshot_name': 's1', 'state': 'aborted'},
    ],
}


def tasks(name: str) -> st.SearchStrategy[dict[str, t.Any]]:
    """Options of a module: any combination, or a sound one of which a few are spoilt."""
    always, maybe = MODULES[name]
    options = {**always, **maybe}
    spoilt = st.sampled_from(sorted(options)).flatmap(lambda one: options[one].map(lambda value: {one: value}))
    few = st.builds(lambda plain, one, two: {**plain, **one, **two}, st.sampled_from(PLAIN[name]), spoilt, spoilt)
    return few | few | st.fixed_dictionaries(always, optional=maybe)


# -- running -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def nodes() -> Iterator[dict[bool, str]]:
    """URIs of libvirt's test driver, with a domain that runs and with one that is shut off."""
    with tempfile.TemporaryDirectory() as directory:
        found = {}
        for live, off in ((True, ''), (False, '<test:runstate>5</test:runstate>')):
            file = Path(directory) / f'{live}.xml'
            file.write_text(NODE.format(off=off), encoding='utf-8')
            found[live] = f'test://{file}'
        yield found


def without_lvm() -> t.NoReturn:
    """What a host says that has none."""
    raise DiskSnapError('Failed to list the logical volumes', why='lvs is not installed')


def outcome(name: str, args: dict[str, t.Any]) -> dict[str, t.Any]:
    """What a module returns in check mode; what it raises is raised here."""
    text = json.dumps({'ANSIBLE_MODULE_ARGS': {**args, '_ansible_check_mode': True, '_ansible_diff': True}})
    module = importlib.import_module(f'ansible_collections.disksnap.libvirt.plugins.modules.{name}')
    printed = io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(basic, '_ANSIBLE_ARGS', text.encode()))
        stack.enter_context(mock.patch.object(basic, '_ANSIBLE_PROFILE', 'legacy', create=True))
        stack.enter_context(mock.patch.object(basic.AnsibleModule, 'log'))
        stack.enter_context(mock.patch.object(_lvm, 'volumes', without_lvm))
        stack.enter_context(contextlib.redirect_stdout(printed))
        stack.enter_context(pytest.raises(SystemExit))
        module.main()
    return t.cast('dict[str, t.Any]', json.loads(printed.getvalue()))


def judge(name: str, result: dict[str, t.Any]) -> None:
    """A result, or a sentence that names an option, or a domain or disk by its name."""
    if not result.get('failed'):
        assert 'changed' in result
        return
    words = set(re.findall(r'[a-z_]+', result['msg']))
    always, maybe = MODULES[name]
    assert words & {*always, *maybe, 'name', 'domain', 'disk'}, result['msg']
    assert 'Traceback' not in result['msg']


@pytest.mark.parametrize('name', MODULES)
def test_any_combination_is_taken_or_refused_by_a_sentence(name: str, nodes: dict[bool, str]) -> None:
    @settings(max_examples=100)
    @given(tasks(name), YES)
    def check(options: dict[str, t.Any], live: bool) -> None:
        judge(name, outcome(name, {'uri': nodes[live], **options}))

    check()


@pytest.mark.parametrize(
    ('name', 'options', 'named'),
    [
        ('disk_snapshot', {'name': 'a\0b', 'snapshot_name': 's1'}, 'name has control'),
        ('disk_snapshot', {'domains': [{'name': 'web'}, {'name': '\0'}], 'snapshot_name': 's1'}, 'domains[1].name has'),
        ('disk_snapshot', {'running': {'disks': {'\0': []}}, 'snapshot_name': 's1'}, 'a key of running.disks has'),
        ('disk_snapshot', {'name': 'web', 'snapshot_name': 's1', 'state': 'absent', 'timeout': 10**400}, 'timeout is'),
        ('disk_snapshot', {'name': 'web', 'snapshot_name': 's1', 'max_frozen': 1e300}, 'max_frozen is'),
        ('snapshot_merge', {'name': 'web', 'top': '/a\0b'}, 'top has control'),
        ('snapshot_merge', {'name': 'web', 'snapshot_name': 's1', 'timeout': 10**400}, 'timeout is'),
        (
            'snapshot_step',
            {'name': 'web', 'snapshot_name': 's1', 'step': 'stop', 'patience': float('nan')},
            'patience is',
        ),
        ('storage_quiesce', {'name': 'web', 'state': 'thawed', 'agent_timeout': 1e300}, 'agent_timeout is'),
        ('storage_quiesce', {'name': 'web', 'state': 'quiesced', 'mountpoints': ['/', '/\0']}, 'mountpoints[1] has'),
    ],
)
def test_what_nothing_below_can_take_is_refused(
    name: str, options: dict[str, t.Any], named: str, nodes: dict[bool, str]
) -> None:
    result = outcome(name, {'uri': nodes[True], **options})

    assert result['msg'].startswith(f'Failed to read the options: {named} ')
