# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""disk_snapshot_info on real guests: what it shows, whoever made it, and each problem that it names."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
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
    put_back,
    ready,
    until,
    untouched,
)
from ansible_collections.disksnap.libvirt.tests.live.merging import CRAWL, fill
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab

EXTERNAL = (
    '<domainsnapshot><name>theirs</name><description>by hand</description>'
    '<disks><disk name="vda" snapshot="external"/><disk name="vdb" snapshot="no"/></disks></domainsnapshot>'
)


def qemu_img(*words: str) -> None:
    subprocess.run(['qemu-img', *words], check=True, timeout=60, capture_output=True)


@pytest.fixture(scope='module')
def running(shared: Guests) -> Guest:
    return shared(GuestSpec('info', disks=[DiskSpec(), DiskSpec(format='raw')]))


@pytest.fixture
def web(running: Guest) -> Iterator[Guest]:
    """A guest that runs, with a qcow2 and a raw disk; each test leaves one layer a disk."""
    yield running
    put_back(running)
    ready(running)


@pytest.fixture
def off(guest: Guests) -> Guest:
    """A guest that is shut off."""
    return guest(GuestSpec('info-off', disks=[DiskSpec(), DiskSpec()], state='shutoff'))


def told(run_module: Runner, guest: Guest, **options: Any) -> dict[str, Any]:
    """What the module says of one domain."""
    [domain] = run_module('disk_snapshot_info', {'name': guest.name, **options})['domains']
    return dict(domain)


def codes(run_module: Runner, guest: Guest) -> list[tuple[str, str | None, str | None]]:
    """Code, disk and snapshot of each problem of a domain."""
    return [(one['code'], one['disk'], one['snapshot']) for one in told(run_module, guest)['problems']]


def without_sizes(found: Any) -> Any:
    """What is told of a domain but for the bytes that its images take, which grow as its guest writes."""
    if isinstance(found, list):
        return [without_sizes(one) for one in found]
    if isinstance(found, dict):
        return {key: without_sizes(one) for key, one in found.items() if key not in ('allocation', 'merge_bytes')}
    return found


# -- what it shows ------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_a_snapshot_of_ours(web: Guest, lab: Lab, run_module: Runner) -> None:
    base = {target: chain(web, target)[0] for target in ('vda', 'vdb')}
    taken = run_module(
        'disk_snapshot', {'name': web.name, 'snapshot_name': 's1', 'description': 'before\n  the <update>'}
    )
    with untouched(lab, web):
        domain = told(run_module, web)
        assert without_sizes(told(run_module, web)) == without_sizes(domain)
    assert (domain['state'], domain['agent'], domain['frozen']) == ('running', True, False)
    assert (domain['jobs'], domain['problems']) == ([], [])
    [snapshot] = domain['snapshots']
    was = taken['domains'][0]
    for key in ('created_at', 'description', 'consistency', 'freeze'):
        assert snapshot[key] == was[key]
    assert (snapshot['name'], snapshot['made_by'], snapshot['state']) == ('s1', 'disksnap', 'present')
    assert snapshot['needed_by'] == []
    assert 0 < snapshot['allocation'] == snapshot['merge_bytes']
    for shown, disk in zip(snapshot['disks'], was['disks']):
        assert {key: shown[key] for key in disk} == disk
        assert shown['fault'] is None
    for disk in domain['disks']:
        top, below = disk['chain']
        assert (top['made_by'], top['snapshot'], top['format']) == ('disksnap', 's1', 'qcow2')
        assert (below['path'], below['made_by'], below['snapshot']) == (base[disk['target']], None, None)
        assert top['capacity'] == below['capacity'] > 0
        assert below['allocation'] == os.stat(below['path']).st_blocks * 512
        assert disk['path'] == top['path']
        assert disk['left_out'] is None


