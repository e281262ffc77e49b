# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The journal: what is written is read again, and what is damaged says where."""

from __future__ import annotations

import contextlib
import json
import os
import re
import typing as t
from dataclasses import replace
from types import SimpleNamespace
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.disksnap.libvirt.plugins.module_utils import _journal, _records
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._journal import from_xml, to_xml
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

STATES = [
    _records.PREPARING,
    _records.COMMITTING,
    _records.COMMITTED,
    _records.PRESENT,
    _records.REMOVING,
    _records.REVERTING,
]
# what XML can hold and reads back unchanged: libxml2 turns a carriage return into a newline, as the standard asks
CHARACTERS = st.characters(
    exclude_categories=['Cs'], exclude_characters=[*map(chr, range(32)), '\x7f', '\ufffe', '\uffff']
)
TEXT = st.text(CHARACTERS, min_size=1)
LINES = st.text(CHARACTERS | st.sampled_from('\n\t'))
MAYBE = st.none() | TEXT
COUNT = st.integers(0, 2**63)
MS = st.floats(0, 1e9)

# an absolute path, of which each part is something
PATH = st.lists(TEXT.filter(lambda part: '/' not in part and part not in ('.', '..')), min_size=1, max_size=3).map(
    lambda parts: '/' + '/'.join(parts)
)
NAME = st.from_regex(r'[A-Za-z0-9][A-Za-z0-9_.-]{0,9}', fullmatch=True)
THAWER = st.none() | st.sampled_from(['module', 'watchdog', 'guest'])

DISK_XML = LINES.map(lambda text: f'<disk>{escape(text)}</disk>')

VOLUMES = st.builds(Volume, path=PATH, name=TEXT, format=TEXT, pool=MAYBE, capacity=COUNT)
SOURCES = st.builds(BackupSource, xml=LINES, type=TEXT, path=MAYBE, format=MAYBE, pool=MAYBE, volume=MAYBE)
DISKS = st.builds(
    DiskRecord,
    target=TEXT,
    method=TEXT,
    method_xml=LINES,
    original=DISK_XML,
    modified_disk=st.none() | DISK_XML,
    backup_source=SOURCES,
    volumes=st.lists(VOLUMES, min_size=1, max_size=2),
    identity=st.none() | st.dictionaries(TEXT, TEXT, max_size=2).map(json.dumps),
)
FREEZES = st.builds(
    FreezeRecord,
    filesystems=COUNT,
    presynced=st.booleans(),
    window_ms=st.none() | MS,
    thawed_by=THAWER,
    frozen_at=st.none() | st.just('2026-03-01T02:00:00.123Z'),
)
OWNERS = st.builds(Owner, host=TEXT, boot_id=st.text(CHARACTERS), pid=COUNT, start=COUNT)
REVERTS = st.builds(
    RevertRecord,
    stage=st.sampled_from([_records.STOPPING, _records.RESTORING, _records.STARTING]),
    domain_state=st.sampled_from(['running', 'paused', 'off']),
    transient=st.booleans(),
    halted=st.booleans(),
)
SNAPSHOTS = st.builds(
    SnapshotRecord,
    name=NAME,
    state=st.sampled_from(STATES),
    created_at=TEXT,
    group=TEXT,
    description=st.none() | LINES,
    consistency=st.sampled_from(['filesystem', 'crash', 'offline']),
    freeze=st.none() | FREEZES,
    disks=st.lists(DISKS, max_size=2, unique_by=lambda one: one.target),
    owner=st.none() | OWNERS,
    revert=st.none() | REVERTS,
    pauses=st.booleans(),
    decide_by=st.none() | st.builds(_records.timestamp, ahead=st.floats(-1e9, 1e9)),
)
QUIESCES = st.builds(
    QuiesceRecord,
    state=st.sampled_from([_records.FREEZING, _records.FROZEN, _records.THAWED]),
    token=TEXT,
    frozen_at=st.text(CHARACTERS),
    filesystems=COUNT,
    presynced=st.booleans(),
    max_frozen=MS,
    started_ns=COUNT,
    boot_id=st.text(CHARACTERS),
    thawed_at=MAYBE,
    thawed_by=THAWER,
    window_ms=st.none() | MS,
    watchdog_host=st.text(CHARACTERS),
    watchdog_pid=COUNT,
    watchdog_start=COUNT,
)
MERGES = st.builds(
    MergeRecord,
    target=TEXT,
    direction=st.sampled_from(['commit', 'pull']),
    base=TEXT,
    top=TEXT,
    active=st.booleans(),
    chain_before=st.lists(TEXT, max_size=3),
    files=st.lists(TEXT, max_size=3),
)
JOURNALS = st.builds(
    Journal,
    snapshots=st.lists(SNAPSHOTS, max_size=3, unique_by=lambda one: one.name).map(lambda all: {s.name: s for s in all}),
    quiesce=st.none() | QUIESCES,
    merges=st.lists(MERGES, max_size=2, unique_by=lambda one: one.target).map(lambda all: {m.target: m for m in all}),
)

