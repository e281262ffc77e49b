# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Journals as each release has written them, in journals/RELEASE, are read whole for ever after. They never change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from ansible_collections.disksnap.libvirt.plugins.module_utils._journal import LaterVersion, from_xml, to_xml

JOURNALS = sorted((Path(__file__).parent / 'journals').glob('*/*.xml'))
WRITTEN = {'everything', 'frozen', 'snapshot'}


def facts(text: str) -> set[tuple[str, str]]:
    """All that a journal says, as path and value."""
    root: Any = etree.fromstring(text.encode(), etree.XMLParser(remove_blank_text=True, remove_comments=True))
    found: set[tuple[str, str]] = set()
    for element in root.iter():
        path = root.getroottree().getpath(element)
        found.update((f'{path}/@{name}', value) for name, value in element.attrib.items())
        if len(element) == 0 and (element.text or '').strip():
            found.add((path, element.text))
    return found


def test_the_first_release_has_left_some() -> None:
    assert {path.stem for path in JOURNALS if path.parent.name == '1.0.0'} == WRITTEN


@pytest.mark.parametrize('path', JOURNALS, ids=lambda path: f'{path.parent.name} {path.stem}')
def test_nothing_of_it_is_lost(path: Path) -> None:
    text = path.read_text(encoding='utf-8')
    said = facts(text)
    assert len(said) > 10
    assert said - facts(to_xml(from_xml(text))) == set()


@pytest.mark.parametrize('version', ['2', '10'])
def test_that_of_a_later_version_is_told_from_a_damaged_one(version: str) -> None:
    with pytest.raises(LaterVersion, match=f"version '{version}' of <journal>"):
        from_xml(f'<journal version="{version}"/>')


@pytest.mark.parametrize(
    'text',
    [
        '<journal version="0"/>',
        '<journal version="x"/>',
        f'<journal version="{"9" * 5000}"/>',
        '<journal/>',
        '<other version="2"/>',
    ],
    ids=['zero', 'a letter', 'no number', 'none', 'of something else'],
)
def test_what_is_none_is_damaged(text: str) -> None:
    with pytest.raises(ValueError, match='not known to this release') as caught:
        from_xml(text)
    assert not isinstance(caught.value, LaterVersion)