def test_one_disk_of_a_domain(web: Guest, run_module: Runner) -> None:
    run_module('disk_snapshot', {'name': web.name, 'snapshot_name': 's1', 'disks': [{'target': 'vda'}]})
    other = told(run_module, web, disks=[{'target': 'vdb'}])
    assert [disk['target'] for disk in other['disks']] == ['vdb']
    assert other['snapshots'] == []
    one = told(run_module, web, disks=[{'target': chain(web, 'vda')[0]}])
    assert [disk['target'] for disk in one['disks']] == ['vda']
    assert [snapshot['name'] for snapshot in one['snapshots']] == ['s1']
    error = run_module.fails('disk_snapshot_info', {'name': web.name, 'disks': [{'target': 'vdz'}]})
    assert 'vdz' in error['msg']


def test_the_whole_host_and_its_pools(web: Guest, off: Guest, lab: Lab, run_module: Runner) -> None:
    lab.pool('info-pool', Path(chain(off, 'vda')[0]).parent)
    try:
        host = run_module('disk_snapshot_info', {}, check=True)
    finally:
        lab.remove_pool('info-pool')
    assert [domain['name'] for domain in host['domains']] == sorted(domain['name'] for domain in host['domains'])
    by_name = {domain['name']: domain for domain in host['domains']}
    assert by_name['info-off']['state'] == 'off'
    layer = by_name['info-off']['disks'][0]['chain'][0]
    assert (layer['pool'], layer['volume']) == ('info-pool', 'info-off-vda.qcow2')
    [pool] = [pool for pool in host['pools'] if pool['name'] == 'info-pool']
    assert pool['capacity'] > pool['available'] > 0
    assert (host['changed'], host['problems']) == (False, [])


@pytest.mark.core
def test_snapshots_and_overlays_of_others(web: Guest, run_module: Runner) -> None:
    base = chain(web, 'vda')
    snapshot = web.domain.snapshotCreateXML(EXTERNAL, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY)
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
    web.domain.snapshotCreateXML(EXTERNAL.replace('theirs', 'silent'), flags)
    run_module('disk_snapshot', {'name': web.name, 'snapshot_name': 'ours', 'disks': [{'target': 'vda'}]})
    domain = told(run_module, web)
    assert domain['problems'] == []
    assert [(layer['made_by'], layer['snapshot']) for layer in domain['disks'][0]['chain']] == [
        ('disksnap', 'ours'),
        ('other', None),
        ('libvirt', 'theirs'),
        (None, None),
    ]
    theirs, ours = domain['snapshots']
    assert (theirs['name'], theirs['made_by'], theirs['state']) == ('theirs', 'libvirt', None)
    assert theirs['description'] == 'by hand'
    assert theirs['created_at'] <= ours['created_at']
    assert [(disk['target'], disk['method']) for disk in theirs['disks']] == [('vda', 'external')]
    assert theirs['disks'][0]['volumes'][0]['path'] == chain(web, 'vda')[-2]
    assert chain(web, 'vda')[-1:] == base
    snapshot.delete(libvirt.VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY)


@pytest.mark.core
def test_snapshots_within_an_image(off: Guest, run_module: Runner) -> None:
    off.domain.snapshotCreateXML('<domainsnapshot><name>known</name></domainsnapshot>', 0)
    for name in ('unknown', 'né à la main'):
        qemu_img('snapshot', '-c', name, chain(off, 'vdb')[0])
    domain = told(run_module, off)
    found = {one['name']: (one['made_by'], [disk['target'] for disk in one['disks']]) for one in domain['snapshots']}
    assert found == {
        'known': ('libvirt', ['vda', 'vdb']),
        'unknown': ('other', ['vdb']),
        'né à la main': ('other', ['vdb']),
    }
    assert domain['problems'] == []


def test_a_layer_that_others_need(web: Guest, guest: Guests, run_module: Runner) -> None:
    run_module('disk_snapshot', {'name': web.name, 'snapshot_name': 's1', 'disks': [{'target': 'vda'}]})
    base = chain(web, 'vda')[1]
    guest(GuestSpec('info-clone', disks=[DiskSpec(backing=Path(base))], state='shutoff'))
    domain = told(run_module, web)
    assert f'The domain info-clone uses {base}.' in domain['snapshots'][0]['needed_by']
    assert domain['problems'] == []


# -- problems -----------------------------------------------------------------------------------------------------


