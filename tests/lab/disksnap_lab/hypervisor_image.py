# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A whole Debian 12 hypervisor as a disk image with its kernel, made by mmdebstrap and kept under a content hash."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .commands import run
from .debian import digest, install_root, package_names
from .errors import LabError
from .paths import SOURCE, locked, make_root

RELEASE = 'bookworm'
_RECIPE = ['hypervisor/packages.txt', 'disksnap_lab/hypervisor_image.py', 'disksnap_lab/debian.py']
_SIZE = '3G'
_FILES = {
    'etc/hostname': 'hv\n',
    'etc/hosts': '127.0.0.1 localhost hv\n',
    'etc/fstab': '/dev/vda / ext4 noatime 0 1\n',
    # the address that QEMU's user network keeps for its first machine
    'etc/systemd/network/lab.network': '[Match]\nName=eth0\n[Network]\nAddress=10.0.2.15/24\nLinkLocalAddressing=no\n',
}
# beside these no timer runs: a clock that jumps, as it does after each reset, must not start anybody's daily work
_QUIET = 'systemd-random-seed.service e2scrub_reap.service libvirt-guests.service systemd-networkd-wait-online.service'


@dataclass(frozen=True)
class HypervisorImage:
    """One built image: directory hypervisor/image-HASH."""

    directory: Path

    @property
    def disk(self) -> Path:
        """Raw image of the root file system; base of overlays, never written."""
        return self.directory / 'root.img'

    @property
    def kernel(self) -> Path:
        """The kernel to boot."""
        return self.directory / 'vmlinuz'

    @property
    def initrd(self) -> Path:
        """Its initramfs."""
        return self.directory / 'initrd'

    @property
    def key(self) -> Path:
        """Private key of the one who may log in as root."""
        return self.directory / 'key'


def hypervisor_root() -> Path:
    """Where images and states are kept."""
    directory = make_root() / 'hypervisor'
    directory.mkdir(exist_ok=True)
    directory.chmod(0o711)
    return directory


def hypervisor_image() -> HypervisorImage:
    """The image that this recipe makes; built when it isn't there yet (some two minutes)."""
    image = HypervisorImage(hypervisor_root() / f'image-{digest(*((SOURCE / name).read_bytes() for name in _RECIPE))}')
    with locked(hypervisor_root() / 'image.lock', timeout=1200):
        if not image.disk.exists():
            _build(image)
    return image


def _build(image: HypervisorImage) -> None:
    """Build beside the final place and rename, so that a half-built image is never used."""
    work = hypervisor_root() / 'new-image'
    shutil.rmtree(work, ignore_errors=True)
    result = work / 'result'
    result.mkdir(parents=True)
    run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', 'disksnap-lab', '-f', result / 'key'])
    tree = work / 'tree'
    install_root(tree, RELEASE, package_names((SOURCE / 'hypervisor' / 'packages.txt').read_text(encoding='utf-8')))
    _configure(tree, (result / 'key.pub').read_text(encoding='utf-8'))
    for name, pattern in (('vmlinuz', 'vmlinuz-*'), ('initrd', 'initrd.img-*')):
        shutil.copyfile(_only(tree.glob(f'boot/{pattern}'), pattern), result / name)
    run(['truncate', '--size', _SIZE, result / 'root.img'])
    mkfs = ['mkfs.ext4', '-q', '-F', '-E', 'lazy_itable_init=0,lazy_journal_init=0', '-J', 'size=16']
    run([*mkfs, '-d', tree, result / 'root.img'], timeout=300)
    run(['fallocate', '--dig-holes', result / 'root.img'], timeout=120)
    result.rename(image.directory)
    shutil.rmtree(work)


def _only(found: Iterable[Path], what: str) -> Path:
    paths = sorted(found)
    if len(paths) != 1:
        raise LabError(f'Expected one {what} in the new hypervisor, found {len(paths)}')
    return paths[0]


def _configure(tree: Path, public_key: str) -> None:
    for name, text in _FILES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text, encoding='utf-8')
    ssh = tree / 'root' / '.ssh'
    ssh.mkdir(mode=0o700, exist_ok=True)
    (ssh / 'authorized_keys').write_text(public_key, encoding='utf-8')
    timers = [path.name for path in sorted((tree / 'lib/systemd/system').glob('*.timer'))]
    for unit in [*_QUIET.split(), *timers]:
        link = tree / 'etc/systemd/system' / unit
        link.unlink(missing_ok=True)
        link.symlink_to('/dev/null')
    run(['systemctl', f'--root={tree}', 'enable', 'systemd-networkd.service'])
