# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The docs site: what antsibull-docs makes of the collection, and the guides. tests/docs builds it."""

from __future__ import annotations

import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent

project = 'disksnap.libvirt'
copyright = '2026, the disksnap.libvirt contributors'
title = 'disksnap.libvirt: snapshots of the disks of libvirt guests'
html_short_title = 'disksnap.libvirt'

extensions = ['sphinx.ext.intersphinx', 'sphinx_antsibull_ext']
default_role = 'any'
nitpicky = True
highlight_language = 'YAML+Jinja'
pygments_style = 'ansible'

html_theme = 'sphinx_ansible_theme'
html_static_path = [str(HERE / 'static')]
html_css_files = ['site.css']
html_show_sphinx = False
html_copy_source = False
html_use_index = False
html_use_modindex = False
html_theme_options = {
    'display_version': False,
    # the words at the top lead there; the default leads to the root of the web server
    'documentation_home_url': 'https://github.com/disksnap/disksnap.libvirt',
    'topbar_links': {'SOURCES': 'https://github.com/disksnap/disksnap.libvirt', 'ANSIBLE': 'https://docs.ansible.com/'},
}


def inventory(labels: Path) -> str:
    """An inventory with the labels of Ansible's documentation that the site refers to.

    The whole one would have to be fetched at each build, and a build does without the network.
    """
    entries = []
    for line in labels.read_text(encoding='utf-8').splitlines():
        if line and not line.startswith('#'):
            label, page, words = line.split(maxsplit=2)
            entries.append(f'{label} std:label -1 {page} {words}\n')
    target = HERE.parent.parent / '.build' / 'docs' / f'{labels.stem}.inv'
    target.parent.mkdir(parents=True, exist_ok=True)
    head = '# Sphinx inventory version 2\n# Project: Ansible\n# Version: devel\n'
    target.write_bytes(f'{head}# The remainder of this file is compressed using zlib.\n'.encode())
    with target.open('ab') as file:
        file.write(zlib.compress(''.join(entries).encode()))
    return str(target)


intersphinx_mapping = {
    'ansible': ('https://docs.ansible.com/projects/ansible/devel/', inventory(HERE / 'ansible.txt')),
}