def test_the_base_of_a_snapshot_stays_trusted(web: Guest, run_module: Runner) -> None:
    """A guest that stops, starts, and has layers merged below and above leaves no suspicion."""
    for name in ('s0', 's1', 's2', 's3'):
        run_module('disk_snapshot', {'name': web.name, 'snapshot_name': name})
    # the header of the layer above, on which another one stands, is written when the one below it goes
    run_module('disk_snapshot', {'name': web.name, 'snapshot_name': 's0', 'state': 'absent'})
    assert codes(run_module, web) == []
    run_module('disk_snapshot', {'name': web.name, 'snapshot_name': 's2', 'state': 'absent'})
    assert codes(run_module, web) == []
    web.shutdown()
    assert codes(run_module, web) == []
    run_module('disk_snapshot', {'name': web.name, 'snapshot_name': 's4'})
    run_module('disk_snapshot', {'name': web.name, 'snapshot_name': 's1', 'state': 'absent'})
    assert codes(run_module, web) == []
    web.start()
    ready(web)
    web.wait_acked(5)
    assert codes(run_module, web) == []
    # the stamp is there: a write is found out
    base = chain(web, 'vdb')[1]
    web.destroy()
    with open(base, 'r+b') as handle:
        handle.seek(4096)
        handle.write(b'\0')
    assert codes(run_module, web) == [('base_modified', 'vdb', 's4')]
    web.start()
    ready(web)


@pytest.mark.core
def test_a_job_of_someone_else(web: Guest, run_module: Runner) -> None:
    run_module('disk_snapshot', {'name': web.name, 'snapshot_name': 's1', 'disks': [{'target': 'vda'}]})
    web.domain.blockCommit('vda', None, None, 0, libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE)
    until('the job is ready', lambda: told(run_module, web)['jobs'][0]['ready'])
    domain = told(run_module, web)
    [job] = domain['jobs']
    assert (job['target'], job['kind'], job['made_by']) == ('vda', 'active-commit', 'other')
    assert [one['code'] for one in domain['problems']] == ['unfinished_job']
    assert domain['snapshots'][0]['needed_by'] == ['A block job (active-commit) runs on disk vda.']
    web.domain.blockJobAbort('vda', 0)
    until('the job has ended', lambda: not web.domain.blockJobInfo('vda', 0))
    # it has written into the image that is the snapshot
    assert codes(run_module, web) == [('base_modified', 'vda', 's1')]


def test_a_merge_that_nobody_ends(web: Guest, run_module: Runner) -> None:
    run_module('disk_snapshot', {'name': web.name, 'snapshot_name': 's1', 'disks': [{'target': 'vda'}]})
    fill(web, 'vda')
    task = {'name': web.name, 'snapshot_name': 's1'}
    run_module('snapshot_merge', {**task, 'wait': False, 'bandwidth': CRAWL})
    domain = told(run_module, web)
    assert [(job['target'], job['made_by']) for job in domain['jobs']] == [('vda', 'disksnap')]
    assert [(one['code'], one['disk']) for one in domain['problems']] == [('unfinished_merge', 'vda')]
    run_module('snapshot_merge', {**task, 'bandwidth': '0'})
    assert codes(run_module, web) == []


def test_a_run_that_is_at_work(web: Guest, run_module: Runner) -> None:
    """Nothing is said of what it is about to end."""
    run_module('disk_snapshot', {'name': web.name, 'snapshot_name': 's1', 'disks': [{'target': 'vda'}]})
    fill(web, 'vda')
    task = {'name': web.name, 'snapshot_name': 's1', 'bandwidth': CRAWL}
    merge = run_module.start('snapshot_merge', task)
    until('the job runs', lambda: web.domain.blockJobInfo('vda', 0))
    result = run_module('disk_snapshot_info', {'name': web.name})
    assert result['domains'][0]['problems'] == []
    assert 'Another run is at work on the domain info' in result['warnings'][0]
    assert 'Another run is at work on the domain.' in result['domains'][0]['snapshots'][0]['needed_by']
    merge.kill()
    assert codes(run_module, web) == [('unfinished_merge', 'vda', None)]
    run_module('snapshot_merge', {**task, 'bandwidth': '0'})