SNAPSHOT = SnapshotRecord(
    name='nightly',
    state=_records.PRESENT,
    created_at='2026-03-01T02:00:00.123Z',
    group='g',
    description='two\nlines & <b>',
    consistency='filesystem',
    freeze=FreezeRecord(3, True, 48.3, 'module'),
    disks=[
        DiskRecord(
            target='vda',
            method='qemu',
            method_xml='<diskSnapshot method="qemu"/>',
            original='<disk/>',
            modified_disk='<disk/>',
            backup_source=BackupSource(xml='<source/>', type='file', path='/a', format='raw'),
            volumes=[Volume(path='/b', name='b', format='qcow2', capacity=1)],
        )
    ],
)
WHOLE = to_xml(Journal(snapshots={'nightly': SNAPSHOT}))


@given(JOURNALS)
def test_reads_what_it_wrote(journal: Journal) -> None:
    assert from_xml(to_xml(journal)) == journal


def test_reads_what_libvirt_gives_back_under_its_namespace() -> None:
    text = WHOLE.replace('<journal ', f'<disksnap:journal xmlns:disksnap="{_journal.NAMESPACE}" ', 1)
    text = text.replace('</journal>', '</disksnap:journal>')

    with pytest.raises(ValueError, match='not known to this release'):
        from_xml(text)  # libvirt takes the prefix off in metadata(); the element with it is none of ours


@pytest.mark.parametrize(
    ('old', 'new', 'named'),
    [
        (' state="present"', '', 'state of <snapshot> is missing'),
        (' name="nightly"', '', 'name of <snapshot> is missing'),
        (' created-at="2026-03-01T02:00:00.123Z"', '', 'created_at of <snapshot> is missing'),
        ('capacity="1"', 'capacity="one"', 'capacity of <volumes>'),
        ('presynced="yes"', 'presynced="maybe"', 'presynced of <freeze>'),
        ('filesystems="3"', 'filesystems="3.5"', 'filesystems of <freeze>'),
        ('window-ms="48.3"', 'window-ms="long"', 'window_ms of <freeze>'),
        (' target="vda"', '', 'target of <disks> is missing'),
        ('<original>&lt;disk/&gt;</original>', '', 'original of <disks> is missing'),
        ('<xml>&lt;source/&gt;</xml>', '', 'xml of <backup_source> is missing'),
        ('version="1"', 'version="2"', "version '2' of"),
        (' name="nightly"', ' name="../etc"', 'name of <snapshot>'),
        (' state="present"', ' state="presnt"', "state of <snapshot>: 'presnt' is none of preparing"),
        (' consistency="filesystem"', ' consistency="full"', 'consistency of <snapshot>'),
        (' thawed-by="module"', ' thawed-by="nobody"', 'thawed_by of <freeze>'),
        ('filesystems="3"', 'filesystems="-3"', 'filesystems of <freeze>'),
        ('capacity="1"', f'capacity="{9 * 10**400}"', 'capacity of <volumes>'),
        ('window-ms="48.3"', 'window-ms="nan"', 'window_ms of <freeze>'),
        ('window-ms="48.3"', 'window-ms="inf"', 'window_ms of <freeze>'),
        (' path="/b"', ' path="b"', 'path of <volumes>'),
        (' path="/b"', ' path="images/b"', 'path of <volumes>'),
        (' target="vda"', ' target=""', 'target of <disks>'),
        (
            '<original>&lt;disk/&gt;</original>',
            '<original><disk/></original>',
            'original of <disks>: it has an element',
        ),
        ('<original>', '<original/><original>', 'original of <disks>: it is there 2 times'),
        ('<freeze ', '<freeze filesystems="1" presynced="no"/><freeze ', 'freeze of <snapshot>: it is there 2 times'),
        ('<original>&lt;disk/&gt;</original>', '<original/>', 'original of <disks>: it is not XML'),
        ('<original>&lt;disk/&gt;', '<original>&lt;domain/&gt;', 'original of <disks>: it is a <domain>'),
        ('<modified_disk>&lt;disk/&gt;', '<modified_disk>&lt;disk', 'modified_disk of <disks>: it is not XML'),
        ('<volumes', '<volume', 'volumes of <disks> is missing'),
        (' state="present"', ' state="present" decide-by="soon"', 'decide_by of <snapshot>'),
        ('</disks>', '<identity>[]</identity></disks>', 'identity of <disks>'),
        ('</disks>', '<identity>{</identity></disks>', 'identity of <disks>'),
        ('</journal>', '<quiesce state="frozn" token="t" frozen-at=""/></journal>', 'state of <quiesce>'),
        (
            '</journal>',
            '<merge target="vda" direction="up" base="" top="/b" active="no"/></journal>',
            'direction of <merge>',
        ),
        ('</journal>', '', 'journal'),
        ('<journal', '<!DOCTYPE journal><journal', 'DOCTYPE'),
    ],
)
def test_says_what_is_damaged(old: str, new: str, named: str) -> None:
    assert old in WHOLE

    with pytest.raises(ValueError, match=re.escape(named)):
        from_xml(WHOLE.replace(old, new, 1))


