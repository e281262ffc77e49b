# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import pathlib
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import (
    TAKES,
    Method,
    from_options,
    from_xml,
    resolve,
    to_element,
    to_xml,
    validate_snapshot_name,
    volume_of,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.schema import DISK_SNAPSHOT_RNG, schema

ROOT = pathlib.Path(__file__).resolve().parents[5]

FORMS = [
    (Method('qemu'), '<diskSnapshot method="qemu"/>'),
    (
        Method('qemu', pool='images', file='db1.nightly.qcow2'),
        '<diskSnapshot method="qemu"><target pool="images" file="db1.nightly.qcow2"/></diskSnapshot>',
    ),
    (Method('reflink', pool='images'), '<diskSnapshot method="reflink"><target pool="images"/></diskSnapshot>'),
    (Method('btrfs', file='/srv/n'), '<diskSnapshot method="btrfs"><target file="/srv/n"/></diskSnapshot>'),
    (
        Method('lvm', device='/dev/vg/lv4', size='20%ORIGIN'),
        '<diskSnapshot method="lvm"><device path="/dev/vg/lv4"/><size unit="%ORIGIN">20</size></diskSnapshot>',
    ),
    (
        Method('array', volume='<volume array="a1" serial="6001"/>'),
        '<diskSnapshot method="array"><volume array="a1" serial="6001"/></diskSnapshot>',
    ),
    (
        Method('array', volume='<volume><of xmlns="urn:a" n="1">x<y/></of></volume>'),
        '<diskSnapshot method="array"><volume><of xmlns="urn:a" n="1">x<y/></of></volume></diskSnapshot>',
    ),
    (Method('lvm', size='2G'), '<diskSnapshot method="lvm"><size unit="G">2</size></diskSnapshot>'),
]

name_text = st.text(min_size=1, max_size=300)
path_text = st.one_of(name_text, name_text.map(lambda name: '/' + name), st.just('/dev/vg/lv4'))
size_text = st.one_of(
    st.builds('{}{}'.format, st.integers(0, 10**13), st.sampled_from(['', 'K', 'm', 'G', 'T', 'p', '%ORIGIN', 'X'])),
    st.text(max_size=5),
)
PART = {
    'device': path_text,
    'pool': name_text,
    'file': path_text,
    'size': size_text,
    'volume': st.dictionaries(st.one_of(st.text(max_size=5), st.sampled_from(['id', 'array'])), st.text(max_size=9)),
}
entries = st.sampled_from(sorted(TAKES)).flatmap(
    lambda name: st.fixed_dictionaries(
        {'method': st.just(name)}, optional={key: st.none() | PART[key] for key in TAKES[name]}
    )
)


def test_published_schema_is_ours() -> None:
    published = ROOT / 'docs' / 'docsite' / 'schemas' / 'disksnapshot.rng'
    assert published.read_text(encoding='utf-8') == DISK_SNAPSHOT_RNG


def test_schema_knows_the_methods_of_takes() -> None:
    rng = etree.fromstring(DISK_SNAPSHOT_RNG.encode())
    names = rng.xpath("//*[local-name()='attribute'][@name='method']/*[local-name()='value']/text()")
    assert names == list(TAKES)


@pytest.mark.parametrize(('method', 'text'), FORMS)
def test_both_ways(method: Method, text: str) -> None:
    assert to_xml(method) == text
    assert from_xml(text) == method
    assert from_options({'method_xml': text, 'method': None, 'file': None}, 'auto') == method
    assert schema().validate(to_element(method))


def test_order_and_white_space_do_not_matter() -> None:
    inside = "\n <size unit='G'>2</size><!-- c -->\n <device path='/d/a'/>\n"
    text = f"<?xml version='1.0'?>\n<diskSnapshot method='lvm'>{inside}</diskSnapshot>\n"
    assert from_xml(text) == Method('lvm', device='/d/a', size='2G')


@given(entries)
def test_options_to_xml_and_back(entry: dict[str, t.Any]) -> None:
    try:
        method = from_options(entry, 'auto')
    except DiskSnapError:
        return
    assert schema().validate(to_element(method))
    assert from_xml(to_xml(method)) == method
    assert to_xml(from_xml(to_xml(method))) == to_xml(method)


def test_most_of_the_strategy_is_accepted() -> None:
    """What the property above rests on: plain values of each method get through."""
    text = {'device': '/dev/vg/\xe9 x', 'pool': 'p\U0001f4be', 'file': '&<"\'>', 'size': '999999999999p'}
    plain: dict[str, t.Any] = {**text, 'volume': {'id': '&<"\'>', 'lun': 7}}
    for name, taken in TAKES.items():
        method = from_options({'method': name, **{key: plain[key] for key in taken}}, 'auto')
        assert from_xml(to_xml(method)) == method


@pytest.mark.parametrize(
    ('entry', 'why'),
    [
        ({}, 'needs volume'),
        ({'volume': {}}, 'must be a dictionary'),
        ({'volume': {'a b': '1'}}, 'not a plain name'),
        ({'volume': {'{urn:x}a': '1'}}, 'not a plain name'),
        ({'volume': {'id': ['1']}}, 'not a plain value'),
        ({'volume': {'id': '\x01'}}, 'cannot hold'),
        ({'volume': {'id': '1'}, 'size': '2G'}, 'takes no size'),
    ],
)
def test_a_volume_of_an_array_is_identified(entry: dict[str, t.Any], why: str) -> None:
    with pytest.raises(DiskSnapError, match=why):
        from_options({'target': 'vda', 'method': 'array', **entry}, 'auto')


def test_the_identity_of_a_volume() -> None:
    method = from_options({'method': 'array', 'volume': {'id': 7, 'group': 'db'}}, 'auto')
    assert volume_of(to_xml(method)) == {'id': '7', 'group': 'db'}
    assert volume_of('<diskSnapshot method="qemu"/>') == {}


@given(st.text(), st.sampled_from(['', "<diskSnapshot method='qemu'>", "<diskSnapshot method='lvm'><size unit='G'>"]))
def test_garbage_is_never_another_error(text: str, before: str) -> None:
    for document in (text, before + text, before + text + '</diskSnapshot>', before + text + '</size></diskSnapshot>'):
        with contextlib.suppress(DiskSnapError):
            from_xml(document)


tags = st.sampled_from(['diskSnapshot', 'target', 'device', 'size', 'x'])
attributes = st.dictionaries(
    st.sampled_from(['method', 'pool', 'file', 'path', 'unit', 'y']),
    st.sampled_from(['qemu', 'lvm', 'btrfs', 'reflink', 'auto', '/a', 'a', 'a/', '', 'G', '%ORIGIN']),
    max_size=3,
)


def _element(tag: str, attribute: dict[str, str], text: str, children: list[etree._Element]) -> etree._Element:
    element = etree.Element(tag, attribute)
    element.text = text
    element.extend(children)
    return element


trees = st.recursive(
    st.builds(_element, tags, attributes, st.sampled_from(['', '2', ' ', 'x']), st.just([])),
    lambda inner: st.builds(
        _element, st.just('diskSnapshot'), attributes, st.sampled_from(['', 'x']), st.lists(inner, max_size=3)
    ),
    max_leaves=5,
)


@given(trees)
def test_what_is_read_fits_the_schema_and_says_the_same(tree: etree._Element) -> None:
    try:
        method = from_xml(etree.tostring(tree, encoding='unicode'))
    except DiskSnapError:
        return
    assert schema().validate(tree)
    assert from_xml(to_xml(method)) == method


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('', 'not XML'),
        ('<disk/>', 'root is <disk> and must be <diskSnapshot>'),
        ('<diskSnapshot/>', 'must name one of qemu, lvm, btrfs, reflink'),
        ("<diskSnapshot method='auto'/>", 'must name one of qemu, lvm, btrfs, reflink'),
        ("<diskSnapshot method='zfs'/>", "no method 'zfs', only qemu, lvm, btrfs, reflink"),
        (
            "<diskSnapshot method='lvm'><target file='a'/></diskSnapshot>",
            'lvm takes no file; those that do: qemu, btrfs',
        ),
        ("<diskSnapshot method='lvm'><size>2</size></diskSnapshot>", "size '2' must be a whole number with a unit"),
        ("<diskSnapshot method='qemu'><target/></diskSnapshot>", 'In full the method qemu reads <diskSnapshot'),
        ("<diskSnapshot method='qemu'><targt file='a'/></diskSnapshot>", 'Did not expect element targt there'),
        ("<diskSnapshot method='qemu' mode='1'/>", 'Invalid attribute mode'),
        ("<diskSnapshot method='lvm'><size>20%ORIGIN</size></diskSnapshot>", '<size unit="%ORIGIN">20</size>'),
        ("<diskSnapshot method='qemu'>" + ' ' * 16384 + '</diskSnapshot>', 'at most 16384'),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><diskSnapshot method='qemu'/>", 'DOCTYPE'),
    ],
)
def test_errors_name_the_option_and_the_fault(text: str, words: str) -> None:
    with pytest.raises(DiskSnapError) as caught:
        from_xml(text, disk='vda')
    assert str(caught.value).startswith('Failed to read method_xml (disk vda): ')
    assert words in str(caught.value)


