# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proposal's ``<diskSnapshot>`` element and the options of a disk that say the same.

=========  ============================================  =========================================================
method     options of ``disks``                          XML
=========  ============================================  =========================================================
qemu       pool: images, file: db1.nightly.qcow2         <diskSnapshot method='qemu'>
                                                           <target pool='images' file='db1.nightly.qcow2'/>
lvm        device: /dev/vg/lv4, size: 20%ORIGIN          <diskSnapshot method='lvm'>
                                                           <device path='/dev/vg/lv4'/>
                                                           <size unit='%ORIGIN'>20</size>
btrfs      file: nightly                                 <diskSnapshot method='btrfs'><target file='nightly'/>
reflink    pool: images, file: db1.nightly.raw           <diskSnapshot method='reflink'><target .../>
array      volume: {serial: 6001, group: databases}      <diskSnapshot method='array'>
                                                           <volume serial='6001' group='databases'/>
=========  ============================================  =========================================================

Each part may be left out, but for the volume; the method then chooses it. ``auto`` is an option only: XML states, never
guesses. What identifies a volume is the array's business: any attributes, and in XML any content.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import etree
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import child, holdable, parse, to_text
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.schema import complaint, schema

AUTO = 'auto'

# method -> the options that it takes; DISK_SNAPSHOT_RNG says the same
TAKES: dict[str, tuple[str, ...]] = {
    'qemu': ('pool', 'file'),
    'lvm': ('device', 'size'),
    'btrfs': ('file',),
    'reflink': ('pool', 'file'),
    'array': ('volume',),
}
ARRAY = 'array'

XML_LIMIT = 16 * 1024

_OPTIONS = ('device', 'pool', 'file', 'size', 'volume')
_SNAPSHOT_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]{0,63}')
_ATTRIBUTE = re.compile(r'[A-Za-z_][A-Za-z0-9_.-]*')
_SIZE = re.compile(r'([1-9][0-9]{0,11})([KMGTPkmgtp]|%ORIGIN)')
_UNPRINTABLE = re.compile('[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]')


@dataclasses.dataclass(frozen=True)
class Method:
    """How one disk is snapshotted.

    Attributes:
        name: a key of ``TAKES``, or ``auto`` as long as the disk has not been looked at.
        device: absolute path of the logical volume to snapshot, where that is not the disk itself (lvm).
        pool: name of the storage pool that the new file goes into (qemu, reflink).
        file: name or absolute path of the new file (qemu, btrfs, reflink).
        size: copy-on-write space (lvm): a whole number with K, M, G, T or P (powers of 1024) or ``%ORIGIN``.
        volume: the ``<volume>`` element that identifies the volume to its array, as text (array).
    """

    name: str
    device: str | None = None
    pool: str | None = None
    file: str | None = None
    size: str | None = None
    volume: str | None = None


# what an error shows, since libxml2 says what is wrong but not what would be right
_EXAMPLES = {
    'qemu': Method('qemu', pool='images', file='db1.nightly.qcow2'),
    'lvm': Method('lvm', device='/dev/vg/lv4', size='20%ORIGIN'),
    'btrfs': Method('btrfs', file='nightly'),
    'reflink': Method('reflink', pool='images', file='db1.nightly.raw'),
    'array': Method('array', volume='<volume serial="6001" group="databases"/>'),
}


def from_xml(text: str, *, disk: str | None = None) -> Method:
    """Read a ``<diskSnapshot>`` document, the option ``method_xml``.

    Raises:
        DiskSnapError: not XML, over 16 Ki characters, or not what the schema and this file allow.
    """
    root = parse(text, 'method_xml', limit=XML_LIMIT, disk=disk)
    if root.tag != 'diskSnapshot':
        raise _wrong('method_xml', f'its root is <{root.tag}> and must be <diskSnapshot>', disk)
    name = root.get('method')
    if name is None or name == AUTO:
        raise _wrong('method_xml', f'the attribute method must name one of {", ".join(TAKES)}', disk)
    method = _check(_read(root, name), 'method_xml', disk)
    if not schema().validate(root):
        raise DiskSnapError(
            'Failed to read method_xml',
            disk=disk,
            why=f'it does not fit the schema of the method {name}: {complaint(root, name)}',
            hint=f'In full the method {name} reads {to_xml(_EXAMPLES[name])}',
        )
    return method


def from_options(options: t.Mapping[str, t.Any], default_method: str) -> Method:
    """Read an entry of ``disks``: keys method, method_xml, device, pool, file, size, volume; None is not given.

    Args:
        options: the entry; its key ``target`` is used for errors, others are ignored.
        default_method: the method if the entry names none; ``auto`` is one.

    Raises:
        DiskSnapError: method_xml beside others, an unknown method, or an option that does not fit.
    """
    disk = options.get('target')
    given = {key: options[key] for key in _OPTIONS if options.get(key) is not None}
    name, text = options.get('method'), options.get('method_xml')
    if 'volume' in given:
        given['volume'] = _volume(given['volume'], disk)
    if text is None:
        return _check(Method(default_method if name is None else name, **given), 'the options', disk)
    beside = [*(['method'] if name is not None else []), *given]
    if beside:
        raise _wrong('the options', f'method_xml already says all of it and excludes {", ".join(beside)}', disk)
    return from_xml(text, disk=disk)


def resolve(method: Method, name: str, *, disk: str | None = None) -> Method:
    """Return the method with ``auto`` replaced by the name that was chosen for the disk.

    Raises:
        DiskSnapError: an option was given that the chosen method does not take.
    """
    return _check(dataclasses.replace(method, name=name), 'the options', disk)