@given(st.text(max_size=200))
def test_any_text_is_a_journal_or_an_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(from_xml(text), Journal)


@given(st.data())
def test_any_cut_is_a_journal_or_an_error(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(WHOLE)))
    end = data.draw(st.integers(start, len(WHOLE)))
    with contextlib.suppress(ValueError):
        assert isinstance(from_xml(WHOLE[:start] + WHOLE[end:]), Journal)


def test_an_element_of_a_later_release_is_passed_over() -> None:
    assert from_xml(WHOLE.replace('</journal>', '<novelty/></journal>')) == from_xml(WHOLE)


def test_is_empty_only_without_anything() -> None:
    assert Journal().empty
    assert not Journal(snapshots={'nightly': SNAPSHOT}).empty
    assert not Journal(quiesce=QuiesceRecord(_records.FROZEN, 't', '')).empty
    assert not Journal(merges={'vda': MergeRecord('vda', 'commit', '/a', '/b', True)}).empty


@pytest.mark.parametrize(
    ('damage', 'named'),
    [
        ({'description': 'bell \a'}, 'description'),
        ({'group': '\0'}, 'snapshot/@group'),
        ({'merges': ['\udcff']}, 'chain_before'),
    ],
)
def test_refuses_what_xml_cannot_hold(damage: dict[str, t.Any], named: str) -> None:
    """Such a text must never get as far as the domain's metadata: the name of a file need not even be UTF-8."""
    chains = damage.pop('merges', [])
    journal = Journal(
        snapshots={
            's': SnapshotRecord(**{'name': 's', 'state': _records.PRESENT, 'created_at': '', 'group': '', **damage})
        },
        merges={'vda': MergeRecord('vda', 'commit', '/a', '/b', True, chain_before=chains)},
    )
    domain: t.Any = SimpleNamespace(name=lambda: 'web')

    with pytest.raises(DiskSnapError, match=re.escape(f'Failed to write {named} (domain web): ')):
        _journal.store(domain, journal)


@pytest.mark.parametrize('text', ['', '<disk>', '<domain/>', '<disk/>', '&', '<!DOCTYPE disk><disk/>'])
def test_an_original_that_is_no_disk_is_named(text: str) -> None:
    record = replace(SNAPSHOT.disks[0], original=text)

    with pytest.raises(DiskSnapError, match=r'Failed to read original of <disks> in the journal \(disk vda\)'):
        _records.original_disk(record)


def test_a_freeze_of_another_boot_has_no_window() -> None:
    record = QuiesceRecord(_records.FROZEN, 't', '', started_ns=1, boot_id='another')

    _records.end_quiesce(record, 'watchdog')

    assert (record.state, record.thawed_by, record.window_ms) == (_records.THAWED, 'watchdog', None)
    assert record.thawed_at is not None


def test_a_freeze_of_this_boot_has_one() -> None:
    record = QuiesceRecord(_records.FROZEN, 't', '', started_ns=1_000_000, boot_id=_records.boot_id())

    _records.end_quiesce(record, 'module', ended_ns=3_500_000)

    assert record.window_ms == 2.5


def test_a_process_that_has_ended_counts_as_gone() -> None:
    """Also while its parent has not asked how it ended."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        assert _records.process_start(child) == 0
    finally:
        os.waitpid(child, 0)
    assert _records.process_start(os.getpid()) > 0


# -- in the XML of a domain ---------------------------------------------------------------------------------------


def domain_with(*elements: str) -> str:
    return f'<domain><name>web</name><metadata><other xmlns="urn:x"/>{"".join(elements)}</metadata></domain>'


def spelt(text: str, namespace: str) -> str:
    """As libvirt shows it: every element in our namespace, each on a line of its own."""
    text = re.sub('<([a-z])', r'\n  <d:\1', text).replace('</', '</d:')
    return text.replace('<d:journal ', f'<d:journal xmlns:d="{namespace}" ', 1)


def test_a_journal_within_a_domain() -> None:
    journal = _journal.from_xml(WHOLE)
    journal.quiesce = _records.QuiesceRecord(_records.FROZEN, 'token', '2026-03-01T02:00:00.123Z')
    quiesce = _journal.to_xml(_records.Journal(quiesce=journal.quiesce))
    text = domain_with(spelt(WHOLE, _journal.NAMESPACE), spelt(quiesce, _journal.QUIESCE_NAMESPACE))
    assert _journal.within(text, 'web') == journal
    assert _journal.within(domain_with(), 'web').empty
    assert _journal.within('<domain><name>web</name></domain>', 'web').empty


@pytest.mark.parametrize('element', ['<d:journal xmlns:d="{}" version="0"/>', '<d:else xmlns:d="{}" version="1"/>'])
@pytest.mark.parametrize('namespace', [_journal.NAMESPACE, _journal.QUIESCE_NAMESPACE])
def test_a_damaged_journal_within_a_domain(element: str, namespace: str) -> None:
    with pytest.raises(DiskSnapError, match='not known to this release') as caught:
        _journal.within(domain_with(element.format(namespace)), 'web')
    assert namespace in (caught.value.hint or '')
    assert caught.value.domain == 'web'
