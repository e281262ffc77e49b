# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What libvirt's own snapshots are read as."""

from __future__ import annotations

from ansible_collections.disksnap.libvirt.plugins.module_utils import _foreign

EXTERNAL = """
<domainsnapshot>
  <name>theirs</name><state>disk-snapshot</state><description>by hand</description>
  <creationTime>1772323200</creationTime>
  <disks>
    <disk name='vda' snapshot='external' type='file'><driver type='qcow2'/><source file='/images/vda.theirs'/></disk>
    <disk name='vdb' snapshot='no'/>
  </disks>
  <domain>
    <devices>
      <disk type='file'><source file='/images/vda.ours.qcow2' index='2'/>
        <backingStore type='file'><source file='/images/vda.qcow2'/></backingStore><target dev='vda'/></disk>
      <disk type='volume'><source pool='default' volume='vdb'/><target dev='vdb'/></disk>
      <disk type='file' device='cdrom'><target dev='sda'/></disk>
    </devices>
  </domain>
  <inactiveDomain>
    <devices><disk type='block'><source dev='/dev/vg0/vda'/><target dev='vda'/></disk></devices>
  </inactiveDomain>
</domainsnapshot>
"""


def test_it_goes_back_to_the_images_that_it_was_taken_of_and_not_to_those_below() -> None:
    found = _foreign.read(EXTERNAL)
    assert (found.name, found.description, found.state) == ('theirs', 'by hand', 'disk-snapshot')
    assert found.created_at == '2026-03-01T00:00:00.000Z'
    assert found.disks == (('vda', 'external', '/images/vda.theirs'),)
    assert found.sources == {'/images/vda.ours.qcow2', 'default/vdb', '/dev/vg0/vda'}


def test_an_image_that_cannot_be_read_has_none() -> None:
    assert _foreign.within('/nowhere/at/all', local=True) == []
    assert _foreign.within(None, local=True) == []
