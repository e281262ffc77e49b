# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy what a backup would copy, and look into the copies."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disksnap_lab import Guest, Report, acks, check_copy
from disksnap_lab.commands import run

WORKERS = 2


@dataclass(frozen=True)
class Proof:
    """One disk: what the role said of it, what is in the copy, and how long its writer stood still."""

    guest: Guest
    target: str
    taken: dict[str, Any]
    copy: Report
    acked: int
    stood_still_ms: float


def prove(
    guests: dict[str, Guest], domains: Sequence[dict[str, Any]], acked: dict[str, dict[str, int]], directory: Path
) -> list[Proof]:
    """Copy and check each backup source.

    Args:
        guests: by name.
        domains: what the role returned.
        acked: guest -> target -> the last record that was acknowledged before the role began.
        directory: for the copies.
    """

    def one(pair: tuple[dict[str, Any], dict[str, Any]]) -> Proof:
        domain, disk = pair
        guest, target = guests[domain['name']], disk['target']
        copy = backup(disk['backup_source'], directory / f'{guest.name}-{target}.qcow2')
        report = check_copy(copy, 'qcow2', guest.disks[target].fs)
        still = stood_still_ms(guest, target, report.last or 0)
        return Proof(guest, target, disk, report, acked[guest.name][target], still)

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(one, [(domain, disk) for domain in domains for disk in domain['disks']]))


def backup(source: dict[str, Any], copy: Path) -> Path:
    """What a backup does: read the source, while the guest goes on writing to the overlay."""
    run(['qemu-img', 'convert', '-f', source['format'], '-O', 'qcow2', source['path'], copy], timeout=300)
    return copy


def stood_still_ms(guest: Guest, target: str, last: int) -> float:
    """By the guest's own clock: the gap between the records around the freeze.

    Args:
        last: the last record in the copy. The next one hung in the freeze, the one after was free again.
    """
    longest = 0.0
    for ack in acks.read(guest.acks_path(target), since=last):
        longest = max(longest, ack.gap_ns / 1e6)
        if ack.seq >= last + 2:
            break
    return longest


def final(guests: Sequence[Guest], acked: dict[str, dict[str, int]]) -> list[tuple[Guest, str, Report, int]]:
    """The disks themselves, once their guests were switched off: each with what had been acknowledged by then."""

    def one(pair: tuple[Guest, str]) -> tuple[Guest, str, Report, int]:
        guest, target = pair
        made = guest.disks[target]
        return guest, target, check_copy(Path(made.image), made.format, made.fs), acked[guest.name][target]

    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(one, [(guest, target) for guest in guests for target in guest.disks]))
