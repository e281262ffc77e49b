# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt's own snapshots (virsh snapshot-create-as) and ours on the same domain: neither breaks the other."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from ansible_collections.disksnap.libvirt.tests.live.harness import (
    Guests,
    Runner,
    chain,
    copy_out,
    journal,
    put_back,
    ready,
    untouched,
)
from disksnap_lab import DiskSpec, Guest, GuestSpec, check_copy

OURS = {'name': 'web', 'snapshot_name': 'ours'}
GONE = {**OURS, 'state': 'absent'}
BACK = {**OURS, 'state': 'reverted', 'force': True}
EXTERNAL = '--disk-only'
# 9.0 does not, 11.3 does; which release was the first is not known
REFUSING = 11_003_000


def tried(guest: Guest, command: str, *words: str) -> subprocess.CompletedProcess[str]:
    """What became of a command of virsh."""
    argv = ['virsh', '-q', '-c', guest.lab.uri, command, guest.name, *words]
    return subprocess.run(argv, timeout=120, capture_output=True, text=True, check=False)


def virsh(guest: Guest, command: str, *words: str) -> str:
    """What virsh says; it must succeed."""
    done = tried(guest, command, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def theirs(guest: Guest) -> list[str]:
    """The names of libvirt's own snapshots."""
    return sorted(guest.domain.snapshotListNames(0))


@pytest.fixture(scope='module')
def one(shared: Guests) -> Guest:
    """Two qcow2 disks, as internal snapshots need it."""
    return shared(GuestSpec('web', disks=[DiskSpec(), DiskSpec()]))


@pytest.fixture
def web(one: Guest) -> Iterator[Guest]:
    """The guest as it was made; libvirt's snapshots go first, with all that they have made."""
    ready(one)
    yield one
    put_back(one)
    for snapshot in one.domain.listAllSnapshots(0):
        try:
            snapshot.delete(0)
        except libvirt.libvirtError:  # the layers that it names are gone
            snapshot.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)
    assert one.state == 'running'


def whole(guest: Guest, scratch: Path) -> None:
    """No record that a writer has acknowledged is missing, and the disks are of one layer."""
    acked = guest.wait_acked(2, timeout=60)
    guest.domain.fsFreeze(None, 0)
    try:
        for target, made in guest.disks.items():
            assert chain(guest, target) == [made.image]
            copy_out(made.image, 'qcow2', scratch / f'{target}.qcow2')
    finally:
        guest.domain.fsThaw(None, 0)
    for target in guest.disks:
        report = check_copy(scratch / f'{target}.qcow2', 'qcow2', 'ext4')
        assert report.clean
        assert not report.holes
        assert report.holds(acked[target])
    assert journal(guest) is None


def told(run_module: Runner) -> dict[str, Any]:
    """What disk_snapshot_info says of the guest."""
    [domain] = run_module('disk_snapshot_info', {'name': 'web'})['domains']
    return dict(domain)


def both_are_told(run_module: Runner) -> dict[str, Any]:
    """It shows both, and finds nothing wrong; our own entry."""
    domain = told(run_module)
    assert domain['problems'] == []
    found = {one['name']: one for one in domain['snapshots']}
    assert {name: one['made_by'] for name, one in found.items()} == {'ours': 'disksnap', 'theirs': 'libvirt'}
    return dict(found['ours'])


def refused(run_module: Runner, guest: Guest, task: dict[str, Any], *words: str, module: str = 'disk_snapshot') -> None:
    """In a sentence that has the words, in check mode too, and nothing has changed."""
    with untouched(guest.lab, guest):
        for check in (True, False):
            message = run_module.fails(module, task, check=check)['msg']
            for word in words:
                assert word in message


# -- external: an overlay as well ---------------------------------------------------------------------------------


