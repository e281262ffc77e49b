# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""snapshot_merge after libvirtd died in the milliseconds in which it notes a pivot, and knows nothing of it.

QEMU is told to pivot behind the back of a libvirtd that is dead, which leaves all as such a death does. The guest
writes to the base then, and the overlay, which libvirt takes for its disk, is older: nothing may be made of that.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import libvirt
import pytest
from lxml import etree

from ansible_collections.disksnap.libvirt.tests.live.harness import (
    JOURNALS,
    Guests,
    Runner,
    chain,
    journal,
    ready,
    until,
)
from ansible_collections.disksnap.libvirt.tests.live.merging import end_qemu, mirrored, name_base, prove, wait_idle
from ansible_collections.disksnap.libvirt.tests.live.monitor import Monitor
from disksnap_lab import Guest, GuestSpec, Lab

TASK = {'name': 'lost', 'snapshot_name': 's1'}


@pytest.fixture
def lost(guest: Guests, run_module: Runner) -> Guest:
    """A guest with a snapshot, whose merge is ready to pivot and left to itself."""
    found = guest(GuestSpec('lost'))
    run_module('disk_snapshot', TASK)
    run_module('snapshot_merge', {**TASK, 'wait': False})
    until('the commit to be ready', lambda: mirrored(found, 'vda') == 'yes', 60)
    return found


def pivot_unseen(lab: Lab, name: str) -> None:
    """Have QEMU pivot, and forget the job."""
    monitor = Monitor(lab, name)
    try:
        [job] = monitor('query-jobs')
        monitor('block-job-complete', device=job['id'])
        until('the pivot', lambda: monitor('query-jobs')[0]['status'] == 'concluded', 60)
        monitor('job-dismiss', id=job['id'])
    finally:
        monitor.close()


def note_pivot(guest: Guest) -> None:
    """What a task writes before it tells libvirt to pivot."""
    text = guest.domain.metadata(2, JOURNALS[0], 0)
    assert 'pivoting="no"' in text
    guest.domain.setMetadata(2, text.replace('pivoting="no"', 'pivoting="yes"'), 'disksnap', JOURNALS[0], 3)


def test_the_next_start_finds_what_the_guest_wrote(lost: Guest, lab: Lab, run_module: Runner, tmp_path: Path) -> None:
    overlay = chain(lost, 'vda')[0]
    note_pivot(lost)
    lab.kill_libvirtd(hold=True)
    pivot_unseen(lab, 'lost')
    lab.release_libvirtd()
    lab.wait_libvirtd()
    lost.wait_acked(5, timeout=60)
    assert chain(lost, 'vda') == [overlay, lost.disks['vda'].image]  # which is not so

    for _again in range(2):
        msg = run_module.fails('snapshot_merge', TASK)['msg']

        assert 'lost track of it: the guest writes to' in msg
        assert 'disk vda' in msg
        assert 'shut it off, start it, and run the task again' in msg
        assert Path(overlay).exists()
        assert chain(lost, 'vda', inactive=True) == [lost.disks['vda'].image]
    acked = lost.acked()['vda']
    lost.destroy()
    prove(lost, 'vda', acked, tmp_path)
    lost.start()
    ready(lost)

    [disk] = run_module('snapshot_merge', TASK)['domains'][0]['disks']

    assert (disk['state'], disk['removed']) == ('merged', [overlay])
    assert chain(lost, 'vda') == [lost.disks['vda'].image]
    assert journal(lost) is None
    prove(lost, 'vda', acked, tmp_path)


def test_a_domain_that_libvirt_has_lost(lost: Guest, lab: Lab, run_module: Runner, tmp_path: Path) -> None:
    """It saves a state that it cannot read itself, and takes the domain for shut off while its QEMU runs."""
    overlay, base = chain(lost, 'vda')
    note_pivot(lost)
    lab.kill_libvirtd(hold=True)
    pivot_unseen(lab, 'lost')
    status = lab.paths.run / 'libvirt' / 'qemu' / 'lost.xml'
    tree: Any = etree.parse(status)
    tree.find('.//mirror').set('job', '')
    tree.write(status)
    lab.release_libvirtd()
    lab.wait_libvirtd()
    assert lost.state == 'shutoff'
    lost.wait_acked(5, timeout=60)  # it writes on

    msg = run_module.fails('snapshot_merge', TASK)['msg']
    assert 'Another process has the image open' in msg
    assert 'libvirt has lost that' in msg
    time.sleep(0.1)  # what is written from now on is later than the overlay by any clock
    lost.wait_acked(5, timeout=60)

    acked = lost.acked()['vda']
    end_qemu(lost)
    msg = run_module.fails('snapshot_merge', TASK)['msg']
    assert 'which one the guest used last cannot be proved' in msg
    assert (chain(lost, 'vda', inactive=True)[0], Path(overlay).exists()) == (overlay, True)
    name_base(lost, ['vda'])
    prove(lost, 'vda', acked, tmp_path)

    [disk] = run_module('snapshot_merge', TASK)['domains'][0]['disks']

    assert (disk['state'], disk['removed'], disk['chain_after']) == ('merged', [overlay], [base])
    lost.start()
    ready(lost)
    prove(lost, 'vda', acked, tmp_path)


@pytest.mark.parametrize('how', ['same', 'newer', 'running'])
def test_a_pivot_that_never_came_to_be(how: str, lost: Guest, run_module: Runner, tmp_path: Path) -> None:
    """The domain ended after the task had said so: the images are the same, or the overlay is the newer one."""
    note_pivot(lost)
    overlay, base = chain(lost, 'vda')
    if how == 'same':
        lost.domain.suspend()  # QEMU copies what is left
        time.sleep(1)
    acked = lost.acked()['vda']
    lost.destroy()
    if how == 'newer':
        os.utime(overlay)
    if how == 'running':
        lost.start()
        ready(lost)
        acked = lost.acked()['vda']

    [disk] = run_module('snapshot_merge', TASK)['domains'][0]['disks']

    assert (disk['state'], disk['removed'], disk['chain_after']) == ('merged', [overlay], [base])
    assert journal(lost) is None
    prove(lost, 'vda', acked, tmp_path)


def test_a_definition_that_was_not_saved_in_time(lost: Guest, run_module: Runner) -> None:
    """libvirtd died between the live definition, which names the base, and the persistent one."""
    before = lost.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    overlay, base = chain(lost, 'vda')
    note_pivot(lost)
    lost.domain.blockJobAbort('vda', libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
    wait_idle(lost, 'vda')
    journal_now = lost.domain.metadata(2, JOURNALS[0], 0)
    lost.lab.connection.defineXML(before)
    lost.domain.setMetadata(2, journal_now, 'disksnap', JOURNALS[0], libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    assert chain(lost, 'vda') == [base]
    assert chain(lost, 'vda', inactive=True)[0] == overlay

    result = run_module('snapshot_merge', TASK)

    [disk] = result['domains'][0]['disks']
    assert (disk['state'], disk['removed'], disk['chain_after']) == ('merged', [overlay], [base])
    assert chain(lost, 'vda', inactive=True) == [base]
    assert any('persistent definition' in warning for warning in result['warnings'])
    lost.destroy()
    lost.start()
    ready(lost)
