# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which disks a task is about, by which method, and the options that all modules share."""

from __future__ import annotations

import typing as t
from types import SimpleNamespace

import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _lvm
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import is_local, without_password
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.base import DiskPlan, Subject
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.registry import choose, method_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    BackupSource,
    DiskRecord,
    Volume,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._selection import plan, refuse_collisions, select
from ansible_collections.disksnap.libvirt.plugins.module_utils._spec import Request, requests, selection, terms
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import read_domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import AUTO, Method

DOMAIN = """<domain type='qemu'><name>web</name><uuid>u</uuid><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/i/a'/><target dev='vda'/>
<alias name='virtio-disk0'/></disk>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/i/b'/><target dev='vdb'/>
<shareable/></disk>
<disk type='file' device='disk' snapshot='no'><driver type='raw'/><source file='/i/c'/><target dev='vdc'/></disk>
<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/d'/><target dev='vdd'/></disk>
<disk type='file' device='cdrom'><source file='/i/e'/><target dev='sda'/><readonly/></disk>
</devices></domain>"""


@pytest.fixture(autouse=True)
def no_lvm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without LVM, whatever this machine has."""

    def fail() -> t.NoReturn:
        raise DiskSnapError('Failed to list the logical volumes', why='lvs is not installed')

    monkeypatch.setattr(_lvm, 'volumes', fail)


def domain(*, live: bool = True, local: bool = True) -> t.Any:
    """A domain that only has its XML."""
    return SimpleNamespace(name='web', read=lambda: read_domain(DOMAIN), live=live, host=SimpleNamespace(local=local))


def test_all_is_what_can_be_snapshotted() -> None:
    selection = select(domain(), Request('web', None), AUTO)

    assert [disk.target for disk, _method in selection.disks] == ['vda', 'vdd']
    [warning] = selection.warnings
    assert 'vdb' in warning
    assert 'shareable' in warning


def test_a_disk_that_libvirt_itself_keeps_out_is_not_passed_over_in_silence() -> None:
    """It writes snapshot='no' to vhost-user disks, which hold data all the same."""
    xml = DOMAIN.replace(
        '</devices>',
        "<disk type='vhostuser' device='disk' snapshot='no'><source type='unix'/><target dev='vde'/></disk></devices>",
    )
    web: t.Any = SimpleNamespace(name='web', read=lambda: read_domain(xml))

    warnings = select(web, Request('web', None), AUTO).warnings

    assert any('vde' in warning for warning in warnings)
    assert not any('vdc' in warning for warning in warnings)


def test_a_disk_that_its_domain_keeps_out_can_be_named() -> None:
    selection = select(domain(), Request('web', ({'target': '/i/c', 'method': 'qemu'},)), AUTO)

    assert [(disk.target, method) for disk, method in selection.disks] == [('vdc', Method('qemu'))]


@pytest.mark.parametrize(
    ('target', 'word'), [('vdb', 'shareable'), ('sda', 'CD-ROM'), ('vdz', 'no disk of the domain'), ('/i/e', 'CD-ROM')]
)
def test_named_it_must_be_possible(target: str, word: str) -> None:
    with pytest.raises(DiskSnapError, match=word):
        select(domain(), Request('web', ({'target': target},)), AUTO)


@pytest.mark.parametrize('other', ['/i/a', 'virtio-disk0'])
def test_one_disk_by_two_names(other: str) -> None:
    with pytest.raises(DiskSnapError, match=r'domain web, disk vda.*more than once'):
        select(domain(), Request('web', ({'target': 'vda'}, {'target': other})), AUTO)


def plan_to(target: str, path: str) -> DiskPlan:
    """A plan that makes one volume."""
    source = BackupSource(xml='<source/>', type='file', path='/a', format='raw')
    record = DiskRecord(target, 'qemu', '', '', None, source, [Volume(path, 'x', 'qcow2')])
    disk: t.Any = SimpleNamespace(target=target)
    return DiskPlan(disk, Method('qemu'), record)


def test_two_domains_must_not_make_one_file() -> None:
    qemu = method_of('qemu')
    refuse_collisions([('one', qemu, plan_to('vda', '/a')), ('two', qemu, plan_to('vda', '/b'))])

    with pytest.raises(DiskSnapError, match=r'domain two, disk vdb.*disk vda of domain one'):
        refuse_collisions([('one', qemu, plan_to('vda', '/a')), ('two', qemu, plan_to('vdb', '/a'))])


def test_disks_of_one_domain_may_share_where_their_method_says_so() -> None:
    sharing: t.Any = SimpleNamespace(name='btrfs', shares=True)
    refuse_collisions([('one', sharing, plan_to('vda', '/a')), ('one', sharing, plan_to('vdb', '/a'))])

    other = plan_to('vdb', '/a')
    other.shared = 'another subvolume'
    with pytest.raises(DiskSnapError, match=r'domain one, disk vdb.*disk vda of domain one'):
        refuse_collisions([('one', sharing, plan_to('vda', '/a')), ('one', sharing, other)])
    with pytest.raises(DiskSnapError, match=r'domain two, disk vda.*disk vda of domain one'):
        refuse_collisions([('one', sharing, plan_to('vda', '/a')), ('two', sharing, plan_to('vda', '/a'))])


def test_an_error_of_a_plan_names_the_place() -> None:
    """Pools know nothing of domains and disks, but who reads the error must."""

    def fail(*_arguments: t.Any) -> t.NoReturn:
        raise DiskSnapError('Failed to look up the storage pool nowhere')

    web = domain()
    web.handle = SimpleNamespace(blockJobInfo=lambda *_: {}, name=lambda: 'web')
    web.host.pools = SimpleNamespace(by_name=fail)
    selection = select(web, Request('web', ({'target': 'vda', 'pool': 'nowhere'},)), AUTO)

    with pytest.raises(DiskSnapError, match=r'nowhere \(domain web, disk vda\)'):
        plan(Subject(web, True, 's1'), selection)


# -- the choice of a method ---------------------------------------------------------------------------------------


def test_auto_says_why() -> None:
    disk = read_domain(DOMAIN).disks[0]

    _method, resolved, reason = choose(Method(AUTO, file='x'), disk, domain())

    assert resolved == Method('qemu', file='x')
    assert reason == 'auto: its image is a qcow2 file'


def test_auto_guesses_nothing() -> None:
    with pytest.raises(DiskSnapError, match=r'disk vdd.*auto has no rule.*Methods that can take it: qemu'):
        choose(Method(AUTO), read_domain(DOMAIN).disks[3], domain())


@pytest.mark.parametrize(
    ('source', 'live', 'local', 'word'),
    [
        ("type='network'><source protocol='rbd' name='x'/>", True, True, 'rbd'),
        ("type='network'><source protocol='nbd' name='x'/>", False, True, 'shut off'),
        ("type='network'><source protocol='nbd' name='x'/>", True, False, 'on the hypervisor itself'),
        ("type='network'><source protocol='nbd' name='x'><auth/></source>", True, True, 'secret'),
        ("type='file'><source file='/a'><encryption format='luks'/></source>", True, True, 'encrypted'),
        ("type='dir'><source dir='/a'/>", True, True, 'type dir'),
    ],
)
def test_what_qemu_cannot_take(source: str, live: bool, local: bool, word: str) -> None:
    xml = f"<domain><devices><disk device='disk' {source}<target dev='vda'/></disk></devices></domain>"

    with pytest.raises(DiskSnapError, match=word):
        choose(Method('qemu'), read_domain(xml).disks[0], domain(live=live, local=local))


def test_a_method_that_this_release_has_not() -> None:
    with pytest.raises(DiskSnapError, match='method zfs: this release has qemu'):
        method_of('zfs')


# -- options ------------------------------------------------------------------------------------------------------


def test_one_domain_or_several() -> None:
    assert requests({'name': 'web', 'domains': None, 'disks': None}) == [Request('web', None)]
    disk = {'target': 'vda'}
    assert requests({'name': None, 'domains': [{'name': 'a'}, {'name': 'b', 'disks': [disk]}]}) == [
        Request('a', None),
        Request('b', (disk,)),
    ]


@pytest.mark.parametrize(
    ('params', 'word'),
    [
        ({'domains': []}, 'empty list'),
        ({'domains': [{'name': 'a'}, {'name': 'a'}]}, 'domain a.*more than once'),
        ({'name': 'a', 'disks': []}, 'disks is an empty list'),
        ({'name': 'a', 'disks': [{'target': 'vda'}, {'target': 'vda'}]}, 'disk vda.*more than once'),
    ],
)
def test_options_that_name_nothing_or_too_much(params: dict[str, t.Any], word: str) -> None:
    with pytest.raises(DiskSnapError, match=word):
        requests(params)


@pytest.mark.parametrize('option', ['max_frozen', 'agent_timeout'])
@pytest.mark.parametrize('value', [0.0, -1.0, float('inf'), float('nan')])
def test_times_are_above_zero_and_end(option: str, value: float) -> None:
    params = {'max_frozen': 10.0, 'agent_timeout': 5.0, 'presync': True, 'mountpoints': None}

    assert terms(params).max_frozen == 10.0
    with pytest.raises(DiskSnapError, match=option):
        terms({**params, option: value})


@pytest.mark.parametrize(
    ('uri', 'local'),
    [
        ('qemu:///system', True),
        ('qemu+unix:///system?socket=/run/x', True),
        ('qemu:///session', True),
        ('test:///default', True),
        ('qemu+ssh://host/system', False),
        ('qemu://host/system', False),
        ('qemu+tcp:///system', False),
        ('qemu+ssh:///system?socket=/run/x', False),
    ],
)
def test_local_is_only_this_host(uri: str, local: bool) -> None:
    assert is_local(uri) is local


@pytest.mark.parametrize(
    ('uri', 'shown'),
    [
        ('qemu+tcp://user:secret@host/system', 'qemu+tcp://user:***@host/system'),
        ('qemu+tcp://user:s/e@c:r?e#t@host/system', 'qemu+tcp://user:***@host/system'),
        ('qemu+tcp://user@corp:secret@host/system', 'qemu+tcp://user@corp:***@host/system'),
        ('qemu+tcp://:secret@host/system', 'qemu+tcp://:***@host/system'),
        ('qemu+tcp://user@host/system', 'qemu+tcp://user@host/system'),
        ('qemu+ssh://user@[::1]:22/system', 'qemu+ssh://user@[::1]:22/system'),
        ('qemu:///system', 'qemu:///system'),
    ],
)
def test_a_password_is_not_shown(uri: str, shown: str) -> None:
    assert without_password(uri, uri) == shown


def test_a_password_is_not_shown_as_libvirt_decodes_it() -> None:
    uri = 'qemu+tcp://user:a%40b@host/system'
    assert without_password('user:a@b@host: Permission denied', uri) == 'user:***@host: Permission denied'


def all_that_run(*names: str, **running: t.Any) -> list[Request]:
    """What a task with the option running is about, where these domains run."""
    params = {'running': {'exclude': [], 'disks': {}, **running}}
    return selection(params)(t.cast(t.Any, SimpleNamespace(running=lambda: list(names))))


def test_all_that_run_but_those_left_out() -> None:
    assert all_that_run('app1', 'db1', 'x[1]', exclude=['app*', 'x[1]']) == [Request('db1', None)]
    assert all_that_run('app1', exclude=['*']) == []
    assert all_that_run() == []


def test_some_disks_of_one_that_runs() -> None:
    [app, db] = all_that_run('app1', 'db1', disks={'db1': [{'target': 'vda', 'method': 'lvm'}], 'gone': []})
    assert app.disks is None
    [disk] = db.disks or ()
    assert (disk['target'], disk['method'], disk['size']) == ('vda', 'lvm', None)


@pytest.mark.parametrize(
    ('disks', 'why'),
    [
        ([{'method': 'lvm'}], 'target'),
        ([{'target': 'vda', 'methode': 'lvm'}], 'methode'),
        ([{'target': 'vda', 'method': 'zfs'}], 'zfs'),
        ('vda', 'dictionary requested'),
        ([], 'empty list'),
        ([{'target': 'vda'}, {'target': 'vda'}], 'more than once'),
    ],
)
def test_disks_of_one_that_runs_that_are_none(disks: t.Any, why: str) -> None:
    with pytest.raises(DiskSnapError, match=why) as caught:
        all_that_run('db1', disks={'db1': disks})
    assert 'db1' in str(caught.value)


@pytest.mark.parametrize('name', ['qemu', 'lvm', 'btrfs', 'reflink', 'array'])
def test_a_method_is_one_object_for_all_disks(name: str) -> None:
    """What the disks of a run need together, as room in a volume group, is counted in it."""
    assert method_of(name) is method_of(name)
    assert method_of(name).name == name