def test_external_above_ours(web: Guest, run_module: Runner, tmp_path: Path) -> None:
    acked = web.acked()
    taken = run_module('disk_snapshot', OURS)['domains'][0]
    virsh(web, 'snapshot-create-as', 'theirs', EXTERNAL)
    ours = both_are_told(run_module)
    assert any('theirs' in needs for needs in ours['needed_by'])
    refused(run_module, web, GONE, "libvirt's own snapshot theirs", 'virsh snapshot-delete')
    refused(run_module, web, BACK, chain(web, 'vda')[0])

    for disk in taken['disks']:
        copy = copy_out(disk['backup_source']['path'], 'qcow2', tmp_path / 'copy.qcow2')
        assert check_copy(copy, 'qcow2', 'ext4').holds(acked[disk['target']])
    virsh(web, 'snapshot-delete', 'theirs')
    run_module('disk_snapshot', GONE)
    whole(web, tmp_path)


def test_external_above_ours_that_libvirt_is_told_to_forget(web: Guest, run_module: Runner, tmp_path: Path) -> None:
    run_module('disk_snapshot', OURS)
    virsh(web, 'snapshot-create-as', 'theirs', EXTERNAL)
    layers = {target: chain(web, target)[0] for target in web.disks}
    virsh(web, 'snapshot-delete', 'theirs', '--metadata')
    run_module('disk_snapshot', GONE)
    assert {target: chain(web, target) for target in web.disks} == {
        target: [layers[target], made.image] for target, made in web.disks.items()
    }
    for target, made in web.disks.items():
        ends = {'top': layers[target], 'base': made.image, 'disks': [{'target': target}]}
        assert run_module('snapshot_merge', {'name': 'web', **ends})['warnings'] == []
    whole(web, tmp_path)


def test_external_below_ours_goes_last(web: Guest, run_module: Runner, tmp_path: Path) -> None:
    virsh(web, 'snapshot-create-as', 'theirs', EXTERNAL)
    below = {target: chain(web, target) for target in web.disks}
    run_module('disk_snapshot', OURS)
    assert both_are_told(run_module)['needed_by'] == []
    run_module('disk_snapshot', BACK)
    ready(web)
    run_module('disk_snapshot', GONE)
    assert {target: chain(web, target) for target in web.disks} == below
    virsh(web, 'snapshot-delete', 'theirs')
    whole(web, tmp_path)


@pytest.mark.core
def test_external_below_ours_goes_first(web: Guest, run_module: Runner, tmp_path: Path) -> None:
    """libvirt 9.0 merges the image that is our snapshot into another one: it cannot be gone back to, and does no harm.

    libvirt 11.3 refuses until ours has gone.
    """
    virsh(web, 'snapshot-create-as', 'theirs', EXTERNAL)
    run_module('disk_snapshot', OURS)
    layers = chain(web, 'vda')
    merged = layers[1]
    deleted = tried(web, 'snapshot-delete', 'theirs')
    if web.domain.connect().getLibVersion() >= REFUSING:
        assert 'snapshot VM disk source and parent disk source are not the same' in deleted.stderr
        assert chain(web, 'vda') == layers
        run_module('disk_snapshot', GONE)
        virsh(web, 'snapshot-delete', 'theirs')
        whole(web, tmp_path)
        return
    assert deleted.returncode == 0, deleted.stderr
    assert theirs(web) == []
    assert {problem['code'] for problem in told(run_module)['problems']} == {'snapshot_lost'}
    refused(run_module, web, BACK, merged, web.disks['vda'].image)
    refused(run_module, web, OURS, merged, web.disks['vda'].image)
    run_module('disk_snapshot', GONE)
    whole(web, tmp_path)


def test_external_merged_by_its_ends(web: Guest, run_module: Runner, tmp_path: Path) -> None:
    """Whoever names its layers means it; libvirt's record of it is stale then, which is said."""
    virsh(web, 'snapshot-create-as', 'theirs', EXTERNAL)
    virsh(web, 'snapshot-create-as', 'newer', EXTERNAL)
    for target, made in web.disks.items():
        top = chain(web, target)[1]
        task = {'name': 'web', 'top': top, 'base': made.image, 'disks': [{'target': target}]}
        [warning] = run_module('snapshot_merge', task)['warnings']
        assert "libvirt's own snapshot newer" in warning
        assert 'virsh snapshot-delete --metadata' in warning
        task = {'name': 'web', 'top': chain(web, target)[0], 'base': made.image, 'disks': [{'target': target}]}
        run_module('snapshot_merge', task)
    whole(web, tmp_path)


