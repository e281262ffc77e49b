# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a report can be read in a browser: of 3 guests and of 300, wide and narrow, by day and by night."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome

from ansible_collections.disksnap.libvirt.tests.browser.fleets import NAME, fleet

PRESENT = {'snapshot_name': NAME, 'state': 'present'}
SIZES = {3: {'hosts': 2}, 300: {'hosts': 20, 'wrong': 4}}
WIDE, NARROW = (1280, 1000), (400, 800)
# WCAG 2.2, level AA
CONTRAST = 4.5
# what counts as text: elements with words of their own that are seen
_TEXTS = """
return [...document.querySelectorAll('body *')].filter(one =>
  [...one.childNodes].some(node => node.nodeType == 3 && node.data.trim()) && !one.closest('title')
  && one.checkVisibility())
"""
_BEHIND = """
const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
const drawn = one => one instanceof SVGElement;
const behind = one => {
  if (drawn(one)) return parse(getComputedStyle(one.closest('g').querySelector('rect')).fill);
  for (let at = one; at; at = at.parentElement) {
    const colour = parse(getComputedStyle(at).backgroundColor);
    if (colour.length == 3 || colour[3] > 0) return colour;
  }
};
return arguments[0].map(one =>
  [one.textContent.trim().slice(0, 40), parse(getComputedStyle(one)[drawn(one) ? 'fill' : 'color']), behind(one)]);
"""


@pytest.fixture(scope='module')
def pages(written: Callable[..., Path]) -> dict[int, Path]:
    return {size: written(fleet(size, **how), PRESENT) for size, how in SIZES.items()}


@pytest.fixture(params=['light', 'dark'])
def scheme(request: pytest.FixtureRequest, browser: Chrome) -> Iterator[str]:
    features = [{'name': 'prefers-color-scheme', 'value': request.param}]
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': features})
    yield request.param
    browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': []})


def show(browser: Chrome, path: Path, size: tuple[int, int] = WIDE) -> None:
    browser.execute_cdp_cmd(
        'Emulation.setDeviceMetricsOverride',
        {'width': size[0], 'height': size[1], 'deviceScaleFactor': 1, 'mobile': False},
    )
    browser.get(path.as_uri())


def luminance(colour: list[float]) -> float:
    parts = [one / 255 for one in colour[:3]]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: list[float], other: list[float]) -> float:
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize('size', SIZES)
def test_every_text_stands_out(size: int, scheme: str, browser: Chrome, pages: Any, picture: Any) -> None:
    show(browser, pages[size])
    picture(f'report-{size}-{scheme}')
    texts = browser.execute_script(_BEHIND, browser.execute_script(_TEXTS))
    assert len(texts) > 20
    faint = {text: (ink, paper) for text, ink, paper in texts if contrast(ink, paper) < CONTRAST}
    assert faint == {}
    paper = browser.execute_script('return getComputedStyle(document.body).backgroundColor')
    assert (paper == 'rgb(255, 255, 255)') == (scheme == 'light')


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('window', [WIDE, NARROW])
def test_nothing_runs_out_of_the_page_or_of_its_box(
    size: int, window: tuple[int, int], browser: Chrome, pages: Any, picture: Any
) -> None:
    show(browser, pages[size], window)
    picture(f'report-{size}-{window[0]}')
    root = browser.execute_script('return document.documentElement.scrollWidth')
    assert root <= window[0]
    browser.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert browser.execute_script('return document.documentElement.scrollWidth') <= window[0]
    outside = browser.execute_script(
        """
        return [...document.querySelectorAll('svg g')].filter(box => {
          const edge = box.querySelector('rect').getBBox();
          return [...box.querySelectorAll('text')].some(one =>
            one.getBBox().x + one.getBBox().width > edge.x + edge.width || one.getBBox().y < edge.y);
        }).map(box => box.textContent)
        """
    )
    assert outside == []


def test_bars_are_where_their_times_are(browser: Chrome, pages: Any) -> None:
    show(browser, pages[3])
    hosts = fleet(3, **SIZES[3])
    windows = {
        one['name']: (one['freeze']['frozen_at'], one['freeze']['window_ms'])
        for host in hosts.values()
        for one in host['result']['domains']
        if one['freeze']
    }
    found = browser.execute_script(
        """
        return Object.fromEntries([...document.querySelectorAll('.lane.guest')].map(row => {
          const bar = row.querySelector('s').getBoundingClientRect();
          return [row.querySelector('span').textContent, [bar.left, bar.width, row.querySelector('small').textContent]];
        }))
        """
    )
    assert set(found) == set(windows)
    by_begin, by_left = sorted(found, key=windows.__getitem__), sorted(found, key=found.__getitem__)
    assert by_begin == by_left
    longest = max(found, key=lambda name: windows[name][1])
    for name, (_left, width, text) in found.items():
        assert width / found[longest][1] == pytest.approx(windows[name][1] / windows[longest][1], rel=0.02)
        assert text == (f'{windows[name][1]:.0f} ms' if windows[name][1] < 1000 else f'{windows[name][1] / 1000:.2f} s')


def test_few_guests_are_unfolded(browser: Chrome, pages: Any) -> None:
    show(browser, pages[3])
    assert browser.execute_script("return document.querySelectorAll('details:not([open])').length") == 0


def test_of_many_one_sees_the_problems_and_every_window_at_once(browser: Chrome, pages: Any) -> None:
    show(browser, pages[300])
    problems = browser.execute_script(
        "return [...document.querySelectorAll('.problem')].map(one => one.getBoundingClientRect().bottom)"
    )
    assert len(problems) == SIZES[300]['wrong']
    assert max(problems) < WIDE[1]
    frozen = sum(bool(one['freeze']) for host in fleet(300, **SIZES[300]).values() for one in host['result']['domains'])
    bars = browser.execute_script(
        """
        return [...document.querySelectorAll('summary .track s')].filter(one => {
          const box = one.getBoundingClientRect();
          return box.width >= 2 && box.height >= 2;
        }).length
        """
    )
    assert bars == frozen
    # the chart of all hosts fits on two screens, and of the guests only those with a problem are unfolded
    height = browser.execute_script("return document.querySelector('#windows').getBoundingClientRect().height")
    assert height < 2 * WIDE[1]
    assert browser.execute_script("return document.querySelectorAll('details.guest[open]').length") == 4


def test_it_needs_neither_a_network_nor_a_script(browser: Chrome, pages: Any) -> None:
    show(browser, pages[300])
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
    assert asked == []
    assert browser.execute_script('return document.scripts.length') == 0
    assert [one for one in browser.get_log('browser') if one['level'] == 'SEVERE'] == []
