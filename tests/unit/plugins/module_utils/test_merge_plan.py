# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans of merges on canned domains: what is started, taken over, cleaned up, or refused."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import (
    _blockdev,
    _chain,
    _journal,
    _lvm,
    _merge_checks,
    _merge_plan,
    _records,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain, Host
from ansible_collections.disksnap.libvirt.plugins.module_utils._lvm import LogicalVolume
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_finish import removable
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_model import (
    CLEAN,
    COMMIT,
    FOLLOW,
    NO_BASE,
    PULL,
    START,
    DiskMerge,
    MergeOptions,
    MergeSpec,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_plan import plan_all
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    Journal,
    MergeRecord,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._space import Budget, Floor
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.volume import VolumeInfo

TOP, MID, BASE = '/i/top', '/i/mid', '/i/base'
MIB = 1 << 20


def domain_xml(layers: list[str], *, extra: str = '', closed: bool = True, name: str = 'web') -> str:
    below = '<backingStore/>' if closed else ''
    for index, path in reversed(list(enumerate(layers))[1:]):
        below = (
            f'<backingStore type="file" index="{index + 1}"><format type="qcow2"/><source file="{path}"/>'
            f'{below}</backingStore>'
        )
    return (
        f'<domain><name>{name}</name><devices><disk type="file" device="disk"><driver name="qemu" type="qcow2"/>'
        f'<source file="{layers[0]}" index="1"/>{below}{extra}<target dev="vda"/></disk></devices></domain>'
    )


class NoMetadata(libvirt.libvirtError):
    def get_error_code(self) -> int:
        return int(libvirt.VIR_ERR_NO_DOMAIN_METADATA)


class Handle:
    """As much of a virDomain as planning asks for."""

    def __init__(self, xml: str, *, inactive: str | None = None, state: int = 1, job: int | None = None) -> None:
        self.xml, self.inactive, self.state_now, self.job = xml, inactive or xml, state, job
        self.saved = False
        self.journal: str | None = None

    def metadata(self, _kind: int, namespace: str, _flags: int) -> str:
        if namespace != _journal.NAMESPACE or self.journal is None:
            raise NoMetadata('none')
        return self.journal

    def name(self) -> str:
        return 'web'

    def state(self) -> list[int]:
        return [self.state_now, 0]

    def isPersistent(self) -> int:
        return 1

    def isActive(self) -> int:
        return int(self.state_now == 1)

    def XMLDesc(self, flags: int = 0) -> str:
        return self.inactive if flags & libvirt.VIR_DOMAIN_XML_INACTIVE else self.xml

    def blockJobInfo(self, _target: str, _flags: int) -> dict[str, int]:
        return {} if self.job is None else {'type': self.job, 'cur': 1, 'end': 2}

    def blockInfo(self, _target: str) -> list[int]:
        return [64 * MIB, 0, 0]

    def hasManagedSaveImage(self, _flags: int) -> int:
        return int(self.saved)

    def listAllSnapshots(self, _flags: int) -> list[None]:
        return []


class Pools:
    """A pool that sees a few images."""

    def __init__(self, backing: dict[str, str | None], free: int = 1 << 40) -> None:
        self.backing, self.free = backing, free

    def canonical(self, path: str) -> str:
        return path.replace('/link/', '/i/')

    def volume(self, path: str) -> VolumeInfo | None:
        if path not in self.backing:
            return None
        below = self.backing[path]
        return VolumeInfo(
            path[3:], path, path, 'file', 'qcow2', 64 * MIB, MIB, below, 'qcow2' if below else None,
            None, None, None, None, False,
        )  # fmt: skip

    def all_volumes(self) -> list[VolumeInfo]:
        return [volume for path in self.backing if (volume := self.volume(path)) is not None]

    def refresh(self, _path: str) -> None:
        pass

    def pool_name_of(self, _path: str) -> str | None:
        return None

    def available(self, _directory: str) -> int:
        return self.free


class Connection:
    def __init__(self, handles: list[Handle]) -> None:
        self.handles = handles

    def listAllDomains(self, _flags: int) -> list[Handle]:
        return self.handles


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Journal:
    found = Journal()
    monkeypatch.setattr(_merge_plan._journal, 'load', lambda _handle: found)
    return found


def plan(
    handle: Handle, spec: MergeSpec, options: MergeOptions | None = None, pools: Pools | None = None,
    others: list[Handle] | None = None, uri: str = 'qemu:///system',
) -> DiskMerge:  # fmt: skip
    host = Host(uri, Connection([handle, *(others or [])]), pools or Pools({TOP: MID, MID: BASE, BASE: None}))  # type: ignore[arg-type]
    [merge] = plan_all([(Domain(host, handle, 'web', 'u'), [spec])], options or MergeOptions())
    return merge.disks[0]


def running(**options: Any) -> Handle:
    return Handle(domain_xml([TOP, MID, BASE]), inactive=domain_xml([TOP], closed=False), **options)


def off(**options: Any) -> Handle:
    return Handle(domain_xml([TOP], closed=False), state=5, **options)


def record(direction: str = COMMIT, top: str = TOP, base: str = MID, files: list[str] | None = None) -> MergeRecord:
    return MergeRecord('vda', direction, base, top, top == TOP, [TOP, MID, BASE], files or [top])


@pytest.mark.usefixtures('journal')
@pytest.mark.parametrize('handle', [running(), off()], ids=['running', 'off'])
@pytest.mark.parametrize(
    ('direction', 'spec', 'gone', 'after'),
    [
        (COMMIT, MergeSpec('vda', TOP), [TOP], [MID, BASE]),
        (COMMIT, MergeSpec('vda', TOP, BASE), [TOP, MID], [BASE]),
        (COMMIT, MergeSpec('vda', MID), [MID], [TOP, BASE]),
        (COMMIT, MergeSpec('vda', '/link/mid', '/link/base'), [MID], [TOP, BASE]),
        (PULL, MergeSpec('vda', TOP), [MID], [TOP, BASE]),
        (PULL, MergeSpec('vda', TOP, BASE), [MID], [TOP, BASE]),
        (PULL, MergeSpec('vda', TOP, NO_BASE), [MID, BASE], [TOP]),
    ],
)
def test_ends(handle: Handle, direction: str, spec: MergeSpec, gone: list[str], after: list[str]) -> None:
    merge = plan(handle, spec, MergeOptions(direction))
    assert merge.todo == START
    assert merge.layers == merge.files == gone
    assert (merge.chain_before, merge.chain_after) == ([TOP, MID, BASE], after)
    assert merge.active is (merge.top.path == TOP)
    assert merge.bytes == len(gone) * MIB
    assert merge.record.chain_before == [TOP, MID, BASE]


@pytest.mark.usefixtures('journal')
def test_index_of_a_running_domain() -> None:
    assert plan(running(), MergeSpec('vda', 'vda[2]', 'vda[3]')).layers == [MID]
    with pytest.raises(DiskSnapError, match=r'vda\[9\] is not a layer'):
        plan(running(), MergeSpec('vda', 'vda[9]'))
    with pytest.raises(DiskSnapError, match='only a running domain'):
        plan(off(), MergeSpec('vda', 'vda[2]'))


@pytest.mark.usefixtures('journal')
@pytest.mark.parametrize(
    ('direction', 'spec', 'words'),
    [
        (COMMIT, MergeSpec('vdz', TOP), 'no such disk'),
        (COMMIT, MergeSpec('vda', '/i/none'), 'not a layer'),
        (COMMIT, MergeSpec('vda', TOP, '/i/none'), 'not a layer'),
        (COMMIT, MergeSpec('vda', BASE), 'no backing file'),
        (COMMIT, MergeSpec('vda', MID, TOP), 'not below'),
        (PULL, MergeSpec('vda', MID), 'only into the active layer'),
        (PULL, MergeSpec('vda', TOP, MID), 'no layer between'),
    ],
)
def test_ends_that_make_no_sense(direction: str, spec: MergeSpec, words: str) -> None:
    with pytest.raises(DiskSnapError, match=words):
        plan(running(), spec, MergeOptions(direction))


@pytest.mark.usefixtures('journal')
def test_intermediate_pull_of_a_shut_off_domain() -> None:
    merge = plan(off(), MergeSpec('vda', MID, NO_BASE), MergeOptions(PULL))
    assert (merge.layers, merge.active) == ([BASE], False)


@pytest.mark.parametrize('handle', [running(), off()], ids=['running', 'off'])
@pytest.mark.parametrize('wanted', ['vda', TOP, MID, BASE])
def test_disk_is_found_by_what_was_its_source_before_a_snapshot(handle: Handle, wanted: str) -> None:
    host = Host('qemu:///system', None, Pools({TOP: MID, MID: BASE, BASE: None}))  # type: ignore[arg-type]
    domain = Domain(host, handle, 'web', 'u')
    disks = domain.read().disks
    assert _chain.find(disks, wanted, domain) is disks[0]
    with pytest.raises(DiskSnapError, match='target, source or alias'):
        _chain.find(disks, '/i/none', domain)


# -- what an earlier run left -------------------------------------------------------------------------------------


ACTIVE = 4  # VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT
INTERMEDIATE = 3
PULLING = 1
COPY = 2


@pytest.mark.usefixtures('journal')
@pytest.mark.parametrize(
    ('job', 'direction', 'spec'),
    [
        (ACTIVE, COMMIT, MergeSpec('vda', TOP)),
        (INTERMEDIATE, COMMIT, MergeSpec('vda', MID)),
        (PULLING, PULL, MergeSpec('vda', TOP)),
    ],
)
def test_job_without_a_journal_is_taken_over_if_it_is_of_that_kind(job: int, direction: str, spec: MergeSpec) -> None:
    assert plan(running(job=job), spec, MergeOptions(direction)).todo == FOLLOW
    for other in {ACTIVE, INTERMEDIATE, PULLING} - {job}:
        with pytest.raises(DiskSnapError, match='not the one that is asked for'):
            plan(running(job=other), spec, MergeOptions(direction))
    with pytest.raises(DiskSnapError, match='copy'):
        plan(running(job=COPY), spec, MergeOptions(direction))


@pytest.mark.usefixtures('journal')
def test_active_commit_into_another_base_is_not_taken_over() -> None:
    mirror = f'<mirror type="file" job="active-commit"><format type="qcow2"/><source file="{BASE}"/></mirror>'
    handle = Handle(domain_xml([TOP, MID, BASE], extra=mirror), job=ACTIVE)
    assert plan(handle, MergeSpec('vda', TOP, BASE)).todo == FOLLOW
    with pytest.raises(DiskSnapError, match=f'into {BASE}'):
        plan(handle, MergeSpec('vda', TOP, MID))


@pytest.mark.usefixtures('journal')
def test_job_that_is_being_wound_up_is_followed() -> None:
    mirror = '<mirror type="file" job="active-commit" ready="pivot"><source file="/i/mid"/></mirror>'
    assert plan(Handle(domain_xml([TOP, MID, BASE], extra=mirror)), MergeSpec('vda', TOP)).todo == FOLLOW


def test_recorded_merge_of_other_ends_is_an_error_while_it_runs(journal: Journal) -> None:
    journal.merges['vda'] = record()
    assert plan(running(job=ACTIVE), MergeSpec('vda', TOP)).todo == FOLLOW
    assert plan(running(job=ACTIVE), MergeSpec('vda', TOP, '/link/mid')).todo == FOLLOW
    with pytest.raises(DiskSnapError, match='another merge'):
        plan(running(job=ACTIVE), MergeSpec('vda', TOP, BASE))


@pytest.mark.parametrize('state', [1, 5])
def test_recorded_merge_whose_job_has_gone(journal: Journal, state: int) -> None:
    journal.merges['vda'] = record(base=BASE, files=[TOP, MID])
    handle = running() if state == 1 else off()
    assert plan(handle, MergeSpec('vda', TOP, BASE)).todo == START  # it died
    done = Handle(domain_xml([BASE]), state=state)
    merge = plan(done, MergeSpec('vda', TOP, BASE))
    assert (merge.todo, merge.files) == (CLEAN, [TOP, MID])
    assert (merge.chain_before, merge.chain_after) == ([TOP, MID, BASE], [BASE])


def test_recorded_pull_that_ended(journal: Journal) -> None:
    journal.merges['vda'] = record(PULL, base=BASE, files=[MID])
    merge = plan(Handle(domain_xml([TOP, BASE])), MergeSpec('vda', TOP), MergeOptions(PULL))
    assert (merge.todo, merge.files, merge.layers) == (CLEAN, [MID], [MID])


def test_files_of_an_earlier_merge_go_with_the_next_one(journal: Journal) -> None:
    journal.merges['vda'] = record()  # top went into mid, and its file is still there
    pools = Pools({TOP: MID, MID: BASE, BASE: None})
    merge = plan(Handle(domain_xml([MID, BASE])), MergeSpec('vda', MID), pools=pools)
    assert (merge.todo, merge.files, merge.leftovers) == (START, [MID], [TOP])


# -- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures('journal')
@pytest.mark.parametrize('shared', [TOP, MID, BASE])
def test_commit_refuses_what_another_domain_stands_on(shared: str) -> None:
    other = Handle(domain_xml([shared], closed=False, name='twin'), state=5)
    other.name = lambda: 'twin'  # type: ignore[method-assign]
    with pytest.raises(DiskSnapError, match='twin'):
        plan(running(), MergeSpec('vda', TOP, BASE), others=[other])
    plan(running(), MergeSpec('vda', TOP, BASE), MergeOptions(PULL), others=[other])


def other(name: str, layers: list[str], **options: Any) -> Handle:
    handle = Handle(domain_xml(layers, closed=False, name=name), state=5, **options)
    handle.name = lambda: name  # type: ignore[method-assign]
    return handle


@pytest.mark.usefixtures('journal')
def test_commit_refuses_while_another_domain_cannot_be_followed() -> None:
    with pytest.raises(DiskSnapError, match=r'twin \(disk vda: /i/gone is not there'):
        plan(running(), MergeSpec('vda', TOP), others=[other('twin', ['/i/gone'])])
    plan(running(), MergeSpec('vda', TOP), MergeOptions(PULL), others=[other('twin', ['/i/gone'])])


@pytest.mark.usefixtures('journal')
def test_a_snapshot_of_ours_is_merged_all_the_same_with_a_warning() -> None:
    handle, lost = running(), other('twin', ['/i/gone'])
    host = Host('qemu:///system', Connection([handle, lost]), Pools({TOP: MID, MID: BASE, BASE: None}))  # type: ignore[arg-type]
    [merge] = plan_all([(Domain(host, handle, 'web', 'u'), [MergeSpec('vda', TOP)])], MergeOptions(own=True))
    assert any('twin' in warning and MID in warning for warning in merge.warnings)


@pytest.mark.usefixtures('journal')
def test_a_missing_raw_image_stands_on_nothing() -> None:
    twin = other('twin', ['/i/gone'])
    twin.xml = twin.inactive = twin.xml.replace('type="qcow2"', 'type="raw"')
    assert plan(running(), MergeSpec('vda', TOP), others=[twin]).todo == START


@pytest.mark.usefixtures('journal')
@pytest.mark.parametrize(('code', 'harmless'), [('VIR_ERR_NO_DOMAIN', True), ('VIR_ERR_RPC', False)])
def test_only_a_domain_that_has_gone_uses_nothing(code: str, harmless: bool) -> None:
    def fail(flags: int = 0) -> str:
        error = libvirt.libvirtError('no')
        error.err = (getattr(libvirt, code), 0, 'no answer', 0, '', None, None, 0, 0)
        raise error

    twin = other('twin', [BASE])
    twin.XMLDesc = fail  # type: ignore[method-assign]
    if harmless:
        assert plan(running(), MergeSpec('vda', TOP), others=[twin]).todo == START
    else:
        with pytest.raises(DiskSnapError, match=r'twin \(no answer'):
            plan(running(), MergeSpec('vda', TOP), others=[twin])


@pytest.mark.usefixtures('journal')
@pytest.mark.parametrize('backing', [MID, BASE, '/link/base'])
def test_commit_refuses_what_another_image_stands_on(backing: str) -> None:
    pools = Pools({TOP: MID, MID: BASE, BASE: None, '/i/clone': backing})
    with pytest.raises(DiskSnapError, match='/i/clone'):
        plan(running(), MergeSpec('vda', TOP, BASE), pools=pools)


@pytest.mark.usefixtures('journal')
def test_image_on_a_layer_that_stays_is_no_harm() -> None:
    pools = Pools({TOP: MID, MID: BASE, BASE: None, '/i/clone': BASE})
    assert plan(running(), MergeSpec('vda', TOP, MID), pools=pools).todo == START


@pytest.mark.usefixtures('journal')
def test_persistent_definition_on_another_branch_is_refused() -> None:
    pools = Pools({TOP: MID, MID: BASE, BASE: None, '/i/branch': BASE})
    handle = Handle(domain_xml([TOP, MID, BASE]), inactive=domain_xml(['/i/branch'], closed=False))
    with pytest.raises(DiskSnapError, match='/i/branch'):
        plan(handle, MergeSpec('vda', TOP, BASE), pools=pools)


@pytest.mark.usefixtures('journal')
def test_shut_off_domain_needs_a_local_host_and_no_saved_state() -> None:
    with pytest.raises(DiskSnapError, match='on the hypervisor itself'):
        plan(off(), MergeSpec('vda', TOP), uri='qemu+ssh://hv/system')
    handle = off()
    handle.saved = True
    with pytest.raises(DiskSnapError, match='managed save'):
        plan(handle, MergeSpec('vda', TOP))


@pytest.mark.usefixtures('journal')
def test_full_file_system() -> None:
    class Uneven(Pools):
        def volume(self, path: str) -> VolumeInfo | None:
            found = super().volume(path)
            size = {TOP: 9 * MIB, MID: 5 * MIB}.get(path, MIB)
            return None if found is None else VolumeInfo(**{**vars(found), 'allocation': size})

    images: dict[str, str | None] = {TOP: MID, MID: BASE, BASE: None}
    with pytest.raises(DiskSnapError, match='must grow'):
        plan(running(), MergeSpec('vda', TOP, MID), pools=Uneven(images, free=2 * MIB))
    host = Host('qemu:///system', Connection([running()]), Uneven(images, free=6 * MIB))  # type: ignore[arg-type]
    [merge] = plan_all([(Domain(host, running(), 'web', 'u'), [MergeSpec('vda', TOP, MID)])], MergeOptions())
    assert 'may grow' in merge.warnings[0]


@pytest.mark.parametrize(
    ('path', 'refused'), [('/dev/vg/base', True), ('/dev/shm/base.img', False), ('/srv/base.img', False)]
)
def test_a_small_base_that_is_a_device(path: str, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU grows a file, and there are files below /dev as well."""
    monkeypatch.setattr(_merge_checks, '_device_size', lambda _reading, _path: 63 * MIB)
    domain = Domain(Host('qemu:///system', Connection([running()]), Pools({})), running(), 'web', 'u')  # type: ignore[arg-type]
    reading: Any = SimpleNamespace(
        domain=domain, live=True, error=lambda why, hint: DiskSnapError('Failed to plan the merge', why=why, hint=hint)
    )
    merge: Any = SimpleNamespace(receiver=SimpleNamespace(path=path, format='raw'), active=True, target='vda')
    with pytest.raises(DiskSnapError, match='cannot grow a device') if refused else nullcontext():
        _merge_checks._refuse_small_device(reading, merge)


# -- afterwards -----------------------------------------------------------------------------------------------------


def test_only_what_nothing_uses_goes() -> None:
    pools = Pools({TOP: MID, MID: BASE, BASE: None, '/i/clone': MID})
    users = _chain.Users(Connection([]), pools)  # type: ignore[arg-type]
    assert removable([TOP, MID, BASE], users, pools) == ([TOP], {MID: ['/i/clone'], BASE: [MID]})  # type: ignore[arg-type]
    pools = Pools({TOP: MID, MID: BASE, BASE: None})
    users = _chain.Users(Connection([]), pools)  # type: ignore[arg-type]
    assert removable([TOP, MID, BASE], users, pools) == ([TOP, MID, BASE], {})  # type: ignore[arg-type]
    broken = _chain.Users(Connection([other('twin', ['/i/gone'])]), pools)  # type: ignore[arg-type]
    assert removable([TOP, MID], broken, pools) == ([], {TOP: [], MID: [TOP]})  # type: ignore[arg-type]


def test_what_a_recorded_copy_stands_on_is_used() -> None:
    """Nothing but the journal tells what an image in a read-only subvolume or on an LV has below it."""
    source = _records.BackupSource(xml='<source/>', type='file', path='/snap/web', format='qcow2')
    disk = _records.DiskRecord('vda', 'btrfs', '', '<disk/>', None, source, backing=[BASE])
    twin = other('twin', [TOP])
    record = _records.SnapshotRecord('nightly', _records.PRESENT, '', '', disks=[disk])
    twin.journal = _journal.to_xml(Journal(snapshots={'nightly': record}))

    users = _chain.Users(Connection([twin]), Pools({TOP: None, BASE: None}))  # type: ignore[arg-type]

    assert users.images_on(BASE) == {'/snap/web'}


# -- headers that a guest wrote ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures('journal')
@pytest.mark.parametrize('kind', ['raw', 'qcow2'])
def test_a_header_of_another_guest_that_names_our_base(kind: str) -> None:
    """A guest whose disk is raw writes into it what it likes; it does not stand on an image for that."""
    evil = Handle(domain_xml(['/i/evil'], closed=False, name='evil').replace('"qcow2"', f'"{kind}"'), state=5)
    pools = Pools({TOP: MID, MID: BASE, BASE: None, '/i/evil': MID})
    if kind == 'raw':
        assert plan(running(), MergeSpec('vda', TOP), pools=pools, others=[evil]).todo == START
        return
    with pytest.raises(DiskSnapError, match='would spoil /i/mid for others'):
        plan(running(), MergeSpec('vda', TOP), pools=pools, others=[evil])


@pytest.mark.usefixtures('journal')
def test_a_guest_cannot_have_its_raw_disk_merged_into_what_its_header_names() -> None:
    evil = Handle(domain_xml(['/i/evil'], closed=False).replace('"qcow2"', '"raw"'), state=5)
    with pytest.raises(DiskSnapError, match='no backing file'):
        plan(evil, MergeSpec('vda', '/i/evil'), pools=Pools({'/i/evil': BASE, BASE: None}))


# -- room on a thin pool ------------------------------------------------------------------------------------------


THIN = [
    LogicalVolume(
        'vg0', 'web', 64 * MIB, 'Vwi-aotz--', 'thin,sparse', pool='tpool', data_percent=50.0, device=(253, 1)
    ),
    LogicalVolume('vg0', 'tpool', 100 * MIB, 'twi-aotz--', 'thin,pool', data_percent=99.5, device=(253, 2)),
    LogicalVolume('vg0', 'thick', 64 * MIB, '-wi-ao----', 'linear', device=(253, 3)),
]


@pytest.mark.usefixtures('journal')
@pytest.mark.parametrize(('base', 'needed'), [('/dev/vg0/web', MIB), ('/dev/vg0/thick', None), ('/dev/sda', None)])
def test_a_commit_onto_a_device(base: str, needed: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thin LV takes of its pool what is written to it; any other device has its room."""
    monkeypatch.setattr(_lvm, 'volumes', lambda: THIN)
    monkeypatch.setattr(_blockdev, 'number_of', {one.path: one.device for one in THIN}.get)
    handle = Handle(domain_xml([TOP, base]).replace('<format type="qcow2"/>', '<format type="raw"/>'))
    pools = Pools({TOP: base})
    options = MergeOptions()
    plan(handle, MergeSpec('vda', TOP), options, pools)
    told = options.budget.told()
    assert [(one['needed'], one['capacity']) for one in told] == ([(needed, 100 * MIB)] if needed else [])
    tight = MergeOptions(budget=Budget(Floor(MIB)))
    if needed is None:
        plan(handle, MergeSpec('vda', TOP), tight, pools)
        return
    with pytest.raises(
        DiskSnapError, match='The thin pool vg0/tpool, where 512 KiB are free, and min_free wants 1 MiB'
    ):
        plan(handle, MergeSpec('vda', TOP), tight, pools)


def test_who_stands_on_what_is_in_a_directory() -> None:
    pools = Pools({'/i/snap/web': '/i/snap/base', '/i/clone': '/i/snap/base', '/i/snapper': TOP, TOP: None})
    twin = other('twin', ['/i/snap/web', '/i/snap/base'])
    users = _chain.Users(Connection([twin]), pools)  # type: ignore[arg-type]

    assert users.of_all('/link/snap') == {
        '/link/snap/base': ['the domain twin', '/i/clone'],
        '/link/snap/web': ['the domain twin'],
    }
    assert users.of_all(TOP) == {TOP: ['/i/snapper']}
    assert users.of_all('/i/clone') == {}
