# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The merge of one disk as a state machine that a polling loop steps.

The states, and what a crash of this process in each means; the next run of the same task goes on from there::

    WAITING    nothing done.                        Crash: nothing to do.
    WORKING    the journal names the merge; a job   Crash: the job goes on in QEMU; it is followed, or begun again
               or a qemu-img is at it.              where it died with its domain: the chain is whole all along.
    PIVOTING   the journal says so, and libvirt     Crash: libvirt pivots by itself; verify and clean up. Where it
               was told to pivot.                   crashed too, it may not know that: see _merge_doubt.py.
    VERIFYING  the job has gone.                    Crash: verify and clean up.
    CLEANING   the chain is as planned.             Crash: delete the files that the journal names.
    ENDED      the result stands; the journal no longer names the merge, unless the job was left to run.
"""

from __future__ import annotations

import abc
import contextlib
import math
import time
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _chain, _journal, _merge_doubt, _records
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import xml_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_model import (
    CLEAN,
    COMMIT,
    FAILED,
    FOLLOW,
    MERGED,
    RUNNING,
    START,
    DiskMerge,
    MergeOptions,
    MergeResult,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.change import settled
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.domain import Disk, read_domain

WAITING = 'waiting'
WORKING = 'working'
PIVOTING = 'pivoting'
VERIFYING = 'verifying'
CLEANING = 'cleaning'
ENDED = 'ended'


class Work(abc.ABC):
    """One disk on its way. ``step`` never waits and never raises for what went wrong with this disk only."""

    def __init__(self, domain: Domain, merge: DiskMerge, options: MergeOptions) -> None:
        self.domain = domain
        self.merge = merge
        self.options = options
        self.state = WAITING
        self.ending = MERGED
        self.error: DiskSnapError | None = None
        self.warnings: list[str] = []
        self.removed: list[str] = []
        self.bytes = 0
        self.goal = merge.bytes
        self.changed = merge.todo != FOLLOW
        self._marked: list[str] = []
        self.after: Work | None = None  # it begins once that one has ended
        self._began = time.monotonic()
        self._seconds = 0.0

    # -- the loop's side --------------------------------------------------------------------------------------

    def step(self) -> None:
        """Go as far as is possible without waiting."""
        try:
            self._advance()
        except DiskSnapError as error:
            self.fail(error)

    def _advance(self) -> None:
        if self.state == WAITING:
            if self.after is not None and self.after.state != ENDED:
                return
            self._begin()
        elif self.state in (WORKING, PIVOTING):
            self._watch()
        if self.state == VERIFYING:
            self._verify()

    def _begin(self) -> None:
        if self.merge.todo == CLEAN:
            self.state = VERIFYING
            return
        if self.merge.todo == START:
            self._note_begin()
            try:
                self._start()
            except DiskSnapError:
                if not self.merge.doubtful:
                    with contextlib.suppress(DiskSnapError):
                        self._unnote_begin()
                raise
            self.changed = True
        else:
            self._take_over()
        self.state = WORKING

    @property
    def may_leave(self) -> bool:
        """Whether ``wait: false`` is done with this disk: a job runs, and needs nobody before it is ready."""
        return self.state == ENDED

    def progress(self) -> dict[str, t.Any]:
        """How far it is, in bytes, for who waits."""
        return {
            'domain': self.domain.name,
            'target': self.merge.target,
            'cur': self.bytes,
            'end': max(self.goal, self.bytes),
        }

    def end(self, ending: str, error: DiskSnapError | None = None) -> None:
        """Close the work with this outcome."""
        if self.state != ENDED:
            self.state, self.ending, self.error = ENDED, ending, error
            self._seconds = time.monotonic() - self._began

    def fail(self, error: DiskSnapError) -> None:
        """Close the work as failed."""
        self.end(FAILED, error)

    # -- what differs between a running and a shut-off domain -------------------------------------------------

    @abc.abstractmethod
    def _start(self) -> None:
        """Start the job."""

    @abc.abstractmethod
    def _take_over(self) -> None:
        """Make a job that was found this run's own."""

    @abc.abstractmethod
    def _watch(self) -> None:
        """Look at the job; move on to PIVOTING or VERIFYING when it is time."""

    @abc.abstractmethod
    def stop(self) -> None:
        """The time is up: ask the job to end, unless it is about to end well."""

    @abc.abstractmethod
    def abort(self) -> None:
        """The user said so: ask the job to end, ready or not, without an error at its end."""

    @abc.abstractmethod
    def leave(self, *, overdue: bool = False) -> None:
        """Let the job run on, where it can; ``overdue``: since the time is up, which deserves a warning."""

    # -- the journal --------------------------------------------------------------------------------------------

    def _note_begin(self) -> None:
        journal = _journal.load(self.domain.handle)
        journal.merges[self.merge.target] = self.merge.record
        for name in self.merge.snapshots:
            # one that is half taken stays so: a crash now must not make it look as if somebody had wanted it removed
            if name in journal.snapshots and journal.snapshots[name].state == _records.PRESENT:
                journal.snapshots[name].state = _records.REMOVING
                self._marked.append(name)
        _journal.store(self.domain.handle, journal)

    def _unnote_begin(self) -> None:
        """The job never started: nothing was written, and no point in time is lost."""
        journal = _journal.load(self.domain.handle)
        journal.merges.pop(self.merge.target, None)
        for name in self._marked:
            if name in journal.snapshots:
                journal.snapshots[name].state = _records.PRESENT
        _journal.store(self.domain.handle, journal)

    def _note_pivot(self) -> None:
        """From here on the guest may write to the base before libvirt says so."""
        journal = _journal.load(self.domain.handle)
        record = journal.merges.get(self.merge.target)
        if record is not None and not record.pivoting:
            record.pivoting = True
            _journal.store(self.domain.handle, journal)

    def forget(self) -> None:
        """The journal no longer names the merge: it did not happen, and the chain is as it was."""
        journal = _journal.load(self.domain.handle)
        if journal.merges.pop(self.merge.target, None) is not None:
            _journal.store(self.domain.handle, journal)

    # -- the end --------------------------------------------------------------------------------------------------

    def disk(self) -> Disk:
        """The disk as it is now, with its whole chain.

        Raises:
            DiskSnapError: if the domain or the disk has gone.
        """
        disk = self.domain.read().disk(self.merge.target)
        if disk is None:
            raise self.problem('the domain no longer has this disk')
        return _chain.whole(disk, self.domain.host.pools, self.domain.name)

    def chain(self) -> list[str]:
        """The chain as it is now."""
        return [_chain.local_path(layer, self.domain.host.pools) or layer.key for layer in self.disk().chain]

    def problem(self, why: str, hint: str | None = None) -> DiskSnapError:
        """An error that names the domain and the disk."""
        verb = 'commit' if self.merge.direction == COMMIT else 'pull'
        return DiskSnapError(f'Failed to {verb}', domain=self.domain.name, disk=self.merge.target, why=why, hint=hint)

    def overdue(self) -> DiskSnapError:
        """The sentence for a merge that was ended because its time was up."""
        return self.problem(
            f'it did not end within {math.ceil(self.options.timeout)} seconds and was ended; the chain is as it was',
            'Run the task again with a longer timeout, or with more bandwidth.',
        )

    def _verify(self) -> None:
        chain = self.chain()
        if not self.merge.chain_after and chain != self.merge.chain_before:
            self.end(MERGED)  # someone else's job that ended well while it was to be aborted
        elif chain == self.merge.chain_after:
            self._verify_lasting()
            self.state = CLEANING
        elif chain == self.merge.chain_before:
            self.forget()
            self._unmerged()
        else:
            is_now, expected = (' <- '.join(reversed(one)) for one in (chain, self.merge.chain_after))
            raise self.problem(
                f'the chain is {is_now}, expected was {expected}',
                'No file was deleted. Look at it with virsh dumpxml before anything else.',
            )

    def _unmerged(self) -> None:
        """The job is over and the chain is as it was."""
        raise self.problem(
            'the block job ended without having merged anything; the chain is as it was',
            "The usual cause is a full file system or an unreadable image; QEMU's reason is in the log of libvirtd.",
        )

    def _verify_lasting(self) -> None:
        """The next start must find the layer that the guest uses now, where it would have found the one of before."""
        before, handle = self.merge.source_before, self.domain.handle
        if (
            self.merge.direction == COMMIT
            and self.domain.live
            and _merge_doubt.correct_lasting(self.domain, self.merge)
        ):
            self.warnings.append(
                f'Domain {self.domain.name}, disk {self.merge.target}: its persistent definition still named '
                f'{self.merge.top.key}; it names {self.merge.receiver.key} now.'
            )
        if before is None or before != self.merge.chain_before[0] or not self.domain.live or not handle.isPersistent():
            return
        lasting = read_domain(xml_of(handle, inactive=True)).disk(self.merge.target)
        source = lasting.source if lasting else None
        named = _chain.local_path(source, self.domain.host.pools) or source.key if source else 'nothing'
        if named != self.merge.chain_after[0]:
            raise self.problem(
                f'the guest uses {self.merge.chain_after[0]} now, its persistent definition names {named}',
                'No file was deleted. Correct the definition with virsh edit and run the task again.',
            )

    def result(self) -> MergeResult:
        """How it ended, or how it stands."""
        merge, chain, modified = self.merge, list(self.merge.chain_before), None
        state = RUNNING if self.state != ENDED else self.ending
        with contextlib.suppress(DiskSnapError):  # the domain may be gone: then the plan is the last that is known
            chain, text = self.chain(), settled(self.disk().xml)
            modified = text if text != merge.disk_before or (merge.todo == CLEAN and state == MERGED) else None
        return MergeResult(
            target=merge.target,
            direction=merge.direction,
            bytes=self.bytes or (merge.bytes if state == MERGED else 0),
            seconds=round(self._seconds or time.monotonic() - self._began, 3),
            modified_disk=modified,
            chain_before=list(merge.chain_before),
            chain_after=chain,
            removed=list(self.removed),
            state=state,
            error=str(self.error) if self.error else None,
            warnings=list(self.warnings),
            changed=self.changed,
        )
