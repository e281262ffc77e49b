# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A journal that was damaged by hand: it is read and can be worked with, or an error names the field."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import typing as t
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from ansible_collections.disksnap.libvirt.plugins.module_utils import (
    _journal,
    _lvm_snapshots,
    _records,
    _result,
    _settle,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._journal import from_xml, to_xml
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods import by_play
from ansible_collections.disksnap.libvirt.plugins.module_utils._methods.registry import method_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    BackupSource,
    DiskRecord,
    FreezeRecord,
    Journal,
    MergeRecord,
    Owner,
    QuiesceRecord,
    RevertRecord,
    SnapshotRecord,
    Volume,
)

DOMAIN: t.Any = SimpleNamespace(name='web', uuid='u', host=SimpleNamespace(local=True))
SETTLED = (_records.PRESENT, _records.REMOVING, _records.REVERTING)
ORIGINAL = '<disk type="file"><driver type="qcow2"/><source file="/i/a"/><target dev="vda"/></disk>'
DISK = DiskRecord(
    target='vda',
    method='qemu',
    method_xml='<diskSnapshot method="qemu"/>',
    original=ORIGINAL,
    modified_disk='<disk/>',
    backup_source=BackupSource(xml='<source/>', type='file', path='/a', format='raw'),
    volumes=[Volume(path='/b', name='b', format='qcow2', capacity=1)],
    backing=['/i/base'],
)
EVERYTHING = Journal(
    snapshots={
        'nightly': SnapshotRecord(
            name='nightly',
            state=_records.PRESENT,
            created_at='2026-03-01T02:00:00.123Z',
            group='g',
            description='two\nlines',
            consistency='filesystem',
            freeze=FreezeRecord(3, True, 48.3, 'module'),
            disks=[DISK],
        ),
        'weekly': SnapshotRecord(
            name='weekly',
            state=_records.REVERTING,
            created_at='2026-03-01T02:00:00.123Z',
            group='h',
            disks=[
                replace(
                    DISK,
                    target='vdb',
                    method='array',
                    method_xml='<diskSnapshot method="array"><volume serial="6001"/></diskSnapshot>',
                    original=ORIGINAL,
                    volumes=[],
                    identity='{"path": "/dev/mapper/a"}',
                ),
                replace(
                    DISK,
                    target='vdc',
                    method='lvm',
                    method_xml='<diskSnapshot method="lvm"><device path="/dev/vg/lv"/></diskSnapshot>',
                    original=ORIGINAL.replace('"file"', '"block"').replace('file=', 'dev='),
                    volumes=[Volume(path='/dev/vg/lv.weekly', name='lv.weekly', format='raw')],
                ),
            ],
            owner=Owner('host', 'boot', 77, 88),
            revert=RevertRecord(_records.RESTORING, 'running'),
            decide_by='2026-03-01T02:00:00.123Z',
        ),
    },
    quiesce=QuiesceRecord(
        _records.FROZEN,
        't',
        '2026-03-01T02:00:00.123Z',
        started_ns=1,
        boot_id=_records.boot_id(),
        max_frozen=10.0,
        watchdog_pid=77,
        watchdog_start=88,
    ),
    merges={'vda': MergeRecord('vda', 'commit', '/a', '/b', True, ['/b', '/a'], ['/b'])},
)
ODD = st.sampled_from(
    [
        *(
            '',
            ' ',
            '0',
            '-1',
            '1e999',
            'nan',
            'yes',
            'no',
            'present',
            'frozen',
            'running',
            'off',
            '/',
            '..',
            '{}',
            '[]',
        ),
        *('\xb2', '\u0663', '9' * 5000, '<a/>', '<disk/>', '<!DOCTYPE a><a/>', ORIGINAL, '/i/../x', 'qemu', 'vda'),
    ]
) | st.text(st.characters(exclude_categories=['Cs', 'Cc'], exclude_characters='\ufffe\uffff'), max_size=4)
BLOWS = st.lists(
    st.tuples(
        st.sampled_from(
            ['drop', 'twice', 'first', 'rename', 'foreign', 'text', 'child', 'cut', 'set', 'unset', 'shear']
        ),
        st.integers(0, 10**6),
        st.integers(0, 10**6),
        ODD,
    ),
    min_size=1,
    max_size=4,
)


