# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The RELAX NG schema of ``<diskSnapshot>``.

The collection ships it as text, as module_utils carry no data files to the managed host. The same text is
published as docs/docsite/schemas/disksnapshot.rng; a unit test holds the two equal.
"""

from __future__ import annotations

import functools

from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import etree

_RNG = '{http://relaxng.org/ns/structure/1.0}'

DISK_SNAPSHOT_RNG = """\
<?xml version="1.0"?>
<!--
  Copyright (c) 2026, The disksnap.libvirt contributors
  GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
  SPDX-License-Identifier: GPL-3.0-or-later
-->
<grammar xmlns="http://relaxng.org/ns/structure/1.0"
    xmlns:a="http://relaxng.org/ns/compatibility/annotations/1.0"
    datatypeLibrary="http://www.w3.org/2001/XMLSchema-datatypes">
  <a:documentation>
    How one disk of a libvirt domain is snapshotted: the element of the libvirt design proposal of
    January 2011. The attribute method names the way, the elements inside belong to that way alone, and
    what is left out is chosen by the method.
  </a:documentation>

  <start>
    <element name="diskSnapshot">
      <ref name="method"/>
    </element>
  </start>

  <define name="method">
    <choice>
      <ref name="qemu"/>
      <ref name="lvm"/>
      <ref name="btrfs"/>
      <ref name="reflink"/>
      <ref name="array"/>
    </choice>
  </define>

  <define name="qemu">
    <a:documentation>
      A qcow2 overlay, which the domain writes to from then on. target is the overlay.
    </a:documentation>
    <attribute name="method">
      <value>qemu</value>
    </attribute>
    <optional>
      <ref name="targetInPool"/>
    </optional>
  </define>

  <define name="lvm">
    <a:documentation>
      A snapshot of a logical volume. device is the LV to snapshot, where that is not the disk itself but
      holds it; size is the space that is kept for what changes (not for thin LVs).
    </a:documentation>
    <attribute name="method">
      <value>lvm</value>
    </attribute>
    <interleave>
      <optional>
        <ref name="device"/>
      </optional>
      <optional>
        <ref name="size"/>
      </optional>
    </interleave>
  </define>

  <define name="btrfs">
    <a:documentation>
      A read-only btrfs snapshot of the subvolume that holds the disk. target is the snapshot: a plain name, which
      stays beside the subvolume, or an absolute path.
    </a:documentation>
    <attribute name="method">
      <value>btrfs</value>
    </attribute>
    <optional>
      <ref name="target"/>
    </optional>
  </define>

  <define name="reflink">
    <a:documentation>
      A clone of the file that shares its blocks (XFS, btrfs). target is the clone.
    </a:documentation>
    <attribute name="method">
      <value>reflink</value>
    </attribute>
    <optional>
      <ref name="targetInPool"/>
    </optional>
  </define>

  <define name="array">
    <a:documentation>
      A snapshot that a storage array takes of the volume below the disk, by the tasks of a play. volume identifies it
      to the array, as the array wants it; volumes with an equal attribute group are taken in one go.
    </a:documentation>
    <attribute name="method">
      <value>array</value>
    </attribute>
    <element name="volume">
      <ref name="anything"/>
    </element>
  </define>

  <define name="anything">
    <zeroOrMore>
      <choice>
        <attribute>
          <anyName/>
        </attribute>
        <text/>
        <element>
          <anyName/>
          <ref name="anything"/>
        </element>
      </choice>
    </zeroOrMore>
  </define>

  <define name="target">
    <element name="target">
      <ref name="file"/>
      <empty/>
    </element>
  </define>

  <define name="targetInPool">
    <a:documentation>
      Where the new file goes: a libvirt storage pool by name, a file, or a file of a pool.
    </a:documentation>
    <element name="target">
      <choice>
        <ref name="file"/>
        <group>
          <attribute name="pool">
            <ref name="objectName"/>
          </attribute>
          <optional>
            <ref name="file"/>
          </optional>
        </group>
      </choice>
      <empty/>
    </element>
  </define>

  <define name="file">
    <a:documentation>A plain name, which stays beside the disk or in the pool, or an absolute path.</a:documentation>
    <attribute name="file">
      <choice>
        <data type="string">
          <param name="pattern">[^/]+</param>
        </data>
        <ref name="absFilePath"/>
      </choice>
    </attribute>
  </define>

  <define name="device">
    <element name="device">
      <attribute name="path">
        <ref name="absFilePath"/>
      </attribute>
      <empty/>
    </element>
  </define>

  <define name="size">
    <a:documentation>
      A whole number of unit: K, M, G, T, P in powers of 1024, or %ORIGIN, a share of the disk's own size.
    </a:documentation>
    <element name="size">
      <attribute name="unit">
        <data type="string">
          <param name="pattern">[KMGTPkmgtp]|%ORIGIN</param>
        </data>
      </attribute>
      <data type="string">
        <param name="pattern">[1-9][0-9]{0,11}</param>
      </data>
    </element>
  </define>

  <define name="absFilePath">
    <data type="string">
      <param name="pattern">/.*[^/]</param>
    </data>
  </define>

  <define name="objectName">
    <a:documentation>As in libvirt's basictypes.rng.</a:documentation>
    <data type="string">
      <param name="pattern">[^/\\n]+</param>
    </data>
  </define>
</grammar>
"""


@functools.cache
def schema() -> etree.RelaxNG:
    """Return the validator of ``<diskSnapshot>``, compiled once a process."""
    return etree.RelaxNG(_grammar())


def complaint(element: etree._Element, method: str) -> str:
    """Return what the schema of this one method has against the element: ``'line 1: ...'``, parts joined by ``;``.

    Validated against all methods at once, libxml2 gives up at the choice between them and says nothing of use.
    """
    grammar = _grammar()
    for choice in grammar.iterfind(f"{_RNG}define[@name='method']/{_RNG}choice"):
        for ref in [ref for ref in choice if ref.get('name') != method]:
            choice.remove(ref)
    validator = etree.RelaxNG(grammar)
    validator.validate(element)
    return '; '.join(dict.fromkeys(f'line {entry.line}: {entry.message}' for entry in validator.error_log))


def _grammar() -> etree._Element:
    return etree.fromstring(DISK_SNAPSHOT_RNG.encode('utf-8'))
