# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine over made-up methods: the order of its steps, and that a snapshot is whole or not there."""

from __future__ import annotations

import itertools
import typing as t
from collections.abc import Iterator
from types import SimpleNamespace

import libvirt
import pytest

from ansible_collections.disksnap.libvirt.plugins.module_utils import _journal, _records
from ansible_collections.disksnap.libvirt.plugins.module_utils._barrier import Abandoned
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods import registry
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.base import DiskMethod, DiskPlan, Subject
from ansible_collections.disksnap.libvirt.plugins.module_utils._pause import Pause
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    BackupSource,
    DiskRecord,
    Journal,
    Volume,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._settle import settle
from ansible_collections.disksnap.libvirt.plugins.module_utils._snapshot import (
    NONE,
    PREFERRED,
    REQUIRED,
    Fleet,
    Member,
    Transaction,
    draft,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import Method

LOG: list[str] = []


class FakeMethod(DiskMethod):
    """Notes what it is told; ``fail`` names one step of one domain."""

    def __init__(self, name: str, copies: bool) -> None:
        self.name = name
        self.copies = copies
        self.fail: str | None = None
        self.error: BaseException = DiskSnapError('Failed to do it')

    def _step(self, step: str, domain: str, targets: t.Iterable[str]) -> None:
        LOG.append(f'{step} {self.name} {domain} {",".join(targets)}')
        if self.fail == f'{step} {domain}':
            raise self.error

    def auto_reason(self, disk: t.Any, domain: t.Any) -> str | None:
        return None

    def refusal(self, disk: t.Any, domain: t.Any) -> str | None:
        return None

    def plan(self, subject: Subject, disk: t.Any, method: Method, reason: str) -> DiskPlan:
        source = BackupSource(xml='<source/>', type='file', path='/a', format='raw')
        volume = Volume(f'/i/{subject.domain.name}-{disk.target}', 'v', 'qcow2')
        record = DiskRecord(disk.target, self.name, '', '<disk/>', None, source, [volume])
        return DiskPlan(disk, method, record)

    def prepare(self, subject: Subject, plans: t.Sequence[DiskPlan]) -> None:
        self._step('prepare', subject.domain.name, [plan.disk.target for plan in plans])

    def commit(self, subject: Subject, plans: t.Sequence[DiskPlan]) -> None:
        self._step('commit', subject.domain.name, [plan.disk.target for plan in plans])

    def finish(self, subject: Subject, plans: t.Sequence[DiskPlan]) -> None:
        self._step('finish', subject.domain.name, [plan.disk.target for plan in plans])

    def rollback(self, domain: t.Any, records: t.Sequence[DiskRecord]) -> None:
        self._step('rollback', domain.name, [record.target for record in records])

    def present(self, domain: t.Any, record: DiskRecord) -> bool:
        return True

    def refuse_revert(self, domain: t.Any, record: DiskRecord) -> None:
        self._step('look', domain.name, [record.target])

    def revert(self, domain: t.Any, records: t.Sequence[DiskRecord], *, deadline: float) -> None:
        self._step('revert', domain.name, [record.target for record in records])


class NoMetadata(libvirt.libvirtError):
    def get_error_code(self) -> int:
        return int(libvirt.VIR_ERR_NO_DOMAIN_METADATA)


class FakeHandle:
    """Of virDomain, what the engine uses; it keeps the journal as libvirt would."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.stored: str | None = None
        self.domain: t.Any = None

    def name(self) -> str:
        return self._name

    def isActive(self) -> int:
        return 1

    def isPersistent(self) -> int:
        return 1

    def setMetadata(self, kind: int, text: str | None, *_rest: t.Any) -> None:
        self.stored = text
        states = {one.state for one in _journal.from_xml(text).snapshots.values()} if text else {'nothing'}
        LOG.append(f'journal {self._name} {",".join(sorted(states))}')

    def metadata(self, _kind: int, namespace: str, _flags: int) -> str:
        if namespace != _journal.NAMESPACE or self.stored is None:
            raise NoMetadata('none')
        return self.stored

    def suspend(self) -> None:
        LOG.append(f'suspend {self._name}')
        self.domain.state = 'paused'

    def resume(self) -> None:
        LOG.append(f'resume {self._name}')
        self.domain.state = 'running'


class FakeWatchdog:
    """Notes what it is told about pauses."""

    def watch_pause(self, uuids: t.Sequence[str], limit: float) -> None:
        LOG.append(f'watch {",".join(uuids)} {limit:g}')

    def end_pause(self, *, stuck: t.Sequence[str] = ()) -> None:
        LOG.append(f'unwatch {",".join(stuck)}'.strip())


class FakeQuiesce:
    """A freeze that does what ``errors`` and ``held`` say."""

    def __init__(
        self, errors: dict[str, str] | None = None, lost: t.Collection[str] = (), *, partly: bool = False
    ) -> None:
        self.errors = errors or {}
        self.lost = lost
        self.mountpoints = ('/data',) if partly else ()

    def flush(self, guests: t.Sequence[t.Any]) -> None:
        LOG.append('flush ' + ','.join(guest.name for guest in guests))
        for guest in guests:
            if self.errors.get(guest.name) == 'flush':
                guest.error = DiskSnapError('Failed to freeze', domain=guest.name)

    def arm(self, guests: t.Sequence[t.Any]) -> None:
        LOG.append('arm ' + ','.join(guest.name for guest in guests if guest.error is None))

    def freeze(self, guests: t.Sequence[t.Any]) -> None:
        LOG.append('freeze ' + ','.join(guest.name for guest in guests if guest.error is None))
        for guest in guests:
            if self.errors.get(guest.name) == 'freeze':
                guest.error = DiskSnapError('Failed to freeze', domain=guest.name)
            elif guest.error is None:
                guest.frozen, guest.filesystems = True, 1

    def thaw(self, guest: t.Any) -> None:
        LOG.append(f'thaw {guest.name}')
        if guest.frozen:
            guest.frozen, guest.held = False, guest.name not in self.lost
            guest.window_ms, guest.thawed_by = 1.0, 'watchdog' if guest.name in self.lost else 'module'

    def finish(self) -> None:
        LOG.append('all thawed')


OVERLAY, COPY = FakeMethod('qemu', copies=False), FakeMethod('copy', copies=True)


@pytest.fixture(autouse=True)
def methods(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only the made-up methods, without faults."""
    monkeypatch.setattr(registry, 'METHODS', {'qemu': lambda: OVERLAY, 'copy': lambda: COPY})
    LOG.clear()
    yield
    for method in (OVERLAY, COPY):
        method.fail, method.error = None, DiskSnapError('Failed to do it')


def member(name: str, disks: str, *, state: str = 'running') -> Member:
    """A domain; disks as 'vda:qemu vdb:copy', or 'vda:still' for a copy of a qcow2 image."""
    domain: t.Any = SimpleNamespace(
        name=name, uuid=f'uuid-{name}', handle=FakeHandle(name), state=state, live=state != 'off'
    )
    domain.handle.domain = domain
    subject = Subject(domain, state != 'off', 's1')
    one = Member(domain, subject, Journal())
    for word in disks.split():
        target, _colon, method = word.partition(':')
        fake = OVERLAY if method == 'qemu' else COPY
        layer = SimpleNamespace(key=f'/i/{target}')
        disk = SimpleNamespace(target=target, source=layer, active=layer)
        made = fake.plan(subject, t.cast(t.Any, disk), Method(method), '')
        made.still = method == 'still'
        one.plans.append((fake, made))
    now = [SimpleNamespace(target=made.disk.target, source=made.disk.active) for _fake, made in one.plans]
    domain.read = lambda: SimpleNamespace(disks=now)
    return one


def run(members: list[Member], quiesce: FakeQuiesce | None, policy: str, fleet: Fleet | None = None) -> None:
    """Draft and run."""
    draft(members, None, fleet.group if fleet is not None else None)
    Transaction(members, t.cast(t.Any, quiesce), policy, Pause(t.cast(t.Any, FakeWatchdog()), 10), fleet).run()


def stored(one: Member) -> Journal:
    """The journal as the domain has it."""
    text = t.cast(FakeHandle, one.domain.handle).stored
    return _journal.from_xml(text) if text else Journal()


def test_the_order_of_the_steps() -> None:
    run([member('web', 'vda:qemu vdb:copy vdc:qemu')], FakeQuiesce(), REQUIRED)

    assert LOG == [
        'journal web preparing',
        'prepare qemu web vda,vdc',
        'prepare copy web vdb',
        'journal web committing',
        'flush web',
        'arm web',
        'freeze web',
        'commit qemu web vda,vdc',
        'commit copy web vdb',
        'thaw web',
        'all thawed',
        'finish qemu web vda,vdc',
        'finish copy web vdb',
        'journal web present',
    ]


def test_all_are_frozen_before_any_is_taken_and_nothing_slow_comes_between() -> None:
    run([member('one', 'vda:qemu'), member('two', 'vda:copy')], FakeQuiesce(), REQUIRED)

    frozen = LOG.index('freeze one,two')
    window = LOG[frozen + 1 : LOG.index('all thawed')]
    assert sorted(window) == ['commit copy two vda', 'commit qemu one vda', 'thaw one', 'thaw two']
    assert max(place for place, line in enumerate(LOG) if line.startswith('prepare')) < frozen


ERRORS = [DiskSnapError('Failed to do it'), RuntimeError('boom'), KeyboardInterrupt()]
FAULTS = [
    (step, method, domain, error)
    for step, method, domain, error in itertools.product(
        ['prepare', 'commit', 'finish'], [OVERLAY, COPY], ['one', 'two'], ERRORS
    )
    if step != 'commit' or isinstance(error, Exception)  # commits run in threads, which get no interrupts
]


@pytest.mark.parametrize('policy', [REQUIRED, PREFERRED, NONE])
@pytest.mark.parametrize(('step', 'faulty', 'domain', 'error'), FAULTS)
def test_a_fault_anywhere_undoes_all(
    step: str, faulty: FakeMethod, domain: str, error: BaseException, policy: str
) -> None:
    faulty.fail, faulty.error = f'{step} {domain}', error
    members = [member('one', 'vda:qemu vdb:copy'), member('two', 'vda:qemu vdb:copy')]

    with pytest.raises((DiskSnapError, RuntimeError, KeyboardInterrupt)):
        run(members, None if policy == NONE else FakeQuiesce(), policy)

    for one in members:
        assert f'rollback qemu {one.domain.name} vda' in LOG
        assert f'rollback copy {one.domain.name} vdb' in LOG
        assert stored(one).empty
    undone = LOG.index('rollback qemu one vda')
    thaws = [place for place, line in enumerate(LOG) if line.startswith('thaw')]
    assert all(place < undone for place in thaws)
    if policy != NONE and step != 'prepare':
        assert LOG.index('all thawed') < undone


def test_what_cannot_be_undone_stays_in_the_journal_and_in_the_error() -> None:
    OVERLAY.fail = 'rollback two'
    COPY.fail, COPY.error = 'commit one', DiskSnapError('Failed to copy', domain='one')
    members = [member('one', 'vda:copy'), member('two', 'vda:qemu')]

    with pytest.raises(DiskSnapError) as caught:
        run(members, FakeQuiesce(), REQUIRED)

    assert 'Failed to copy (domain one)' in str(caught.value)
    assert 'Undoing it failed too: Failed to do it' in str(caught.value)
    assert stored(members[0]).empty
    assert stored(members[1]).snapshots['s1'].state == _records.COMMITTING


@pytest.mark.parametrize('when', ['flush', 'freeze'])
def test_required_takes_nothing_if_one_cannot_be_frozen(when: str) -> None:
    members = [member('one', 'vda:qemu'), member('two', 'vda:qemu')]

    with pytest.raises(DiskSnapError, match='domain two'):
        run(members, FakeQuiesce({'two': when}), REQUIRED)

    assert not any(line.startswith('commit') for line in LOG)
    assert 'all thawed' in LOG
    assert all(stored(one).empty for one in members)


@pytest.mark.parametrize('when', ['flush', 'freeze'])
def test_preferred_takes_it_crash_consistent_and_warns(when: str) -> None:
    members = [member('one', 'vda:qemu'), member('two', 'vda:qemu')]

    run(members, FakeQuiesce({'two': when}), PREFERRED)

    assert [one.result.consistency for one in members] == ['filesystem', 'crash']
    assert members[0].warnings == []
    [warning] = members[1].warnings
    assert 'domain two' in warning
    assert 'crash-consistent' in warning


def test_thawed_in_the_middle_is_not_file_system_consistent() -> None:
    with pytest.raises(DiskSnapError, match='max_frozen'):
        run([member('one', 'vda:qemu')], FakeQuiesce(lost=['one']), REQUIRED)
    assert 'rollback qemu one vda' in LOG

    lost = member('one', 'vda:qemu')
    run([lost], FakeQuiesce(lost=['one']), PREFERRED)
    assert lost.result.consistency == 'crash'
    assert lost.result.freeze is not None
    assert lost.result.freeze.thawed_by == 'watchdog'


@pytest.mark.parametrize(
    ('disks', 'quiesce', 'state', 'pauses'),
    [
        ('vda:copy vdb:copy', None, 'running', True),
        ('vda:copy vdb:qemu', None, 'running', True),
        ('vda:copy', None, 'running', False),  # one disk fits itself
        ('vda:qemu vdb:qemu', None, 'running', False),  # one libvirt call takes both
        ('vda:copy vdb:copy', FakeQuiesce(), 'running', False),
        ('vda:copy vdb:copy', FakeQuiesce({'web': 'flush'}), 'running', True),
        ('vda:copy vdb:copy', None, 'paused', False),
        ('vda:copy vdb:copy', None, 'off', False),
        ('vda:still', None, 'running', True),  # a qcow2 image must be written out
        ('vda:still', FakeQuiesce(), 'running', False),
        ('vda:still', FakeQuiesce(partly=True), 'running', True),  # the rest of the guest writes on
    ],
)
def test_pauses_only_where_copies_would_not_fit(
    disks: str, quiesce: FakeQuiesce | None, state: str, pauses: bool
) -> None:
    run([member('web', disks, state=state)], quiesce, PREFERRED if quiesce else NONE)

    assert ('suspend web' in LOG, 'resume web' in LOG) == (pauses, pauses)
    if pauses:
        commits = [line for line in LOG if line.startswith(('suspend', 'commit', 'resume'))]
        assert (commits[0], commits[-1]) == ('suspend web', 'resume web')
        assert LOG.index('watch uuid-web 10') < LOG.index('suspend web') < LOG.index('unwatch')


def test_a_paused_guest_runs_again_after_a_commit_that_failed() -> None:
    COPY.fail = 'commit web'

    with pytest.raises(DiskSnapError):
        run([member('web', 'vda:copy vdb:copy')], None, NONE)

    assert LOG.index('suspend web') < LOG.index('resume web') < LOG.index('rollback copy web vda,vdb')


def test_a_guest_that_was_set_going_too_early_has_no_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    web = member('web', 'vda:copy vdb:copy')
    monkeypatch.setattr(COPY, 'commit', lambda *_: web.domain.handle.resume())

    with pytest.raises(DiskSnapError, match='max_frozen'):
        run([web], None, NONE)

    assert 'unwatch' in LOG  # it runs, so the watchdog has nothing left to do
    assert 'rollback copy web vda,vdb' in LOG


def test_a_guest_that_does_not_go_on_is_left_to_the_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    web = member('web', 'vda:copy vdb:copy')

    def fail() -> t.NoReturn:
        raise DiskSnapError('Failed to resume')

    monkeypatch.setattr(web.domain.handle, 'resume', fail)

    with pytest.raises(DiskSnapError, match='resume'):
        run([web], None, NONE)

    assert 'unwatch uuid-web' in LOG


def test_the_journal_says_beforehand_that_a_guest_may_be_paused() -> None:
    web = member('web', 'vda:copy vdb:copy')

    run([web], FakeQuiesce(), REQUIRED)

    assert stored(web).snapshots['s1'].pauses


def test_a_domain_that_has_it_already_is_left_alone() -> None:
    old, new = member('old', ''), member('new', 'vda:qemu')
    old.existing = _records.SnapshotRecord('s1', _records.PRESENT, '', '')

    run([old, new], FakeQuiesce(), REQUIRED)

    assert not any(' old' in line for line in LOG)
    assert new.result.state == _records.PRESENT


def test_a_group_has_one_id_and_one_time() -> None:
    members = [member('one', 'vda:qemu'), member('two', 'vda:qemu', state='off')]

    run(members, FakeQuiesce(), PREFERRED)

    one, two = (stored(each).snapshots['s1'] for each in members)
    assert (one.group, one.created_at) == (two.group, two.created_at)
    assert (one.consistency, two.consistency) == ('filesystem', 'offline')
    assert 'flush one' in LOG  # the one that is off is not asked


def test_the_next_run_undoes_what_was_half_taken_and_its_group() -> None:
    members = [member('one', 'vda:qemu'), member('two', 'vda:qemu')]
    run(members, None, NONE)
    members[0].journal.snapshots['s1'].state = _records.COMMITTING
    LOG.clear()

    warnings = settle([(one.domain, one.journal) for one in members])

    assert len(warnings) == 2
    assert [line for line in LOG if line.startswith('rollback')] == ['rollback qemu one vda', 'rollback qemu two vda']
    assert all(stored(one).empty for one in members)


def test_the_next_run_leaves_whole_snapshots_alone() -> None:
    one = member('one', 'vda:qemu')
    run([one], None, NONE)
    LOG.clear()

    assert settle([(one.domain, one.journal)]) == []
    assert LOG == []


# -- with other hosts ---------------------------------------------------------------------------------------------


class FakeBarrier:
    """Gives the word for every step but the one at which the play gives up."""

    def __init__(self, gives_up: str | None = None) -> None:
        self.gives_up = gives_up
        self.until: list[float | None] = []
        self.told: dict[str, t.Any] = {}

    def tell(self, **facts: t.Any) -> None:
        self.told.update(facts)

    def wait(self, step: str, *, until: float | None = None, **_facts: t.Any) -> dict[str, t.Any]:
        LOG.append(f'-- {step}')
        self.until.append(until)
        if step == self.gives_up:
            raise Abandoned('Failed to go on')
        return {}


def fleet(barrier: FakeBarrier, ranks: int = 1) -> Fleet:
    """A snapshot of the group g1 on several hosts."""
    return Fleet(t.cast(t.Any, barrier), 'g1', ranks, max_frozen=10.0, patience=60.0)


def after(step: str, count: int = 1) -> list[str]:
    """What was done between one word and the next."""
    starts = [place for place, line in enumerate(LOG) if line.startswith('-- ')]
    place = [place for place in starts if LOG[place] == f'-- {step}'][count - 1]
    following = [start for start in starts if start > place]
    return LOG[place + 1 : following[0] if following else None]


def test_waits_for_the_other_hosts_before_the_freeze_and_before_the_commit() -> None:
    barrier = FakeBarrier()
    one = member('web', 'vda:qemu')
    run([one], FakeQuiesce(), REQUIRED, fleet(barrier))

    assert LOG.index('flush web') < LOG.index('-- freeze')
    assert after('freeze') == ['arm web', 'freeze web']
    assert after('commit')[:3] == ['commit qemu web vda', 'thaw web', 'all thawed']
    assert barrier.until[0] is None
    assert barrier.until[1] is not None  # it waits no longer than guests may stand still
    record = stored(one).snapshots['s1']
    assert (record.state, record.group) == (_records.COMMITTED, 'g1')
    assert record.decide_by is not None
    assert -60 <= _records.age(record.decide_by) < -50


def test_freezes_rank_by_rank_and_thaws_in_the_reverse_order() -> None:
    members = [member('app', 'vda:qemu'), member('db', 'vda:qemu'), member('cache', 'vda:qemu')]
    members[1].rank = 1
    run(members, FakeQuiesce(), REQUIRED, fleet(FakeBarrier(), ranks=2))

    assert after('freeze', 1) == ['arm app,db,cache', 'freeze app,cache']
    assert after('freeze', 2) == ['freeze db']
    assert sorted(after('commit')) == [f'commit qemu {name} vda' for name in ('app', 'cache', 'db')]
    assert after('thaw', 1) == ['thaw db']
    assert sorted(after('thaw', 2)[:2]) == ['thaw app', 'thaw cache']


def test_a_guest_that_cannot_be_frozen_stands_still_with_the_others() -> None:
    frozen, mute = member('frozen', 'vda:qemu'), member('mute', 'vda:qemu')
    run([frozen, mute], FakeQuiesce({'mute': 'freeze'}), PREFERRED, fleet(FakeBarrier()))

    watched, noted, stopped = after('freeze')[-3:]
    assert watched.startswith('watch uuid-mute ')
    assert 9 < float(watched.split()[-1]) <= 10  # of the time that the guests have, what is left
    assert (noted, stopped) == ('journal mute committing', 'suspend mute')
    commit = after('commit')
    assert commit.index('commit qemu mute vda') < commit.index('resume mute')
    assert (frozen.result.consistency, mute.result.consistency) == ('filesystem', 'crash')


@pytest.mark.parametrize('quiesce', [FakeQuiesce(), None])
@pytest.mark.parametrize(('step', 'ranks'), [('freeze', 1), ('commit', 1), ('freeze', 2), ('commit', 2), ('thaw', 2)])
def test_undoes_all_where_the_play_gives_up(step: str, ranks: int, quiesce: FakeQuiesce | None) -> None:
    one = member('web', 'vda:qemu')
    policy = NONE if quiesce is None else REQUIRED
    with pytest.raises(Abandoned):
        run([one], quiesce, policy, fleet(FakeBarrier(step), ranks))

    assert 'rollback qemu web vda' in LOG
    assert stored(one).empty
    assert one.domain.state == 'running'
    if quiesce is None:
        assert [LOG.count(f'{what} web') for what in ('suspend', 'resume')] == [int(step != 'freeze')] * 2
    else:
        assert LOG.index('all thawed') < LOG.index('rollback qemu web vda')


def test_a_disk_that_changed_while_other_hosts_were_waited_for_is_refused() -> None:
    one = member('web', 'vda:qemu vdb:qemu')
    t.cast(t.Any, one.domain.read().disks[1]).source = SimpleNamespace(key='/i/other')
    with pytest.raises(DiskSnapError, match=r'disk vdb.*/i/other'):
        run([one], FakeQuiesce(), REQUIRED, fleet(FakeBarrier()))
    assert not any(line.startswith(('freeze', 'commit')) for line in LOG)
    assert stored(one).empty


def test_a_guest_that_ran_while_others_were_taken_fails_them_all() -> None:
    """Also where a crash-consistent snapshot would do: it is not of the others' instant."""
    with pytest.raises(DiskSnapError, match='max_frozen'):
        run([member('web', 'vda:qemu')], FakeQuiesce(lost=['web']), PREFERRED, fleet(FakeBarrier()))
    assert 'rollback qemu web vda' in LOG
