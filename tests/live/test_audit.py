# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook audit on a host of ten guests of every kind: it names what was damaged on purpose, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import pytest
from lxml import etree

from ansible_collections.disksnap.libvirt.tests.live.harness import Guests, Runner, chain, frozen, ready, until
from ansible_collections.disksnap.libvirt.tests.live.playing import playbook, stat
from disksnap_lab import DeviceSpec, DiskSpec, Guest, GuestSpec, Lab

QUIET: dict[str, Any] = {'writer': 'none'}


@dataclass
class Host:
    """Ten guests, by name."""

    lab: Lab
    guests: dict[str, Guest]

    def image(self, name: str, target: str = 'vda') -> str:
        """The image that a disk was made with."""
        return str(self.guests[name].disks[target].image)


def qemu_img(*words: str) -> None:
    subprocess.run(['qemu-img', *words], check=True, timeout=60, capture_output=True)


@pytest.fixture(scope='module')
def host(lab: Lab, shared: Guests, run_module: Runner) -> Iterator[Host]:
    """Guests in every state, with and without an agent, on files, volumes, devices and exports, by all who snapshot."""
    xfs = lab.filesystem('audit-xfs', 'xfs', size_mib=400)
    template = lab.paths.images / 'template.qcow2'
    shutil.copy(lab.base_disk(), template)
    specs = [
        GuestSpec('web', disks=[DiskSpec(), DiskSpec(format='raw')], devices=[DeviceSpec()], **QUIET),
        GuestSpec('db', disks=[DiskSpec(), DiskSpec()], **QUIET),
        GuestSpec('volumes', disks=[DiskSpec(kind='volume')], agent='silent', **QUIET),
        GuestSpec('device', disks=[DiskSpec(kind='block', format='raw')], agent='none', state='paused', **QUIET),
        GuestSpec('export', disks=[DiskSpec(kind='network', format='raw')], state='shutoff'),
        GuestSpec('clone', disks=[DiskSpec(format='raw')], directory=xfs, state='shutoff'),
        GuestSpec('cloud', disks=[DiskSpec(backing=template)], state='shutoff'),
        GuestSpec('virsh', state='shutoff'),
        GuestSpec('spare', disks=[DiskSpec(), DiskSpec()], state='shutoff'),
        GuestSpec('brief', persistent=False, agent='none', **QUIET),
    ]
    guests = {spec.name: shared(spec, wait=False) for spec in specs}
    ready(*guests.values())
    beside = [{'target': 'vda', 'file': str(lab.paths.images / 'device.nightly.qcow2')}]
    run_module('disk_snapshot', {'name': 'device', 'snapshot_name': 'nightly', 'method': 'qemu', 'disks': beside})
    for name in ('web', 'db', 'volumes', 'spare'):
        run_module('disk_snapshot', {'name': name, 'snapshot_name': 'nightly', 'method': 'qemu'})
    run_module('disk_snapshot', {'name': 'clone', 'snapshot_name': 'nightly', 'method': 'reflink'})
    guests['virsh'].domain.snapshotCreateXML('<domainsnapshot><name>mine</name></domainsnapshot>', 0)
    yield Host(lab, guests)
    shared.remove()
    for left in (template, Path(beside[0]['file'])):
        left.unlink(missing_ok=True)
    lab.remove_filesystem('audit-xfs')


def audit(host: Host, directory: Path, **variables: Any) -> tuple[list[dict[str, Any]], str]:
    """The problems that the playbook names, and what it printed."""
    done = playbook(host.lab, 'audit', directory, variables)
    assert done.returncode == 0, done.stdout + done.stderr
    # a test of another file that failed may have left a guest in this lab
    found = stat(done, 'fleet_snapshot_audit')['hv1']
    return [one for one in found if one['domain'] in (None, *host.guests)], done.stdout


def orphan(host: Host) -> str:
    """What a run of something else has left: an overlay over a layer of web that nobody uses."""
    path = f'{host.image("web")}.old'
    qemu_img('create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', host.image('web'), path)
    return path


def merge_behind_our_back(guest: Guest) -> str:
    """virsh blockcommit --active --pivot of a disk with a snapshot of ours."""
    overlay = chain(guest, 'vda')[0]
    guest.domain.blockCommit('vda', None, None, 0, libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE)
    until('the job is ready', lambda: "ready='yes'" in guest.domain.XMLDesc(0))
    guest.domain.blockJobAbort('vda', libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
    os.unlink(overlay)
    return overlay


def define_another_image(guest: Guest, target: str, path: str) -> None:
    root: Any = etree.fromstring(guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    [source] = [
        disk.find('source') for disk in root.iterfind('devices/disk') if disk.find('target').get('dev') == target
    ]
    source.set('file', path)
    guest.lab.connection.defineXML(etree.tostring(root, encoding='unicode'))


def test_seven_damages_and_nothing_else(host: Host, tmp_path: Path) -> None:
    whole, printed = audit(host, tmp_path)
    assert whole == []
    assert not any(f'{name} vda: ' in printed for name in host.guests)

    guests = host.guests
    template = f'{host.lab.paths.images}/template.qcow2'
    expected = {
        ('web', 'vda', 'definitions_differ', host.image('web')),
        ('web', None, 'orphaned_overlay', orphan(host)),
        ('db', 'vda', 'snapshot_lost', merge_behind_our_back(guests['db'])),
        ('db', None, 'frozen_guest', None),
        ('spare', 'vda', 'base_modified', host.image('spare')),
        ('spare', 'vdb', 'backing_format', host.image('spare', 'vdb')),
        ('cloud', 'vda', 'missing_backing', template),
    }
    define_another_image(guests['web'], 'vda', host.image('web'))
    subprocess.run(['qemu-io', '-c', 'write 0 64k', host.image('spare')], check=True, timeout=60, capture_output=True)
    qemu_img('rebase', '-u', '-F', 'raw', '-b', host.image('spare', 'vdb'), chain(guests['spare'], 'vdb')[0])
    os.unlink(template)
    guests['db'].domain.fsFreeze(None, 0)

    problems, printed = audit(host, tmp_path)
    assert {(one['domain'], one['disk'], one['code'], one['path']) for one in problems} == expected
    assert len(problems) == len(expected)
    for one in problems:
        assert one['text'] in printed.replace('\\"', '"')
        assert one['message'].endswith('.')
        assert one['remedy']
    assert frozen(guests['db'])

    watched = playbook(host.lab, 'audit', tmp_path, {'fleet_snapshot_audit_fail': True})
    assert watched.returncode == 2
    assert 'problems were found' in watched.stdout
    some, _printed = audit(host, tmp_path, fleet_snapshot_domains=['cloud', 'virsh'])
    assert [one['code'] for one in some] == ['missing_backing']
    guests['db'].domain.fsThaw(None, 0)