def to_element(method: Method) -> etree._Element:
    """Return the ``<diskSnapshot>`` element; parts that are None are left out.

    Raises:
        ValueError: the method is still ``auto``.
    """
    if method.name not in TAKES:
        raise ValueError(f'no <diskSnapshot> for the method {method.name!r}')
    root = etree.Element('diskSnapshot', method=method.name)
    if method.pool is not None or method.file is not None:
        child(root, 'target', pool=method.pool, file=method.file)
    if method.device is not None:
        child(root, 'device', path=method.device)
    if method.size is not None:
        number, unit = _SIZE.fullmatch(method.size).groups()  # type: ignore[union-attr]  # _check has seen it
        child(root, 'size', number, unit=unit)
    if method.volume is not None:
        root.append(parse(method.volume, 'volume'))
    return root


def volume_of(method_xml: str) -> dict[str, str]:
    """The attributes by which a ``<diskSnapshot method='array'>`` document identifies its volume."""
    volume = parse(method_xml, 'method_xml').find('volume')
    return {} if volume is None else {str(name): str(value) for name, value in volume.attrib.items()}


def to_xml(method: Method) -> str:
    """Return the ``<diskSnapshot>`` element as text; `from_xml` of it is the same method again."""
    return to_text(to_element(method))


def validate_snapshot_name(name: str) -> None:
    """Refuse what cannot be part of file, LV and libvirt object names alike.

    Raises:
        DiskSnapError: the name is not ``[A-Za-z0-9][A-Za-z0-9_.-]{0,63}``.
    """
    fault = snapshot_name_fault(name)
    if fault is not None:
        raise DiskSnapError(f'Failed to use {name!r} as snapshot_name', why=fault)


def snapshot_name_fault(name: str) -> str | None:
    """Why a text cannot be the name of a snapshot, as a clause; None if it can."""
    if _SNAPSHOT_NAME.fullmatch(name):
        return None
    return 'a snapshot name is 1 to 64 of A-Z a-z 0-9 _ . - and starts with a letter or a digit'


def _read(root: etree._Element, name: str) -> Method:
    """Take what is there; what should not be there is the schema's business."""
    target, device, size = root.find('target'), root.find('device'), root.find('size')
    volume = root.find('volume')
    return Method(
        name,
        device=None if device is None else device.get('path'),
        pool=None if target is None else target.get('pool'),
        file=None if target is None else target.get('file'),
        size=None if size is None else (size.text or '') + (size.get('unit') or ''),
        volume=None if volume is None else to_text(volume),
    )


def _volume(attributes: t.Mapping[str, t.Any], disk: str | None) -> str:
    """The option ``volume`` as an element.

    Raises:
        DiskSnapError: if it is no such thing, or XML cannot hold it.
    """
    if not isinstance(attributes, t.Mapping) or not attributes:
        raise _wrong('the options', 'volume must be a dictionary that identifies the volume', disk)
    element = etree.Element('volume')
    for name, value in attributes.items():
        if isinstance(value, (t.Mapping, list)) or value is None:
            raise _wrong('the options', f'{name} of volume is not a plain value; method_xml can say more', disk)
        if not _ATTRIBUTE.fullmatch(str(name)):
            raise _wrong('the options', f'volume cannot have {name!r}, which is not a plain name', disk)
        element.set(str(name), holdable(str(value), f'volume/@{name}'))
    return to_text(element)


def _check(method: Method, what: str, disk: str | None) -> Method:
    """Return the method if it holds together, else raise."""
    if method.name not in TAKES and method.name != AUTO:
        known = ', '.join(TAKES) if what == 'method_xml' else ', '.join([AUTO, *TAKES])
        raise _wrong(what, f'there is no method {method.name!r}, only {known}', disk)
    checks = {'device': _path_fault, 'pool': _pool_fault, 'file': _file_fault, 'size': _size_fault}
    for option in _OPTIONS:
        value = getattr(method, option)
        if value is None:
            continue
        if option not in TAKES.get(method.name, _OPTIONS):
            takers = ', '.join(name for name, options in TAKES.items() if option in options)
            raise _wrong(what, f'the method {method.name} takes no {option}; those that do: {takers}', disk)
        fault = checks[option](value) if option in checks else None
        if fault:
            raise _wrong(what, f'{option} {value!r} {fault}', disk)
    if method.name == ARRAY and method.volume is None:
        raise _wrong(what, 'the method array needs volume, which identifies the volume to its array', disk)
    return method


def _path_fault(value: str) -> str | None:
    if not value.startswith('/'):
        return 'must be an absolute path'
    if _UNPRINTABLE.search(value):
        return 'must not have control characters'
    if value.endswith('/'):
        return "must not end in '/'"
    *parents, base = value.split('/')
    if '..' in parents or base in ('.', '..'):
        return "must not have the component '..', nor end in '.'"
    if len(base.encode('utf-8')) > 255:
        return 'must not have a last component over 255 bytes'
    return None


def _file_fault(value: str) -> str | None:
    if value.startswith('/'):
        return _path_fault(value)
    if not value or '/' in value:
        return 'must be a plain name or an absolute path'
    return _path_fault('/' + value)


def _pool_fault(value: str) -> str | None:
    if not value or '/' in value or _UNPRINTABLE.search(value):
        return "must be the name of a storage pool, which has no '/' and no control characters"
    return None


def _size_fault(value: str) -> str | None:
    if _SIZE.fullmatch(value):
        return None
    return "must be a whole number with a unit K, M, G, T or P, as in '2G', or with %ORIGIN, as in '20%ORIGIN'"


def _wrong(what: str, why: str, disk: str | None) -> DiskSnapError:
    return DiskSnapError(f'Failed to read {what}', disk=disk, why=why)
