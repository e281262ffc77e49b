# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The story: three guests write; Ansible snapshots them; the copies are whole; the chains are merged back."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import libvirt

from disksnap_lab import Guest, Lab, LabError

from . import guests as cast
from .ledger import Ledger
from .play import LOG, ROOT, play
from .proof import Proof, final, prove
from .stage import left_running, stage
from .table import table

SNAPSHOT = 'demo'
MAX_FROZEN = 10
PLAYBOOK = 'tests/demo/snapshot.yml'


def main() -> int:
    """Exit status 0 only if every claim of the demo held."""
    ledger = Ledger()
    try:
        ledger.heading('Starting a private libvirtd (the first time, the kernel and disks of its guests are made too)')
        with stage() as lab:
            lines = _tell(lab, ledger)
            ledger.heading('Taking the lab down')
        left = left_running(lab)
        ledger.claim('nothing is left running, and no file', not left and not lab.paths.base.exists(), '; '.join(left))
    except (LabError, libvirt.libvirtError, subprocess.SubprocessError) as error:
        print(f'demo: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('demo: interrupted; the lab was taken down', file=sys.stderr)
        return 130
    print('\n' + '\n'.join(lines))
    print("frozen: as the module measured it. stood still: the longest gap in the guest's own log of writes.\n")
    for broken in ledger.broken:
        print(f'NOT TRUE: {broken}')
    print(f'{ledger.kept} claims held, {len(ledger.broken)} did not.')
    return 1 if ledger.broken else 0


def _tell(lab: Lab, ledger: Ledger) -> list[str]:
    """The parts in their order; the lines of the table."""
    ledger.say(lab.uri)
    ledger.heading('Booting three guests; each writes numbered records to each of its disks all the while')
    guests = {guest.name: guest for guest in cast.boot(lab)}
    before = {name: cast.look(guest) for name, guest in guests.items()}
    acked = {name: guest.acked() for name, guest in guests.items()}
    for name, guest in guests.items():
        disks = ', '.join(f'{target} ({disk.fs} in {disk.format})' for target, disk in guest.disks.items())
        ledger.say(f'{name}: {disks}')

    ledger.heading('Taking a snapshot of all of them, with the role fleet_snapshot')
    domains = _snapshot(lab, ledger)
    for guest in guests.values():
        guest.wait_acked(cast.RECORDS, timeout=cast.BOOT_SECONDS)
    ledger.claim('the snapshot is of all three guests', set(domains) == set(guests), f'it is of {list(domains)}')

    ledger.heading('Copying each backup source with qemu-img, and looking into the copies')
    proofs = prove(guests, list(domains.values()), acked, lab.paths.scratch)
    _judge_copies(proofs, domains, ledger)

    ledger.heading('Merging the overlays away, with the playbook disksnap.libvirt.merge')
    play('disksnap.libvirt.merge', _variables(lab), ledger)
    differences = {name: cast.difference(before[name], cast.look(guest)) for name, guest in guests.items()}
    for name, difference in differences.items():
        ledger.claim(f'{name}: backing chains and files are as before', not difference, difference)

    ledger.heading('Switching the guests off, and looking into the disks themselves')
    _judge_disks(list(guests.values()), ledger)
    return table(proofs, domains, {name: not difference for name, difference in differences.items()})


def _variables(lab: Lab) -> dict[str, Any]:
    return {'fleet_snapshot_name': SNAPSHOT, 'fleet_snapshot_uri': lab.uri}


def _snapshot(lab: Lab, ledger: Ledger) -> dict[str, dict[str, Any]]:
    """Run the role; the guests that it snapshotted, by name."""
    kept = lab.paths.scratch / 'result.json'
    terms = {'fleet_snapshot_quiesce': 'required', 'fleet_snapshot_max_frozen': MAX_FROZEN}
    play(PLAYBOOK, {**_variables(lab), **terms, 'demo_result': str(kept)}, ledger)
    ledger.say(f'(what Ansible printed is in {LOG.relative_to(ROOT)})')
    result = json.loads(kept.read_text(encoding='utf-8'))
    for domain in result['domains']:
        freeze, disks = domain['freeze'] or {}, ', '.join(disk['target'] for disk in domain['disks'])
        ledger.say(
            f'{domain["name"]}: disks {disks}; consistency {domain["consistency"]}; file systems frozen: '
            f'{freeze.get("filesystems")}, for {freeze.get("window_ms")} ms, thawed by {freeze.get("thawed_by")}'
        )
    return {domain['name']: domain for domain in result['domains']}


def _judge_copies(proofs: list[Proof], domains: dict[str, dict[str, Any]], ledger: Ledger) -> None:
    for domain in domains.values():
        consistency = domain['consistency']
        ledger.claim(f'{domain["name"]}: was frozen for its snapshot', consistency == 'filesystem', consistency)
    for proof in proofs:
        copy, disk = proof.copy, f'{proof.guest.name} {proof.target}'
        ledger.claim(f'{disk}: fsck finds the copy clean', copy.clean, copy.problem or 'its journal was replayed')
        ledger.claim(
            f'{disk}: the copy has all {proof.acked} writes acknowledged before, in all {copy.records} and no hole',
            copy.holds(proof.acked),
            f'last {copy.last}, holes {copy.holes}, {copy.bad_crc} damaged',
        )
        ledger.claim(
            f'{disk}: writes stood still for {proof.stood_still_ms:.0f} ms, less than max_frozen',
            0 < proof.stood_still_ms < MAX_FROZEN * 1000,
        )


def _judge_disks(guests: list[Guest], ledger: Ledger) -> None:
    acked = {guest.name: guest.wait_acked(cast.RECORDS, timeout=cast.BOOT_SECONDS) for guest in guests}
    for guest in guests:
        guest.destroy()
    for guest, target, disk, known in final(guests, acked):
        ledger.claim(
            f'{guest.name} {target}: the disk is whole and has all {known} writes acknowledged until now',
            disk.consistent and disk.holds(known),
            disk.problem or f'last {disk.last}, holes {disk.holes}, {disk.bad_crc} damaged',
        )