ENTITIES = ''.join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
HOSTILE = {
    'a DTD': '<!DOCTYPE diskSnapshot SYSTEM "{url}"><diskSnapshot method="qemu"/>',
    'an external entity': '<!DOCTYPE d [<!ENTITY e SYSTEM "{url}">]><diskSnapshot method="qemu">&e;</diskSnapshot>',
    'a parameter entity': '<!DOCTYPE d [<!ENTITY % e SYSTEM "{url}"> %e;]><diskSnapshot method="qemu"/>',
    'a billion laughs': '<!DOCTYPE d [<!ENTITY e0 "ha">' + ENTITIES + ']><diskSnapshot method="&e9;"/>',
    'a DTD behind a comment': '<?x y?>\n<!-- <a> -->\n<!DOCTYPE d><diskSnapshot method="qemu"/>',
    'an entity of nowhere': '<diskSnapshot method="qemu"><target file="&e;"/></diskSnapshot>',
    'an inclusion': '<diskSnapshot method="qemu"><x:include xmlns:x="http://www.w3.org/2001/XInclude" href="{url}"/>'
    '</diskSnapshot>',
    'a depth without end': '<diskSnapshot method="array"><volume>' + '<a>' * 5000 + '</volume></diskSnapshot>',
    'a depth': '<diskSnapshot method="array"><volume>' + '<a>' * 1500 + '</a>' * 1500 + '</volume></diskSnapshot>',
    'a length': '<diskSnapshot method="array"><volume id="' + 'x' * 16384 + '"/></diskSnapshot>',
}


