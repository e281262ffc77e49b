# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of the role and of the playbook audit, of real guests. What a browser makes of it: tests/browser."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lxml import etree, html

from ansible_collections.disksnap.libvirt.tests.live.harness import Guests, Runner, chain, put_back, ready, untouched
from ansible_collections.disksnap.libvirt.tests.live.playing import playbook, stat, this_machine
from disksnap_lab import DiskSpec, Guest, GuestSpec, Lab


@pytest.fixture(scope='module')
def made(shared: Guests) -> list[Guest]:
    found = [
        shared(GuestSpec('report-two', disks=[DiskSpec(), DiskSpec(format='raw')])),
        shared(GuestSpec('report-one', agent='none')),
        shared(GuestSpec('report-off', state='shutoff')),
    ]
    ready(*found)
    return found


@pytest.fixture
def guests(made: list[Guest]) -> Iterator[list[Guest]]:
    """Two that run, one of them without an agent, and one that is shut off."""
    yield made
    put_back(*made)


def read(path: Path) -> Any:
    return html.fromstring(path.read_text(encoding='utf-8'))


def words(node: Any) -> str:
    return ' '.join(' '.join(node.itertext()).split())


def guest(page: Any, name: str) -> Any:
    [found] = [one for one in page.xpath('//details[contains(@class, "guest")]') if one.findtext('summary/b') == name]
    return found


def test_a_snapshot_of_real_guests(guests: list[Guest], lab: Lab, tmp_path: Path) -> None:
    report = tmp_path / 'report.html'
    asked = {
        'fleet_snapshot_name': 'nightly',
        'fleet_snapshot_domains': [one.name for one in guests],
        'fleet_snapshot_consistency': 'host',
        'fleet_snapshot_report': str(report),
    }
    with untouched(lab, *guests):
        checked = playbook(lab, 'snapshot', tmp_path, asked, '--check')
    assert checked.returncode == 0, checked.stdout
    assert not report.exists()

    done = playbook(lab, 'snapshot', tmp_path, asked)
    assert done.returncode == 0, done.stdout
    result = stat(done, 'fleet_snapshot')['hv1']
    assert (result['failed'], result['msg']) == (False, '')
    page = read(report)
    assert page.findtext('.//h1').strip() == 'Snapshot nightly'
    head = words(page.find('.//header'))
    assert '3 guests on 1 host: 1 filesystem-consistent, 1 shut off, 1 crash-consistent.' in head
    assert 'All of them were taken at one instant.' in head
    assert words(page.get_element_by_id('problems')) == 'Problems None was found.'

    [row] = page.xpath('//div[@class="lane guest"]')
    window = next(one['freeze']['window_ms'] for one in result['domains'] if one['name'] == 'report-two')
    assert words(row).startswith('report-two ')
    assert f'{window:.0f} ms' in words(row) or f'{window / 1000:.2f} s' in words(row)

    two = guest(page, 'report-two')
    assert len(two.xpath('.//figure')) == 2
    for target in ('vda', 'vdb'):
        [drawing] = two.xpath(f'.//figure[figcaption/b = "{target}"]//svg')
        boxes = [one.text.partition('\n')[0] for one in drawing.iter('title')]
        assert boxes == list(reversed(chain(guests[0], target)))
        assert drawing.xpath('.//g[@class="active"]//text[@class="note"]')[0].text.startswith('nightly')
        assert re.search(r'qcow2, [\d.]+ [KM]iB of [\d.]+ MiB', words(drawing))
    assert words(two.find('.//table')).count('nightly') == 1

    again = playbook(lab, 'snapshot', tmp_path, asked)
    assert 'changed=0' in again.stdout
    gone = playbook(lab, 'merge', tmp_path, {**asked, 'fleet_snapshot_report': str(tmp_path / 'gone.html')})
    assert gone.returncode == 0, gone.stdout
    page = read(tmp_path / 'gone.html')
    assert page.findtext('.//h1') == 'Snapshot nightly removed'
    assert len(guest(page, 'report-two').xpath('.//svg//g')) == 2
    assert not page.xpath('//table')