# -- internal: within the image -----------------------------------------------------------------------------------


def test_internal_below_ours(web: Guest, run_module: Runner, tmp_path: Path) -> None:
    acked = web.acked()
    virsh(web, 'snapshot-create-as', 'theirs')
    run_module('disk_snapshot', OURS)
    assert both_are_told(run_module)['needed_by'] == []
    run_module('disk_snapshot', BACK)  # the image with their snapshot stays as it is
    ready(web)
    run_module('disk_snapshot', GONE)
    whole(web, tmp_path)
    virsh(web, 'snapshot-revert', 'theirs')
    ready(web)
    assert all(seq >= acked[target] for target, seq in web.acked().items())
    virsh(web, 'snapshot-delete', 'theirs')
    whole(web, tmp_path)


def test_internal_above_ours(web: Guest, run_module: Runner, tmp_path: Path) -> None:
    """It lies in our overlay, and would go with it."""
    run_module('disk_snapshot', OURS)
    virsh(web, 'snapshot-create-as', 'theirs')
    assert any('theirs' in needs for needs in both_are_told(run_module)['needed_by'])
    refused(run_module, web, GONE, "libvirt's own snapshot theirs", 'virsh snapshot-delete')
    refused(run_module, web, BACK, 'theirs', chain(web, 'vda')[0])
    ends = {'name': 'web', 'disks': [{'target': 'vda'}], 'top': chain(web, 'vda')[0], 'base': chain(web, 'vda')[1]}
    refused(run_module, web, ends, "libvirt's own snapshot theirs", module='snapshot_merge')
    virsh(web, 'snapshot-revert', 'theirs')  # and it is whole
    ready(web)
    virsh(web, 'snapshot-delete', 'theirs')
    run_module('disk_snapshot', GONE)
    whole(web, tmp_path)


def test_internal_that_libvirt_was_told_to_forget(web: Guest, run_module: Runner, tmp_path: Path) -> None:
    run_module('disk_snapshot', OURS)
    virsh(web, 'snapshot-create-as', 'theirs')
    virsh(web, 'snapshot-delete', 'theirs', '--metadata')
    [ours] = [one for one in told(run_module)['snapshots'] if one['name'] == 'ours']
    assert any('theirs' in needs for needs in ours['needed_by'])
    refused(run_module, web, GONE, 'theirs', chain(web, 'vda')[0], 'qemu-img snapshot -d')
    refused(run_module, web, BACK, 'theirs', chain(web, 'vda')[0])
    web.shutdown()
    for target in web.disks:
        argv = ['qemu-img', 'snapshot', '-d', 'theirs', web.source_file(target)]
        subprocess.run(argv, check=True, timeout=60, capture_output=True)
    run_module('disk_snapshot', GONE)
    web.start()
    ready(web)
    whole(web, tmp_path)


def test_virsh_goes_back_to_before_ours(web: Guest, run_module: Runner, tmp_path: Path) -> None:
    """The domain is as it was then, with an overlay of ours that nobody uses: it is named, and in nobody's way."""
    virsh(web, 'snapshot-create-as', 'theirs')
    run_module('disk_snapshot', OURS)
    overlays = [chain(web, target)[0] for target in web.disks]
    virsh(web, 'snapshot-revert', 'theirs')
    ready(web)
    problems = told(run_module)['problems']
    assert [(one['code'], one['path']) for one in problems] == [('orphaned_overlay', path) for path in overlays]
    assert run_module('disk_snapshot', GONE)['changed'] is False
    message = run_module.fails('disk_snapshot', OURS)['msg']
    assert overlays[0] in message
    for path in overlays:
        Path(path).unlink()
    run_module('disk_snapshot', OURS)
    both_are_told(run_module)
    run_module('disk_snapshot', GONE)
    whole(web, tmp_path)
