# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import child, parse, to_text

BOMB = """<?xml version='1.0'?>
<!-- a comment --> <?and an='instruction'?>
<!DOCTYPE a [<!ENTITY x0 "ha"><!ENTITY x1 "&x0;&x0;"><!ENTITY x2 "&x1;&x1;">]>
<a b='&x2;'>&x2;</a>"""


@pytest.mark.parametrize('text', ['<a b="1">x</a>', b'<a b="1">x</a>', '\ufeff<a b="1">x</a>'])
def test_reads_text_and_bytes(text: str | bytes) -> None:
    assert to_text(parse(text, 'it')) == '<a b="1">x</a>'


@pytest.mark.parametrize('encoding', ['utf-8', 'UTF-16', 'latin1'])
def test_declared_encoding_does_not_matter(encoding: str) -> None:
    text = f"<?xml version='1.0' encoding='{encoding}'?><a>\xe9</a>"
    assert parse(text, 'it').text == parse(text.encode('utf-8'), 'it').text == '\xe9'


def test_comments_and_instructions_go() -> None:
    assert to_text(parse('<?p i?><!--c--><a>x<!--c-->y<?p i?><b/></a><!--c-->', 'it')) == '<a>xy<b/></a>'


@pytest.mark.parametrize(
    'text',
    [
        BOMB,
        "<!DOCTYPE a SYSTEM 'http://example.com/a.dtd'><a/>",
        "\ufeff \n<!-- <a> --><!DOCTYPE a [<!ENTITY f SYSTEM 'file:///etc/passwd'>]><a>&f;</a>",
        '<!--x--><!--y--><!DOCTYPE a><a/>',
    ],
)
def test_doctype_is_refused(text: str) -> None:
    with pytest.raises(DiskSnapError, match='DOCTYPE'):
        parse(text, 'it')


def test_doctype_as_data_is_no_doctype() -> None:
    assert parse('<!--<!DOCTYPE a>--><a><![CDATA[<!DOCTYPE a>]]></a>', 'it').text == '<!DOCTYPE a>'


def test_entity_of_nowhere_is_refused() -> None:
    with pytest.raises(DiskSnapError, match='line 2'):
        parse('<a>\n&f;</a>', 'it')


def test_limit_counts_characters() -> None:
    assert parse('<a>\xe9</a>', 'it', limit=8).text == '\xe9'
    with pytest.raises(
        DiskSnapError, match=r'Failed to read method_xml \(disk vda\): it has 8 characters and at most 7'
    ):
        parse('<a>\xe9</a>', 'method_xml', limit=7, disk='vda')


def test_error_has_the_words_of_lxml() -> None:
    with pytest.raises(DiskSnapError, match=r'Failed to read it: it is not XML: .*mismatch.* line 2, column 5'):
        parse('<a>\n</b>', 'it')


@pytest.mark.parametrize(
    'text', ['', b'', ' ', 'x', '<a', '<a/><b/>', '<!--', '<?x', '<a>\x00</a>', '<a>\ud800</a>', b'\xff']
)
def test_not_xml(text: str | bytes) -> None:
    with pytest.raises(DiskSnapError):
        parse(text, 'it')


@given(st.one_of(st.text(), st.binary(), st.text(alphabet='<>!-?DOCTYPE[]&;\'"/= a')))
def test_garbage_is_never_another_error(text: str | bytes) -> None:
    with contextlib.suppress(DiskSnapError):
        parse(text, 'it')


def test_to_text_is_compact_and_knows_no_surroundings() -> None:
    domain = parse("<d xmlns:q='urn:q'>\n  <disk>\n    <a x='1'/>\n    <b> </b>\n  </disk>\n  tail</d>", 'it')
    assert to_text(domain[0]) == to_text(parse("<disk><a x='1'/><b> </b></disk>", 'it'))
    assert to_text(domain[0]) == '<disk><a x="1"/><b> </b></disk>'
    assert etree.tostring(domain, encoding='unicode').startswith('<d xmlns:q')


def test_to_text_keeps_mixed_content_and_used_namespaces() -> None:
    text = '<a xmlns:q="urn:q">one <q:b/> two</a>'
    assert to_text(parse(text, 'it')) == text


XML_TEXT = st.text(st.characters(blacklist_categories=['Cs', 'Cc'], blacklist_characters='\ufffe\uffff'))


@given(XML_TEXT, XML_TEXT)
def test_child_and_back(value: str, text: str) -> None:
    root = etree.Element('r')
    child(root, 'c', text, a=value, b=None)
    again = parse(to_text(root), 'it')
    assert again[0].items() == [('a', value)]
    assert (again[0].text or '') == text
    assert to_text(again) == to_text(root)


@given(st.text())
def test_child_refuses_what_xml_cannot_hold(text: str) -> None:
    root = etree.Element('r')
    try:
        child(root, 'c', text, a=text)
    except DiskSnapError:
        return
    assert parse(to_text(root), 'it')[0].get('a') == text


@pytest.mark.parametrize('bad', ['\x00', '\x1b[0m', '\ud800', '\uffff'])
def test_child_refuses(bad: str) -> None:
    with pytest.raises(DiskSnapError, match='Failed to write c/@a'):
        child(etree.Element('r'), 'c', a=bad)