def domain_with(text: str) -> t.Any:
    """A domain that has this as its journal."""
    return SimpleNamespace(name=lambda: 'web', metadata=lambda _kind, _uri, _flags: text)


@pytest.mark.parametrize(
    ('tag', 'named'),
    [('snapshot', 'name of <snapshot>'), ('merge', 'target of <merge>'), ('quiesce', 'state of <quiesce>')],
)
def test_what_stands_there_twice_is_damaged(tag: str, named: str) -> None:
    root = etree.fromstring(to_xml(EVERYTHING))
    root.append(copy.deepcopy(root.findall(tag)[0]))

    with pytest.raises(ValueError, match=re.escape(named) + '.* is there 2 times'):
        from_xml(etree.tostring(root, encoding='unicode'))


def strike(root: t.Any, how: str, where: int, which: int, odd: str) -> None:
    """Do to the document what a hand in an editor might."""
    elements = list(root.iter())
    element = elements[where % len(elements)]
    names = sorted(element.attrib)
    name = names[which % len(names)] if names else 'name'
    parent = element.getparent()
    if how == 'drop' and parent is not None:
        parent.remove(element)
    elif how == 'twice' and parent is not None:
        parent.append(copy.deepcopy(element))
    elif how == 'first' and parent is not None:
        parent.insert(0, element)
    elif how == 'rename':
        element.tag = elements[which % len(elements)].tag
    elif how == 'foreign':
        element.tag = f'{{urn:foreign}}{etree.QName(element).localname}'
    elif how == 'text':
        element.text = odd
    elif how == 'child':
        etree.SubElement(element, elements[which % len(elements)].tag)
    elif how == 'cut':
        element.text = (element.text or '')[: which % 20]
    elif how == 'set':
        element.set(name, odd)
    elif how == 'unset':
        element.attrib.pop(name, None)
    elif how == 'shear':
        element.set(name, element.get(name, '')[: which % 5])


def use(journal: Journal) -> None:
    """What is done with a journal before anything of the storage is looked at."""
    for record in journal.snapshots.values():
        _records.age(record.created_at)
        _settle.decided([journal])
        _settle._undecided(journal)
        _settle._ending(journal)
        json.dumps(_result.snapshot(DOMAIN, record), allow_nan=False)
        for disk in record.disks:
            for look in (_records.original_disk, _lvm_snapshots.place_of, lambda one: by_play.volume(DOMAIN, one, 'g')):
                with contextlib.suppress(DiskSnapError):
                    look(disk)
            with contextlib.suppress(DiskSnapError):
                method_of(disk.method)
            if disk.method == 'qemu' and record.state in SETTLED:
                assert disk.volumes[0].path.startswith('/')
    if journal.quiesce is not None:
        _records.end_quiesce(journal.quiesce, 'watchdog')
        json.dumps(vars(journal.quiesce), allow_nan=False)


@settings(max_examples=300)
@given(BLOWS)
def test_damaged_by_hand_it_is_a_journal_or_an_error_that_names_the_field(
    blows: list[tuple[str, int, int, str]],
) -> None:
    root = etree.fromstring(to_xml(EVERYTHING))
    for blow in blows:
        strike(root, *blow)
    text = etree.tostring(root, encoding='unicode')
    try:
        journal = _journal.load(domain_with(text))
    except DiskSnapError as error:
        message = str(error)
    else:
        use(journal)
        return

    assert message.startswith('Failed to read the journal (domain web): ')
    assert re.search(r'\S+ of <\S+>', message), message
