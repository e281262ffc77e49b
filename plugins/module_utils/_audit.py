# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host held against what is recorded of it: the storage is the truth, the journal the intent.

What changes while it is looked at would look damaged; so a domain with a problem is looked at again until it was the
same before and after. What looks like an orphan may be an overlay of a domain that is yet to be defined, or that was
changed meanwhile; so it must be there, and nobody's, a second time.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.disksnap.libvirt.plugins.module_utils import (
    _audit_chain,
    _audit_guests,
    _audit_journal,
    _audit_orphans,
    _lvm,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Host
from ansible_collections.disksnap.libvirt.plugins.module_utils._lock import busy
from ansible_collections.disksnap.libvirt.plugins.module_utils._pool import Pools
from ansible_collections.disksnap.libvirt.plugins.module_utils._problem import ORPHANED, Problem, ordered
from ansible_collections.disksnap.libvirt.plugins.module_utils._survey import DomainView, Survey, changed, survey

# how often a host is read at most: one that changes all the time is told as it was last
_ROUNDS = 3


@dataclass
class Findings:
    """What an audit found.

    Attributes:
        survey: the host as it was.
        frozen: whether each guest is frozen, by UUID; None where that is not known.
        at_work: UUIDs of the domains that a run of this collection is at work on, and of which nothing is said.
        problems: of each domain, by UUID.
        elsewhere: problems of the host that belong to no domain, or to several.
    """

    survey: Survey
    frozen: dict[str, bool | None]
    at_work: set[str]
    problems: dict[str, list[Problem]] = field(default_factory=dict)
    elsewhere: list[Problem] = field(default_factory=list)

    def add(self, uuid: str | None, problems: t.Iterable[Problem]) -> None:
        """Note problems of a domain, or of the host."""
        if uuid is None:
            self.elsewhere += problems
        else:
            self.problems.setdefault(uuid, []).extend(problems)

    def orphans(self) -> t.Iterator[Problem]:
        """What nobody knows, be it a domain's or the host's."""
        for problems in (self.elsewhere, *self.problems.values()):
            yield from (problem for problem in problems if problem.code in ORPHANED)


def audit(host: Host, wanted: t.Callable[[DomainView], bool] = lambda _view: True) -> Findings:
    """Read a host and say what does not fit.

    Args:
        host: which is read as a whole, since images are shared.
        wanted: which guests to ask whether they are frozen.

    Raises:
        DiskSnapError: if libvirt does not list what it has.
    """
    orphans: set[Problem] = set()
    for left in reversed(range(_ROUNDS)):
        _lvm.forget()
        with Pools(host.connection, host.uri) as pools:  # of its own: what it has read is of this round
            found = survey(Host(host.uri, host.connection, pools))
            findings = _judge(found, wanted)
        before, orphans = orphans, set(findings.orphans())
        moved = orphans != before or any(changed(view) for view in found.domains if findings.problems.get(view.uuid))
        if not left or not moved:
            break
    return findings


def _judge(found: Survey, wanted: t.Callable[[DomainView], bool]) -> Findings:
    views = found.domains
    findings = Findings(
        found,
        _audit_guests.frozen([view for view in views if wanted(view)]),
        {view.uuid for view in views if found.host.local and busy(view.uuid)},
    )
    calm = [view for view in views if view.uuid not in findings.at_work]
    for view in calm:
        findings.add(view.uuid, _of_domain(view, findings))
    # what is shared comes last: a run that has begun meanwhile is at work on what it makes
    for uuid, problems in _audit_chain.written_bases(found).items():
        if uuid not in findings.at_work:
            findings.add(uuid, problems)
    for owner, problem in _audit_orphans.orphans(found):
        if owner not in findings.at_work:
            findings.add(owner, [problem])
    if found.host.local:
        for uuid, problem in _audit_guests.lost(views).items():
            findings.add(uuid, [problem])
    findings.problems = {uuid: ordered(problems) for uuid, problems in findings.problems.items() if problems}
    findings.elsewhere = ordered([*findings.elsewhere, *_unread(found)])
    return findings


def _of_domain(view: DomainView, findings: Findings) -> t.Iterator[Problem]:
    storage = findings.survey.storage
    yield from _audit_chain.chains(view, storage)
    yield from _audit_chain.definitions(view, storage)
    yield from _audit_journal.health(view)
    yield from _audit_journal.unfinished(view)
    yield from _audit_journal.snapshots(view, findings.survey)
    if findings.frozen.get(view.uuid):
        yield from _audit_guests.left_frozen(view)


def _unread(found: Survey) -> t.Iterator[Problem]:
    for name, error in found.unread.items():
        yield Problem('unreadable', f'The domain {name} cannot be read: {_words(error)}.', 'Look at it with virsh.')


def _words(error: DiskSnapError) -> str:
    return (error.why or error.what).strip().rstrip('.')