def test_it_loads_and_runs_nothing(guests: list[Guest], lab: Lab, tmp_path: Path) -> None:
    asked = {'fleet_snapshot_report': 'report.html', 'fleet_snapshot_domains': [guests[0].name]}
    was = Path.cwd()
    os.chdir(tmp_path)  # what ansible-playbook is started in
    try:
        done = playbook(lab, 'audit', tmp_path, asked)
    finally:
        os.chdir(was)
    assert done.returncode == 0, done.stdout
    page = read(tmp_path / 'report.html')
    assert page.findtext('.//h1') == 'Audit'
    assert {one.tag for one in page.iter() if isinstance(one.tag, str)}.isdisjoint(
        {'script', 'link', 'img', 'iframe', 'object', 'embed', 'a', 'form', 'base'}
    )
    text = etree.tostring(page, encoding='unicode')
    assert not re.search(r'\b(src|href|on\w+)=|url\(|@import', text)


def test_what_is_wrong_comes_first(guests: list[Guest], lab: Lab, run_module: Runner, tmp_path: Path) -> None:
    two, _one, off = guests
    run_module('disk_snapshot', {'name': off.name, 'snapshot_name': 'lost'})
    [overlay] = [path for path in chain(off, 'vda') if 'lost' in path]
    kept = Path(overlay).read_bytes()
    os.unlink(overlay)
    try:
        report = tmp_path / 'audit.html'
        done = playbook(
            lab,
            'audit',
            tmp_path,
            {'fleet_snapshot_report': str(report), 'fleet_snapshot_domains': [two.name, off.name]},
        )
        page = read(report)
    finally:
        Path(overlay).write_bytes(kept)
    assert done.returncode == 0, done.stdout
    problems = stat(done, 'fleet_snapshot_audit')['hv1']
    assert 'missing_image' in [one['code'] for one in problems]
    shown = [words(one) for one in page.xpath('//article')]
    assert shown == [
        ' '.join(f'hv1 / {one["domain"]} / {one["disk"]} {one["code"]} {one["message"]} {one["remedy"]}'.split())
        for one in problems
    ]
    assert page.find('.//header').get('class') == 'bad'
    assert page.xpath('//details[contains(@class, "guest")]/summary/b/text()') == [off.name, two.name]
    assert 'missing_image' in words(guest(page, off.name).xpath('.//svg//g[@class="bad"]')[0])


def test_a_host_that_fails_and_one_that_is_lost(guests: list[Guest], lab: Lab, tmp_path: Path) -> None:
    report = tmp_path / 'report.html'
    asked = {
        'fleet_snapshot_name': 'partly',
        'fleet_snapshot_domains': [guests[0].name, 'nobody'],
        'fleet_snapshot_report': str(report),
    }
    nowhere = {'ansible_connection': 'ssh', 'ansible_host': '127.0.0.1', 'ansible_port': 1}
    done = playbook(lab, 'snapshot', tmp_path, asked, hosts={'hv1': this_machine(lab), 'lost': nowhere})
    assert done.returncode != 0
    page = read(report)
    shown = {one.findtext('h3'): words(one.find('p')) for one in page.xpath('//article')}
    assert set(shown) == {'hv1', 'lost'}
    assert 'nobody' in shown['hv1']
    assert 'could not be reached' in shown['lost']
    assert page.find('.//header').get('class') == 'bad'


def test_names_are_never_markup_nor_templates(lab: Lab, tmp_path: Path) -> None:
    name = '<b>{{ 7 * 7 }}&"'
    definition: Any = etree.Element('domain', type='qemu')
    for tag, text in (('name', name), ('memory', '65536')):
        etree.SubElement(definition, tag).text = text
    etree.SubElement(etree.SubElement(definition, 'os'), 'type', arch='x86_64', machine='q35').text = 'hvm'
    domain = lab.connection.defineXML(etree.tostring(definition, encoding='unicode'))
    report = tmp_path / 'report.html'
    try:
        done = playbook(lab, 'audit', tmp_path, {'fleet_snapshot_report': str(report)})
    finally:
        domain.undefine()
    assert done.returncode == 0, done.stdout
    assert guest(read(report), name) is not None
