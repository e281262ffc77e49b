# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The merge of one disk of a running or paused domain: a block job of QEMU, followed from outside."""

from __future__ import annotations

import contextlib
import os
import time

from ansible_collections.disksnap.libvirt.plugins.module_utils import _blockjob, _journal, _merge_doubt
from ansible_collections.disksnap.libvirt.plugins.module_utils._apparmor import unsilence
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_model import (
    ABORTED,
    CLEAN,
    COMMIT,
    RUNNING,
    DiskMerge,
    MergeOptions,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_work import (
    ENDED,
    PIVOTING,
    VERIFYING,
    WORKING,
    Work,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Source

# seconds of libvirt errors in a row before a merge is given up
PATIENCE = 20.0


class LiveWork(Work):
    """A block job of a running or paused domain."""

    def __init__(self, domain: Domain, merge: DiskMerge, options: MergeOptions) -> None:
        super().__init__(domain, merge, options)
        self._stopping = False
        self._aborting = False
        self._may_leave = False
        self._trouble_since: float | None = None
        self._lost_since: float | None = None

    def _start(self) -> None:
        merge, handle = self.merge, self.domain.handle
        if merge.doubtful:
            self._refuse_pivoted()
        if merge.direction == COMMIT:
            base = self._name(merge.receiver)
            top = self._name(merge.top)
            self._let_write(merge.receiver)
            _blockjob.start_commit(
                handle, merge.target, base=base, top=top, active=merge.active, bandwidth=self.options.bandwidth
            )
        else:
            left = self._name(merge.base) if merge.base else None
            _blockjob.start_pull(handle, merge.target, base=left, bandwidth=self.options.bandwidth)
        self._may_leave = True

    def _let_write(self, base: Source) -> None:
        """Where AppArmor would overrule libvirt's permission to write to the base, have it not."""
        if not self.domain.host.local or base.path is None:
            return
        try:
            unsilence(self.domain.uuid, {base.path, os.path.realpath(base.path)})
        except OSError as error:
            self.warnings.append(
                f'Domain {self.domain.name}, disk {self.merge.target}: its AppArmor profile denies writes to '
                f'{base.path}, and could not be changed ({error.strerror}). If the commit fails with "Permission '
                'denied", shut the domain off and merge it then.'
            )

    def _name(self, layer: Source) -> str:
        """A layer as libvirt takes it: by index where it shows one, which holds for network layers too."""
        return layer.key if layer.index is None else f'{self.merge.target}[{layer.index}]'

    def _take_over(self) -> None:
        if self.merge.target not in _journal.load(self.domain.handle).merges:
            self._note_begin()  # someone else's job: from now on it is as if it were ours
        with contextlib.suppress(DiskSnapError):  # it may be about to end
            job = _blockjob.look(self.domain.handle, self.merge.target)
            if job is not None:  # once its limit is lifted it may be gone before the next look
                self.bytes, self.goal = job.cur, job.end
            _blockjob.set_bandwidth(self.domain.handle, self.merge.target, self.options.bandwidth)

    @property
    def may_leave(self) -> bool:
        return self.state == ENDED or (self.state == WORKING and self._may_leave)

    def _watch(self) -> None:
        try:
            job = _blockjob.look(self.domain.handle, self.merge.target)
            disk = self.domain.read().disk(self.merge.target)
            live = self.domain.live
        except DiskSnapError as error:
            self._endure(error)
            return
        self._trouble_since = None
        if not live:
            raise self._stopped()
        self._judge(job, disk is not None and disk.mirror is not None)

    def _endure(self, error: DiskSnapError) -> None:
        """A dying QEMU and a busy domain give errors of many kinds; soon it is clear which of them it is."""
        connection, now = self.domain.host.connection, time.monotonic()
        if not connection.isAlive():
            raise self.problem(
                'the connection to libvirt broke; the job goes on without it', 'Run the task again to finish it.'
            ) from error
        if error.code == libvirt.VIR_ERR_NO_DOMAIN or not self._seems_live():
            raise self._stopped() from error
        self._trouble_since = self._trouble_since or now
        if now - self._trouble_since > PATIENCE:
            raise error

    def _seems_live(self) -> bool:
        try:
            return self.domain.live
        except DiskSnapError as error:
            return error.code != libvirt.VIR_ERR_NO_DOMAIN

    def _stopped(self) -> DiskSnapError:
        return self.problem(
            'the domain stopped during the merge; its disk is as it was before, and nothing is lost',
            'Run the task again, with the domain running or shut off.',
        )

    def _judge(self, job: _blockjob.Job | None, mirrored: bool) -> None:
        """Go on by what the job says; ``mirrored``: the domain's XML still shows an active commit."""
        if job is not None:
            self._lost_since = None
            self.bytes, self.goal = max(self.bytes, job.cur), job.end
            if self._aborting:
                self.stop()
            elif job.ready and self.state == WORKING and not self._stopping:
                self._pivot()
            elif not job.ready:
                self._may_leave = True
        elif not mirrored:
            self.changed = True
            self.state = VERIFYING
        else:  # libvirt is still at the consequences, unless it died at them
            self._lost_since = self._lost_since or time.monotonic()
            if time.monotonic() - self._lost_since > _merge_doubt.LOST_AFTER:
                raise self._lost(_merge_doubt.pivoted(self.domain, self.disk(), self.merge))

    def _refuse_pivoted(self) -> None:
        """Begin no second time what has happened, though libvirt does not know."""
        happened = _merge_doubt.pivoted(self.domain, self.disk(), self.merge)
        if happened is not False:
            raise self._lost(happened)
        self.merge.doubtful = False
        self._note_begin()

    def _lost(self, happened: bool | None) -> DiskSnapError:
        """The error for a pivot that libvirt has lost track of; the next start is put right first."""
        if happened:
            _merge_doubt.correct_lasting(self.domain, self.merge)
            self.changed = True
        return self.problem(*_merge_doubt.lost(self.merge, happened=happened))

    def _pivot(self) -> None:
        handle, target = self.domain.handle, self.merge.target
        if self.options.bandwidth:
            with contextlib.suppress(DiskSnapError):  # what is left is what the guest writes in this moment
                _blockjob.set_bandwidth(handle, target, 0)
        self._note_pivot()
        _blockjob.pivot(handle, target)
        self.changed = True
        self.state = PIVOTING

    def _unmerged(self) -> None:
        if not self._stopping and not self._aborting:
            super()._unmerged()
        self.end(ABORTED, None if self._aborting else self.overdue())

    def stop(self) -> None:
        if self.state != WORKING or self._stopping:
            return
        try:
            job = _blockjob.look(self.domain.handle, self.merge.target)
            if job is None or (job.ready and not self._aborting):
                return  # it is about to end well
            _blockjob.cancel(self.domain.handle, self.merge.target)
        except DiskSnapError as error:
            self._endure_stop(error)
            return
        self._stopping = True
        self.changed = True

    def _endure_stop(self, error: DiskSnapError) -> None:
        """What stands against ending the job; one that has just ended by itself is no trouble."""
        try:
            self._endure(error)
        except DiskSnapError as worse:
            self.fail(worse)

    def abort(self) -> None:
        if self.merge.todo == CLEAN:
            return  # it ended well before; all it lacks is done as ever
        self._aborting = True
        self.changed = True
        self.state = WORKING
        self.stop()

    def leave(self, *, overdue: bool = False) -> None:
        if overdue and self.state != ENDED:
            self.warnings.append(
                f'Domain {self.domain.name}, disk {self.merge.target}: the merge did not end within '
                f'{self.options.timeout:.0f} seconds and goes on in QEMU; run the task again to finish it.'
            )
        self.end(RUNNING)
