# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the demo says while it works, and what it claims to be true."""

from __future__ import annotations

import time


class Ledger:
    """Prints lines as they come, and remembers the claims that did not hold."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.kept = 0
        self.broken: list[str] = []

    def heading(self, text: str) -> None:
        """A new part of the story, with the seconds since its beginning."""
        print(f'\n[{time.monotonic() - self._started:5.1f} s] {text}', flush=True)

    def say(self, text: str) -> None:
        """One plain line."""
        print(f'          {text}', flush=True)

    def claim(self, text: str, holds: bool, why: str = '') -> None:
        """A statement that the demo stands for."""
        if holds:
            self.kept += 1
            self.say(f'ok: {text}')
            return
        self.broken.append(f'{text} ({why})' if why else text)
        self.say(f'NOT TRUE: {self.broken[-1]}')
