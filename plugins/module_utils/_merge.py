# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Merge layers of backing chains: plan, then run all disks of all domains side by side in one polling loop.

The rooms behind this door: ``_merge_model`` (what a merge is), ``_merge_plan`` and ``_merge_checks`` (before),
``_merge_work``, ``_merge_live`` and ``_merge_offline`` (while), ``_merge_finish`` and ``_merge_xml`` (after).
"""

from __future__ import annotations

import time
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _blockjob, _chain
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain, Host
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_finish import clean_up
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_live import LiveWork
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_model import (
    ABORTED,
    CLEAN,
    COMMIT,
    FAILED,
    FOLLOW,
    MERGED,
    NO_BASE,
    PULL,
    RUNNING,
    START,
    DiskMerge,
    DomainMerge,
    MergeOptions,
    MergeResult,
    MergeSpec,
    parse_bandwidth,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_offline import OfflineWork
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_plan import (
    Reading,
    done,
    plan_all,
    read,
    recorded,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_work import (
    CLEANING,
    ENDED,
    WAITING,
    Work,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._progress import Progress

__all__ = [
    'ABORTED', 'COMMIT', 'FAILED', 'MERGED', 'NO_BASE', 'PULL', 'RUNNING', 'DomainMerge', 'MergeOptions', 'MergeResult',
    'MergeSpec', 'abort', 'parse_bandwidth', 'plan_all', 'predict', 'run',
]  # fmt: skip

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5
# after the time was up: seconds for ready jobs to pivot and for the others to end
GRACE = 60.0


def run(merges: t.Sequence[DomainMerge], options: MergeOptions) -> dict[str, list[MergeResult]]:
    """Run planned merges to their end, or to the end of the time.

    What goes wrong with one disk is in its result (``failed``, ``aborted``), and the others go on.

    Returns:
        Results by the domain's name.
    """
    works = {merge.domain.name: _works(merge, options) for merge in merges}
    every = [work for of_domain in works.values() for work in of_domain]
    with Progress() as progress:
        _poll(every, options, progress)
    return {name: [work.result() for work in of_domain] for name, of_domain in works.items()}


def _works(merge: DomainMerge, options: MergeOptions) -> list[Work]:
    if not merge.live:
        return [OfflineWork(merge.domain, disk, options) for disk in merge.disks]
    works: list[Work] = [LiveWork(merge.domain, disk, options) for disk in merge.disks]
    # jobs that run already come first; QEMU 7.2 dies of two block-stream jobs that end at about the same time
    # (measured: in the first or second round of two disks pulled side by side; never of commits, never of one pull)
    pulls = sorted((work for work in works if work.merge.direction == PULL), key=lambda work: work.merge.todo == START)
    for before, after in zip(pulls, pulls[1:]):
        if after.merge.todo == START:
            after.after = before
    return works


def predict(merge: DomainMerge, options: MergeOptions | None = None) -> list[MergeResult]:
    """What ``run`` would return, from the same plan."""
    host = merge.domain.host
    finished = options is None or options.wait or not merge.live
    users = _chain.Users(host.connection, host.pools) if any(disk.direction == PULL for disk in merge.disks) else None
    return [_predicted(disk, users, merge.domain, finished or disk.todo == CLEAN) for disk in merge.disks]


def _predicted(disk: DiskMerge, users: _chain.Users | None, domain: Domain, finished: bool) -> MergeResult:
    removed = [*disk.files, *disk.leftovers]
    if users is not None and disk.todo != CLEAN:
        # as if the layers had left the chain already: what stands on them is this domain, and the top
        pools, ours = domain.host.pools, {*disk.chain_before}
        removed = [
            path for path in removed
            if not users.unknown and not users.domains_on(path) - {domain.name}
            and not {pools.canonical(image) for image in users.images_on(path)} - {pools.canonical(key) for key in ours}
        ]  # fmt: skip
    return MergeResult(
        target=disk.target,
        direction=disk.direction,
        bytes=disk.bytes,
        seconds=0.0,
        modified_disk=disk.modified_disk if finished else None,
        chain_before=list(disk.chain_before),
        chain_after=list(disk.chain_after if finished else disk.chain_before),
        removed=removed if finished else [],
        state=MERGED if finished else RUNNING,
        changed=finished or disk.todo != FOLLOW,
    )


# -- the loop -------------------------------------------------------------------------------------------------


def _poll(works: t.Sequence[Work], options: MergeOptions, progress: Progress | None = None) -> None:
    deadline, pause, overdue = time.monotonic() + options.timeout, FIRST_PAUSE, False
    while True:
        _step(works)
        left = [work for work in works if work.state != ENDED]
        if not left:
            return
        if progress is not None:
            progress.note(lambda: [work.progress() for work in left])  # noqa: B023 - it is called at once
        if not options.wait and all(work.may_leave for work in left):
            for work in left:
                work.leave()
            return
        if time.monotonic() >= deadline:
            if overdue:
                _give_up(left)
                return
            overdue, pause, deadline = True, FIRST_PAUSE, time.monotonic() + GRACE
        if overdue:
            for work in left:
                if work.state == WAITING:
                    work.end(ABORTED, work.overdue())
                elif options.on_timeout == 'leave':
                    work.leave(overdue=True)
                else:
                    work.stop()
        time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _step(works: t.Sequence[Work]) -> None:
    by_host: dict[int, tuple[Host, list[Work]]] = {}
    for work in works:
        if work.state != ENDED:
            work.step()
        if work.state == CLEANING:
            by_host.setdefault(id(work.domain.host), (work.domain.host, []))[1].append(work)
    for host, of_host in by_host.values():
        clean_up(host, of_host)


def _give_up(works: t.Sequence[Work]) -> None:
    for work in works:
        if work.state == WAITING:
            work.end(ABORTED, work.overdue())
        else:
            work.fail(
                work.problem(
                    f'the job neither finished nor ended within {GRACE:.0f} seconds after the time was up',
                    'It goes on in QEMU; run the task again to finish it.',
                )
            )


# -- abort ----------------------------------------------------------------------------------------------------


def abort(
    domain: Domain, targets: t.Sequence[str], options: MergeOptions | None = None, *, check: bool = False
) -> list[MergeResult]:
    """End the merges that run on these disks; a disk without one gives no result.

    A merge that has already ended well, and only lacks its cleaning up, is finished. ``check`` only predicts.

    Raises:
        DiskSnapError: if a job is there that is no merge; nothing is ended then.
    """
    options = options or MergeOptions()
    specs = [MergeSpec(target, top=NO_BASE) for target in targets]
    works = [work for work in (_to_abort(reading, options) for reading in read(domain, specs, options)) if work]
    if check:
        return [_predicted_abort(work) for work in works]
    for work in works:
        work.abort()
    _poll(works, options)
    return [work.result() for work in works]


def _predicted_abort(work: Work) -> MergeResult:
    if work.merge.todo == CLEAN:
        return _predicted(work.merge, None, work.domain, True)
    result = _predicted(work.merge, None, work.domain, False)
    result.state, result.changed = ABORTED, True
    return result


def _to_abort(reading: Reading, options: MergeOptions) -> Work | None:
    domain, target, record = reading.domain, reading.spec.target, reading.record
    job = _blockjob.look(domain.handle, target) if reading.live else None
    if job is not None and job.kind not in ('commit', 'active-commit', 'pull'):
        raise DiskSnapError(
            'Failed to abort the merge',
            domain=domain.name,
            disk=target,
            why=f'the block job on it is no merge ({job.kind}), and this collection did not start it',
            hint='End it with virsh blockjob --abort if nobody needs it.',
        )
    kind = LiveWork if reading.live else OfflineWork
    if record is not None:
        ended = job is None and done(reading, record)
        return kind(domain, recorded(reading, record, CLEAN if ended else FOLLOW), options)
    if job is not None:
        return kind(domain, _unrecorded(reading, PULL if job.kind == 'pull' else COMMIT), options)
    return None


def _unrecorded(reading: Reading, direction: str) -> DiskMerge:
    """A job that is in no journal: all that is known is the chain, and that it must be the same afterwards."""
    return DiskMerge(
        target=reading.spec.target,
        direction=direction,
        todo=FOLLOW,
        top=reading.chain[0],
        base=reading.chain[-1],
        active=True,
        child=None,
        layers=[],
        files=[],
        devices=[],
        chain_before=reading.keys,
        chain_after=[],
        source_before=None,
        disk_before=reading.disk.xml,
        disk_after=reading.disk.xml,
    )