def test_a_journal_that_cannot_be_read(web: Guest, run_module: Runner) -> None:
    run_module('disk_snapshot', {'name': web.name, 'snapshot_name': 's1', 'disks': [{'target': 'vda'}]})
    flags = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
    kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
    text = web.domain.metadata(kind, JOURNALS[0], 0)
    web.domain.setMetadata(kind, '<journal version="7"/>', 'disksnap', JOURNALS[0], flags)
    assert codes(run_module, web) == [('journal_damaged', None, None)]
    web.domain.setMetadata(kind, text, 'disksnap', JOURNALS[0], libvirt.VIR_DOMAIN_AFFECT_LIVE)
    assert codes(run_module, web) == [('journals_differ', None, None)]
    web.domain.setMetadata(kind, text, 'disksnap', JOURNALS[0], flags)
    assert codes(run_module, web) == []


def test_an_overlay_out_of_its_chain(off: Guest, run_module: Runner) -> None:
    run_module('disk_snapshot', {'name': off.name, 'snapshot_name': 's1'})
    overlay = chain(off, 'vda')[0]
    base = off.disks['vda'].image
    define(off, 'vda', base)
    assert codes(run_module, off) == [('snapshot_unused', 'vda', 's1')]
    os.unlink(overlay)
    assert codes(run_module, off) == [('snapshot_lost', 'vda', 's1')]
    run_module('disk_snapshot', {'name': off.name, 'snapshot_name': 's1', 'state': 'absent'})
    assert codes(run_module, off) == []


