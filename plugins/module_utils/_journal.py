# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What this collection did to a domain, kept in the domain's own ``<metadata>``.

It travels with the domain when it migrates and shows in ``virsh dumpxml``. It says what was intended; what is
there is for the storage to say. Every step that must survive a crash is written here before it is done.
"""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import affected, explained
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import etree, libvirt
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._records import (
    COMMITTED,
    COMMITTING,
    PREPARING,
    BackupSource,
    DiskRecord,
    FreezeRecord,
    Journal,
    MergeRecord,
    Owner,
    QuiesceRecord,
    RevertRecord,
    SnapshotRecord,
    Stamp,
    Volume,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import parse, to_text
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.record import Form

NAMESPACE = 'urn:disksnap:libvirt:journal:1'
PREFIX = 'disksnap'
QUIESCE_NAMESPACE = 'urn:disksnap:libvirt:quiesce:1'
QUIESCE_PREFIX = 'disksnap-quiesce'
VERSION = '1'


class LaterVersion(ValueError):
    """A later release of this collection wrote the journal."""


# -- XML ------------------------------------------------------------------------------------------------------

_FORM = Form(
    {
        SnapshotRecord: {'freeze': FreezeRecord, 'disks': DiskRecord, 'owner': Owner, 'revert': RevertRecord},
        DiskRecord: {'backup_source': BackupSource, 'volumes': Volume, 'base_stamp': Stamp},
    },
    ('xml', 'original', 'modified_disk', 'method_xml', 'description', 'reason', 'identity'),
)
# until then a disk may have lost its volume to someone else's file of that name
_UNSETTLED = (PREPARING, COMMITTING, COMMITTED)


def to_xml(journal: Journal) -> str:
    """The journal as the text of one element.

    Raises:
        DiskSnapError: if XML cannot hold a value; it names the field.
    """
    root = etree.Element('journal', version=VERSION)
    for snapshot in journal.snapshots.values():
        root.append(_FORM.write('snapshot', snapshot))
    if journal.quiesce is not None:
        root.append(_FORM.write('quiesce', journal.quiesce))
    for merge in journal.merges.values():
        root.append(_FORM.write('merge', merge))
    return to_text(root)


def from_xml(text: str) -> Journal:
    """Read a journal.

    A field or an element that a later release has added is passed over, and is gone once this one writes. A release
    that adds what earlier ones must not overlook raises the version, never the namespace, where they would not look.

    Raises:
        LaterVersion: if it is of a later version.
        ValueError: if it is damaged; the message names the field.
    """
    try:
        root = parse(text, 'journal')
    except DiskSnapError as error:
        raise ValueError(str(error)) from error
    return _from_element(root)


def _from_element(root: etree._Element) -> Journal:
    version = root.get('version', '')
    if root.tag != 'journal' or version != VERSION:
        later = (
            root.tag == 'journal'
            and version.isascii()
            and version.isdecimal()
            and len(version) < 9
            and int(version) > int(VERSION)
        )
        kind = LaterVersion if later else ValueError
        raise kind(f'version {root.get("version")!r} of <{root.tag}> is not known to this release')
    journal = Journal()
    snapshots = [_FORM.read(SnapshotRecord, element) for element in root.findall('snapshot')]
    quiesces = [_FORM.read(QuiesceRecord, element) for element in root.findall('quiesce')]
    merges = [_FORM.read(MergeRecord, element) for element in root.findall('merge')]
    for snapshot in snapshots:
        _refuse_incomplete(snapshot)
    _refuse_twice('name of <snapshot>', [snapshot.name for snapshot in snapshots])
    _refuse_twice('state of <quiesce>', ['its record' for _quiesce in quiesces])
    _refuse_twice('target of <merge>', [merge.target for merge in merges])
    journal.snapshots = {snapshot.name: snapshot for snapshot in snapshots}
    journal.quiesce = quiesces[0] if quiesces else None
    journal.merges = {merge.target: merge for merge in merges}
    return journal


def _refuse_incomplete(snapshot: SnapshotRecord) -> None:
    _refuse_twice('target of <disks>', [disk.target for disk in snapshot.disks])
    for disk in snapshot.disks:
        if disk.method == 'qemu' and not disk.volumes and snapshot.state not in _UNSETTLED:
            raise ValueError(f'volumes of <disks> is missing for {disk.target}, snapshot {snapshot.name}')


def _refuse_twice(what: str, values: t.Sequence[str]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f'{what}: {value} is there {values.count(value)} times')


# -- the domain's metadata --------------------------------------------------------------------------------------


def load(domain: t.Any) -> Journal:
    """What is recorded of a domain, its freeze included; an empty journal where there is nothing.

    Raises:
        DiskSnapError: if libvirt fails or the journal was damaged.
    """
    journal = _get(domain, NAMESPACE)
    journal.quiesce = _get(domain, QUIESCE_NAMESPACE).quiesce
    return journal


def store(domain: t.Any, journal: Journal) -> None:
    """Write snapshots and merges to the live and the persistent definition; none remove the element.

    Raises:
        DiskSnapError: if libvirt fails.
    """
    _put(domain, NAMESPACE, PREFIX, replace(journal, quiesce=None))


def store_quiesce(domain: t.Any, record: QuiesceRecord | None) -> None:
    """Write the record of a freeze, or remove it.

    It is an element of its own, since the watchdog writes it at a moment of its own, and must not overwrite what a
    task says of snapshots at that moment.

    Raises:
        DiskSnapError: if libvirt fails.
    """
    _put(domain, QUIESCE_NAMESPACE, QUIESCE_PREFIX, Journal(quiesce=record))


def reconcile(domain: t.Any) -> None:
    """Have the persistent definition say what the live one does, which libvirt writes first.

    A libvirtd that dies between the two leaves them apart (virDomainObjSetMetadata in its domain_conf.c).

    Raises:
        DiskSnapError: if libvirt fails.
    """
    both = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
    if affected(domain) != both:
        return
    for namespace, prefix in ((NAMESPACE, PREFIX), (QUIESCE_NAMESPACE, QUIESCE_PREFIX)):
        live = _text(domain, namespace, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        if live == _text(domain, namespace, libvirt.VIR_DOMAIN_AFFECT_CONFIG):
            continue
        with explained('Failed to write the journal', domain=domain.name()):
            domain.setMetadata(
                libvirt.VIR_DOMAIN_METADATA_ELEMENT, live, prefix, namespace, libvirt.VIR_DOMAIN_AFFECT_CONFIG
            )


def _text(domain: t.Any, namespace: str, which: int) -> str | None:
    try:
        return t.cast(str, domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, namespace, which))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            return None
        raise DiskSnapError(
            'Failed to read the journal',
            domain=domain.name(),
            why=error.get_error_message(),
            code=error.get_error_code(),
        ) from error


def _get(domain: t.Any, namespace: str) -> Journal:
    text = _text(domain, namespace, libvirt.VIR_DOMAIN_AFFECT_CURRENT)
    if text is None:
        return Journal()
    try:
        return from_xml(text)
    except ValueError as error:
        raise _damaged(domain.name(), namespace, error) from error


def _damaged(domain: str, namespace: str, error: ValueError) -> DiskSnapError:
    hint = (
        f'It is the element of namespace {namespace} in the <metadata> of the domain; correct or remove it with virsh '
        'metadata.'
    )
    if isinstance(error, LaterVersion):
        hint = 'A later release of this collection wrote it. Use that one, or a newer one, on this domain.'
    return DiskSnapError('Failed to read the journal', domain=domain, why=str(error), hint=hint)


def within(text: str, domain: str) -> Journal:
    """What the XML of a domain has of its journal: as ``load``, for who has read that XML anyway.

    Args:
        text: of the domain, as virDomainGetXMLDesc shows it.
        domain: its name, for the error.

    Raises:
        DiskSnapError: if the journal was damaged.
    """
    found = {NAMESPACE: Journal(), QUIESCE_NAMESPACE: Journal()}
    if any(namespace in text for namespace in found):
        metadata = parse(text, 'domain XML').find('./metadata')
        for namespace in found:
            element = metadata.find(f'{{{namespace}}}*') if metadata is not None else None
            if element is not None:
                # libvirt shows all of it in the namespace, and takes that off in metadata()
                for node in element.iter(f'{{{namespace}}}*'):
                    node.tag = etree.QName(node).localname
                try:
                    found[namespace] = _from_element(element)
                except ValueError as error:
                    raise _damaged(domain, namespace, error) from error
    journal = found[NAMESPACE]
    journal.quiesce = found[QUIESCE_NAMESPACE].quiesce
    return journal


def _put(domain: t.Any, namespace: str, prefix: str, journal: Journal) -> None:
    try:
        text = None if journal.empty else to_xml(journal)
    except DiskSnapError as error:
        error.domain = domain.name()
        raise
    with explained('Failed to write the journal', domain=domain.name()):
        try:
            domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, prefix, namespace, affected(domain))
        except libvirt.libvirtError as error:
            if text is not None or error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_METADATA:
                raise
