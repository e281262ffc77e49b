# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one error of the collection, and the sentence that it makes."""

from __future__ import annotations

import typing as t


class DiskSnapError(Exception):
    """What every part of the collection raises; a module turns it into fail_json.

    ``str()`` of it is one sentence: what failed, on which domain and disk, why, and what to do.

    Args:
        what: what failed, as a clause without a full stop: ``'Failed to create the overlay'``.
        domain: name of the domain, or None.
        disk: target name of the disk (``vda``), or None.
        why: the cause, libvirt's own words where it comes from there.
        hint: what the operator can do, as a full sentence.
        code: libvirt's error number (``VIR_ERR_*``), or None. Shown, and kept for callers that decide by it.

    ``result`` holds what the module returns beside the message, where some of the work was done all the same.
    """

    def __init__(
        self,
        what: str,
        *,
        domain: str | None = None,
        disk: str | None = None,
        why: str | None = None,
        hint: str | None = None,
        code: int | None = None,
    ) -> None:
        self.what = what
        self.domain = domain
        self.disk = disk
        self.why = why
        self.hint = hint
        self.code = code
        self.result: dict[str, t.Any] = {}
        super().__init__(what)

    def __str__(self) -> str:
        return self._sentence()

    def _sentence(self) -> str:
        place = ', '.join(
            f'{kind} {name}' for kind, name in (('domain', self.domain), ('disk', self.disk)) if name is not None
        )
        text = f'{self.what} ({place})' if place else self.what
        if self.why:
            text += ': ' + self.why.strip().rstrip('.')
        if self.code is not None:
            text += f' (libvirt error {self.code})'
        text += '.'
        if self.hint:
            text += ' ' + self.hint
        return text