def define(guest: Guest, target: str, path: str, kind: str = 'qcow2') -> None:
    """Give a domain that is shut off another image for a disk."""
    root: Any = etree.fromstring(guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    for disk in root.iterfind('devices/disk'):
        if disk.find('target').get('dev') == target:
            disk.find('source').set('file', path)
            disk.find('driver').set('type', kind)
            for below in disk.findall('backingStore'):
                disk.remove(below)
    guest.lab.connection.defineXML(etree.tostring(root, encoding='unicode'))


def test_an_overlay_that_stands_on_another_image(off: Guest, run_module: Runner) -> None:
    run_module('disk_snapshot', {'name': off.name, 'snapshot_name': 's1', 'disks': [{'target': 'vda'}]})
    overlay, base = chain(off, 'vda')[0], off.disks['vda'].image
    subprocess.run(['cp', base, f'{base}.copy'], check=True, timeout=60)
    qemu_img('rebase', '-u', '-F', 'qcow2', '-b', f'{base}.copy', overlay)
    assert codes(run_module, off) == [('snapshot_lost', 'vda', 's1')]


def test_images_that_are_not_what_they_should_be(off: Guest, run_module: Runner) -> None:
    vda, vdb = (off.disks[target].image for target in ('vda', 'vdb'))
    define(off, 'vda', vda, 'raw')
    os.unlink(vdb)
    assert codes(run_module, off) == [('missing_image', 'vdb', None), ('image_format', 'vda', None)]


def test_a_chain_that_backs_itself(off: Guest, run_module: Runner) -> None:
    vda, vdb = (off.disks[target].image for target in ('vda', 'vdb'))
    for one, other in ((vda, vdb), (vdb, vda)):
        qemu_img('rebase', '-u', '-F', 'qcow2', '-b', other, one)
    assert codes(run_module, off) == [('broken_chain', 'vda', None), ('broken_chain', 'vdb', None)]


def test_a_base_that_another_domain_writes_to(web: Guest, guest: Guests, run_module: Runner) -> None:
    image = chain(web, 'vda')[0]
    clone = guest(GuestSpec('info-clone', disks=[DiskSpec(backing=Path(image))], state='shutoff'))
    assert codes(run_module, clone) == [('base_written', 'vda', None)]
    assert codes(run_module, web) == []


def test_a_chain_that_is_not_what_the_header_says(web: Guest, run_module: Runner) -> None:
    run_module('disk_snapshot', {'name': web.name, 'snapshot_name': 's1', 'disks': [{'target': 'vda'}]})
    overlay, base = chain(web, 'vda')
    other = base.replace('info-vda', 'info-old')
    subprocess.run(['cp', base, other], check=True, timeout=60)
    rename_backing(overlay, base, other)
    assert codes(run_module, web) == [('backing_differs', 'vda', None)]
    rename_backing(overlay, other, base)
    os.unlink(other)
    assert codes(run_module, web) == []


def rename_backing(overlay: str, old: str, new: str) -> None:
    """Write another name, as long as the old one, into the header of an image that is in use."""
    with open(overlay, 'r+b') as handle:
        start = handle.read(65536).index(old.encode())
        handle.seek(start)
        handle.write(new.encode())


def test_a_run_that_died_before_its_commit(web: Guest, run_module: Runner) -> None:
    take = run_module.start('disk_snapshot', {'name': web.name, 'snapshot_name': 's1', 'max_frozen': 5})
    until('the snapshot is prepared', lambda: 's1' in journal_of(web))
    os.kill(take.pid, signal.SIGKILL)
    take.kill()
    until('the watchdog has ended', lambda: told(run_module, web)['frozen'] is False)
    state = [one['state'] for one in told(run_module, web)['snapshots']]
    if state == ['present']:
        pytest.fail('the run had ended before it could be killed')
    assert codes(run_module, web) == [('unfinished_snapshot', None, 's1')]


def journal_of(guest: Guest) -> str:
    return str(guest.domain.XMLDesc(0))


@pytest.fixture(params=['xfs', 'btrfs'])
def copied(request: pytest.FixtureRequest, lab: Lab, guest: Guests) -> Iterator[tuple[str, Guest]]:
    """A guest that is shut off, on a file system whose files share blocks, and the method for it."""
    fs: str = request.param
    directory = lab.filesystem('info-fs', fs, size_mib=400)
    place = directory
    if fs == 'btrfs':
        place = directory / 'vms'
        subprocess.run(['btrfs', '-q', 'subvolume', 'create', place], check=True, timeout=60, capture_output=True)
    made = guest(GuestSpec('info-copy', disks=[DiskSpec(format='raw')], directory=place, state='shutoff'))
    yield 'btrfs' if fs == 'btrfs' else 'reflink', made
    guest.remove()
    lab.remove_filesystem('info-fs')


def test_copies_that_are_lost_and_those_that_nobody_knows(copied: tuple[str, Guest], run_module: Runner) -> None:
    method, web = copied
    for name in ('s1', 's2'):
        run_module('disk_snapshot', {'name': web.name, 'snapshot_name': name, 'method': method})
    domain = told(run_module, web)
    assert domain['problems'] == []
    first, second = domain['snapshots']
    assert first['merge_bytes'] == 0
    assert first['allocation'] > 0
    # the journal forgets both, and one is deleted behind its back
    kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
    text = web.domain.metadata(kind, JOURNALS[0], 0)
    web.domain.setMetadata(kind, None, 'disksnap', JOURNALS[0], libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    volumes = {one['disks'][0]['volumes'][0]['path'] for one in (first, second)}
    found = told(run_module, web)['problems']
    assert {(one['code'], one['path']) for one in found} == {('orphaned_copy', path) for path in volumes}
    web.domain.setMetadata(kind, text, 'disksnap', JOURNALS[0], libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    gone = second['disks'][0]['volumes'][0]['path']
    argv = ['btrfs', '-q', 'subvolume', 'delete', gone] if method == 'btrfs' else ['rm', '-f', gone]
    subprocess.run(argv, check=True, timeout=60, capture_output=True)
    domain = told(run_module, web)
    assert [(one['code'], one['snapshot']) for one in domain['problems']] == [('snapshot_unusable', 's2')]
    assert domain['snapshots'][1]['disks'][0]['fault']
    for name in ('s1', 's2'):
        run_module('disk_snapshot', {'name': web.name, 'snapshot_name': name, 'state': 'absent'})
    assert codes(run_module, web) == []
