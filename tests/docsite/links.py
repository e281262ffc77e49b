# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find links of a built site that lead nowhere within it: to a page that is not there, or to no place on that page.

Usage: tests/docsite/links.py FOLDER
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lxml import etree

_LINKS = ('href', 'src')


@functools.cache
def _page(path: Path) -> etree._Element:
    parser = etree.HTMLParser(encoding='utf-8', huge_tree=True)
    return etree.parse(str(path), parser).getroot()


@functools.cache
def _places(path: Path) -> frozenset[str]:
    named = [(element.get('id'), element.get('name')) for element in _page(path).iter(etree.Element)]
    return frozenset(place for pair in named for place in pair if place)


def _links(path: Path) -> Iterator[str]:
    for element in _page(path).iter(etree.Element):
        for name in _LINKS:
            link = element.get(name)
            # what has a scheme or a host leads out of the site
            if link is not None and not urlsplit(link).scheme and not urlsplit(link).netloc:
                yield link


def fault(page: Path, link: str) -> str | None:
    """Why the link of a page leads nowhere; None if it leads somewhere."""
    parts = urlsplit(link)
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target.is_dir():
        target /= 'index.html'
    if not target.is_file():
        return 'there is no such file'
    place = unquote(parts.fragment)
    if place and target.suffix == '.html' and place not in _places(target):
        return f'{target.name} has no such place'
    return None


def check(folder: Path) -> tuple[int, list[str]]:
    """How many links there are, and what is wrong with them."""
    count, faults = 0, []
    for page in sorted(folder.rglob('*.html')):
        for link in _links(page):
            count += 1
            why = fault(page, link)
            if why is not None:
                faults.append(f'{page.relative_to(folder)}: {link}: {why}')
    return count, faults


def main() -> int:
    folder = Path(sys.argv[1]).resolve()
    count, faults = check(folder)
    print('\n'.join(faults), end='\n' if faults else '')
    print(f'{len(list(folder.rglob("*.html")))} pages, {count} links, {len(faults)} of them broken')
    return 1 if faults or not count else 0


if __name__ == '__main__':
    sys.exit(main())
