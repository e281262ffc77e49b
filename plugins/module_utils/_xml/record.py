# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Records, which are dataclasses, as XML.

A record is an element whose attributes are its scalar fields; a field that holds XML or free text is a child with that
text; a field that holds records is a child per record. None is absence.

The metadata of a field may have ``written``, False for one that is not, and ``check``, which takes the value that was
read and returns what is wrong with it.
"""

from __future__ import annotations

import typing as t
from dataclasses import MISSING, dataclass, fields

from ansible_collections.disksnap.libvirt.plugins.module_utils import _values
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import etree
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import child, holdable

_CONVERT: dict[str, t.Callable[[str], t.Any]] = {'int': _values.count, 'float': _values.amount, 'bool': _values.truth}


def _scalar(value: t.Any) -> str:
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    return str(value)


def _text(element: t.Any) -> str:
    if len(element):
        raise ValueError(f'it has an element <{element[0].tag}> and must have text')
    return element.text or ''


@dataclass(frozen=True)
class Form:
    """How the records of one document are written.

    Attributes:
        nested: a record's class -> its fields that hold records, with their class.
        texts: names of the fields that hold XML or free text.
    """

    nested: t.Mapping[type, t.Mapping[str, type]]
    texts: t.Collection[str]

    def write(self, tag: str, record: t.Any) -> etree._Element:
        """The element of a record.

        Raises:
            DiskSnapError: a value has characters that XML cannot hold; it names the field.
        """
        element = etree.Element(tag)
        for item in fields(record):
            value = getattr(record, item.name)
            if value is None or not item.metadata.get('written', True):
                continue
            if isinstance(value, (list, tuple)):
                for entry in value:
                    if isinstance(entry, str):
                        child(element, item.name, entry)
                    else:
                        element.append(self.write(item.name, entry))
            elif hasattr(value, '__dataclass_fields__'):
                element.append(self.write(item.name, value))
            elif item.name in self.texts:
                child(element, item.name, value)
            else:
                name = item.name.replace('_', '-')
                element.set(name, holdable(_scalar(value), f'{tag}/@{name}'))
        return element

    def read(self, cls: t.Any, element: etree._Element) -> t.Any:
        """The record that an element is of.

        Raises:
            ValueError: if it is damaged; the message names the field.
        """
        values = {}
        for item in fields(cls):
            try:
                value = self._field(cls, item, element)
                fault = item.metadata['check'](value) if value is not None and 'check' in item.metadata else None
                if fault is not None:
                    raise ValueError(fault)
            except ValueError as error:
                raise ValueError(f'{item.name} of <{element.tag}>: {error}') from error
            has_default = item.default is not MISSING or item.default_factory is not MISSING
            if value is None and has_default:
                continue
            if value is None and '| None' not in str(item.type):
                raise ValueError(f'{item.name} of <{element.tag}> is missing')
            values[item.name] = value
        return cls(**values)

    def _field(self, cls: type, item: t.Any, element: etree._Element) -> t.Any:
        """One field of a record, None where it is missing; raises ValueError where it is damaged."""
        kind = str(item.type).replace(' | None', '')
        nested = self.nested.get(cls, {}).get(item.name)
        children = element.findall(item.name)
        if len(children) > 1 and not kind.startswith('list'):
            raise ValueError(f'it is there {len(children)} times')
        if nested is not None:
            records = [self.read(nested, one) for one in children]
            if kind.startswith('list'):
                return records
            return records[0] if records else None
        if kind == 'list[str]':
            return [_text(one) for one in children]
        if item.name in self.texts:
            return _text(children[0]) if children else None
        text = element.get(item.name.replace('_', '-'))
        return None if text is None else _CONVERT.get(kind, str)(text)
