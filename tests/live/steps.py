# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lead a host's part in a snapshot of several from step to step, as the role does."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any


def say(command: str, word: str, **beside: Any) -> dict[str, Any]:
    """Bring the word, with what is to be said beside it, and return the answer."""
    said = shlex.quote(f'{word} {json.dumps(beside)}') if beside else word
    done = subprocess.run(['sh', '-c', f'{command} {said}'], capture_output=True, text=True, timeout=120, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
