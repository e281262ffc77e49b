# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""XML in and out: what every other file of this folder reads and writes through.

Input may come from a playbook, so it is read as hostile: no document type, no entities, nothing loaded
from anywhere, and no more text than the caller allows.
"""

from __future__ import annotations

import copy
import re

from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import etree
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError

# Everything outside the Char production of XML 1.0.
_NOT_XML = re.compile('[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]')


def parse(text: str | bytes, what: str, *, limit: int | None = None, disk: str | None = None) -> etree._Element:
    """Read one XML document and return its root, without comments and processing instructions.

    Args:
        text: the document; bytes must be UTF-8, whatever an XML declaration says.
        what: what the text is, for the error: ``'method_xml'``, ``'the XML of volume db1.qcow2'``.
        limit: most characters that are read; None is no limit but libxml2's own.
        disk: target name of the disk, for the error.

    Raises:
        DiskSnapError: the text is too long, not UTF-8, has a DOCTYPE or is not well-formed. Of the last,
            ``why`` are lxml's own words with line and column.
    """
    failed = f'Failed to read {what}'
    if limit is not None and len(text) > limit:
        raise DiskSnapError(failed, disk=disk, why=f'it has {len(text)} characters and at most {limit} are read')
    try:
        text = (text.decode('utf-8') if isinstance(text, bytes) else text).lstrip('\ufeff')
        encoded = text.encode('utf-8')
    except UnicodeError as exc:
        raise DiskSnapError(failed, disk=disk, why=f'it is not UTF-8: {exc}') from exc
    if _has_doctype(text):
        raise DiskSnapError(failed, disk=disk, why='it has a document type declaration (DOCTYPE), which is refused')
    try:
        return etree.fromstring(encoded, _parser())
    except etree.XMLSyntaxError as exc:
        raise DiskSnapError(failed, disk=disk, why=f'it is not XML: {exc.msg or "the document is empty"}') from exc


def to_text(element: etree._Element) -> str:
    """Return the element as compact text: no indentation, no tail, no namespaces that it does not use.

    Equal trees give equal text, wherever in a document they were cut from. White space goes only from
    between elements, never from an element that holds text.
    """
    detached = copy.deepcopy(element)
    for node in detached.iter(etree.Element):
        if _holds_elements_only(node):
            node.text = None
            for sub in node:
                sub.tail = None
        elif not node.text:
            node.text = None  # lxml writes '' as <a></a> and None as <a/>
    etree.cleanup_namespaces(detached)
    return str(etree.tostring(detached, encoding='unicode', with_tail=False))


def child(parent: etree._Element, tag: str, text: str | None = None, **attributes: str | None) -> etree._Element:
    """Append an element and return it; attributes that are None are left out.

    Raises:
        DiskSnapError: a value has characters that no XML document can hold (control characters, surrogates).
    """
    element = etree.SubElement(parent, tag)
    for name, value in attributes.items():
        if value is not None:
            element.set(name, holdable(value, f'{tag}/@{name}'))
    if text is not None:
        element.text = holdable(text, tag)
    return element


def _holds_elements_only(node: etree._Element) -> bool:
    return len(node) > 0 and not any((text or '').strip() for text in (node.text, *(sub.tail for sub in node)))


def can_hold(value: str) -> bool:
    """Whether an XML document can hold the text: not if it has control characters or surrogates."""
    return _NOT_XML.search(value) is None


def holdable(value: str, where: str) -> str:
    """Return the text if an XML document can hold it.

    Raises:
        DiskSnapError: it has control characters or surrogates; ``where`` says where it was to go.
    """
    if not can_hold(value):
        raise DiskSnapError(
            f'Failed to write {where}', why=f'{value!r} has control characters or such, which XML cannot hold'
        )
    return value


def _parser() -> etree.XMLParser:
    return etree.XMLParser(
        encoding='utf-8',
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )


def _has_doctype(text: str) -> bool:
    """Whether a DOCTYPE stands before the root: entities are declared nowhere else.

    Looked for before parsing, since libxml2 expands entities in attributes even when told to resolve none.
    """
    at = 0
    while True:
        while text[at : at + 1] in (' ', '\t', '\r', '\n'):
            at += 1
        if text.startswith('<?', at):
            end = text.find('?>', at)
        elif text.startswith('<!--', at):
            end = text.find('-->', at + 4)
        else:
            return text.startswith('<!DOCTYPE', at)
        if end < 0:
            return False
        at = end + 2 if text[end] == '?' else end + 3