@pytest.mark.parametrize('text', HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_document_is_refused_and_loads_nothing(text: str, tmp_path: pathlib.Path) -> None:
    secret = tmp_path / 'secret'
    secret.write_text('hush', encoding='utf-8')

    with pytest.raises(DiskSnapError) as caught:
        from_options({'target': 'vda', 'method_xml': text.replace('{url}', secret.as_uri())}, 'auto')

    assert str(caught.value).startswith('Failed to read method_xml (disk vda): ')
    assert 'hush' not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_what_a_volume_would_include_is_data(tmp_path: pathlib.Path) -> None:
    secret = tmp_path / 'secret'
    secret.write_text('<hush/>', encoding='utf-8')
    include = f'<x:include xmlns:x="http://www.w3.org/2001/XInclude" href="{secret.as_uri()}"/>'

    method = from_xml(f'<diskSnapshot method="array"><volume>{include}</volume></diskSnapshot>')

    assert method.volume == f'<volume>{include}</volume>'


def test_default_method_and_auto() -> None:
    assert from_options({}, 'lvm') == Method('lvm')
    assert from_options({'target': 'vda', 'method': None, 'file': 'a'}, 'auto') == Method('auto', file='a')
    assert from_options({'method': 'auto', 'pool': 'p', 'size': '1G'}, 'qemu') == Method('auto', pool='p', size='1G')


def test_auto_has_no_xml() -> None:
    with pytest.raises(ValueError, match='auto'):
        to_xml(Method('auto'))


def test_resolve() -> None:
    assert resolve(Method('auto', file='a'), 'qemu') == Method('qemu', file='a')
    with pytest.raises(DiskSnapError, match=r'disk vda.*lvm takes no file'):
        resolve(Method('auto', file='a'), 'lvm', disk='vda')


@pytest.mark.parametrize(
    ('entry', 'words'),
    [
        ({'method_xml': '<diskSnapshot method="qemu"/>', 'method': 'qemu', 'file': 'a'}, 'excludes method, file'),
        ({'method_xml': '<diskSnapshot method="qemu"/>', 'size': '1G'}, 'excludes size'),
        ({'method': 'zfs'}, "no method 'zfs', only auto, qemu, lvm, btrfs, reflink"),
        ({'method': 'qemu', 'size': '1G'}, 'the method qemu takes no size; those that do: lvm'),
        ({'method': 'btrfs', 'pool': 'p'}, 'the method btrfs takes no pool; those that do: qemu, reflink'),
    ],
)
def test_option_errors(entry: dict[str, str], words: str) -> None:
    with pytest.raises(DiskSnapError) as caught:
        from_options({'target': 'vdb', **entry}, 'auto')
    assert caught.value.disk == 'vdb'
    assert words in str(caught.value)


@pytest.mark.parametrize(
    'file',
    [
        '',
        '/',
        'a/b',
        'a/',
        '/a/',
        '..',
        '.',
        '/a/../b',
        '/a/..',
        '/a/.',
        '../a',
        'a\n',
        'a\0b',
        '\x7f',
        'a' * 256,
        '\xe9' * 128,
        '\ud800',
    ],
)
def test_bad_files(file: str) -> None:
    with pytest.raises(DiskSnapError, match='file '):
        from_options({'method': 'qemu', 'file': file}, 'auto')


@pytest.mark.parametrize(
    'file', ['a', '.a', 'a..b', '...', '/a', '/a b/c', 'a' * 255, '/' + 'd' * 300 + '/a', '\xe9' * 127]
)
def test_good_files(file: str) -> None:
    assert from_options({'method': 'btrfs', 'file': file}, 'auto').file == file


@pytest.mark.parametrize('device', ['', 'lv4', 'vg/lv4', '/dev/vg/', '/dev/../lv4', '/dev/vg/lv\n'])
def test_bad_devices(device: str) -> None:
    with pytest.raises(DiskSnapError, match='device '):
        from_options({'method': 'lvm', 'device': device}, 'auto')


@pytest.mark.parametrize(
    'size', ['', '2', '0G', '2.5G', '-1G', '2GB', '20%', '%ORIGIN', '20%VG', '2 G', '02G', '2G\n', '\u0662G']
)
def test_bad_sizes(size: str) -> None:
    with pytest.raises(DiskSnapError, match='size '):
        from_options({'method': 'lvm', 'size': size}, 'auto')


@pytest.mark.parametrize('pool', ['', 'a/b', 'a\n'])
def test_bad_pools(pool: str) -> None:
    with pytest.raises(DiskSnapError, match='pool '):
        from_options({'method': 'qemu', 'pool': pool}, 'auto')


@pytest.mark.parametrize('name', ['a', '0', 'nightly-2026.01_01', 'A' * 64])
def test_good_snapshot_names(name: str) -> None:
    validate_snapshot_name(name)


@pytest.mark.parametrize('name', ['', '.a', '-a', '_a', 'a b', 'a/b', 'a\n', 'A' * 65, '\xe9', '\u0661'])
def test_bad_snapshot_names(name: str) -> None:
    with pytest.raises(DiskSnapError, match='snapshot_name'):
        validate_snapshot_name(name)
