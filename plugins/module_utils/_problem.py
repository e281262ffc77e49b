# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Something about a domain or its host that does not fit, for who has to put it right."""

from __future__ import annotations

import typing as t
from dataclasses import asdict, dataclass

# every code that there is, in the order in which they matter; docs/docsite/rst/guide_audit.rst says more of each
CODES = (
    'frozen_guest',
    'lost_domain',
    'base_written',
    'missing_image',
    'missing_backing',
    'broken_chain',
    'image_format',
    'backing_format',
    'backing_differs',
    'base_modified',
    'definitions_differ',
    'unreadable',
    'journal_damaged',
    'journals_differ',
    'unfinished_snapshot',
    'unfinished_revert',
    'unfinished_removal',
    'unfinished_merge',
    'unfinished_job',
    'snapshot_lost',
    'snapshot_unused',
    'snapshot_unusable',
    'snapshot_filling',
    'orphaned_overlay',
    'orphaned_copy',
)
# those of what nobody refers to
ORPHANED = ('orphaned_overlay', 'orphaned_copy')


@dataclass(frozen=True)
class Problem:
    """What does not fit: a code that stays the same, a sentence, and a sentence or two on what to do.

    ``disk``, ``snapshot`` and ``path`` say what it is about, where it is about one.
    """

    code: str
    message: str
    remedy: str
    disk: str | None = None
    snapshot: str | None = None
    path: str | None = None

    def to_dict(self) -> dict[str, t.Any]:
        """What the module returns."""
        return asdict(self)


def ordered(problems: t.Iterable[Problem]) -> list[Problem]:
    """Each once, the worst first."""
    return sorted(dict.fromkeys(problems), key=lambda one: (CODES.index(one.code), one.disk or '', one.path or ''))
