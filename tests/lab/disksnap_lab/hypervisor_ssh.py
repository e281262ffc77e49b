# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs and files on a hypervisor by ssh, over one connection that stays."""

from __future__ import annotations

import shlex
import struct
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from .commands import require
from .errors import LabError

_BLOCK = struct.Struct('<QI')
# Run by the Python of the hypervisor: which blocks are not all zero, and what is in them. Ends with the size.
_SENDER = """
import struct, sys
size, zero, place = 1 << 18, bytes(1 << 18), 0
with open(sys.argv[1], 'rb') as source:
    while True:
        data = source.read(size)
        if not data:
            break
        if data != zero[:len(data)]:
            sys.stdout.buffer.write(struct.pack('<QI', place, len(data)) + data)
        place += len(data)
sys.stdout.buffer.write(struct.pack('<QI', place, 0))
"""


class Connection:
    """Root's login on one port of an address, by default this machine's; its socket lies in the directory."""

    def __init__(
        self, directory: Path, port: int, key: Path, address: str = '127.0.0.1', more_options: Sequence[str] = ()
    ) -> None:
        self._control = directory / 'ssh'
        self._more_options = more_options
        self.address = address
        self.port = port
        self.key = key

    @property
    def options(self) -> list[str]:
        """What every ssh needs, Ansible's own included: they share one connection."""
        values = [
            'StrictHostKeyChecking=no',
            'UserKnownHostsFile=/dev/null',
            'GlobalKnownHostsFile=/dev/null',
            'LogLevel=ERROR',
            'IdentitiesOnly=yes',
            'ControlMaster=auto',
            'ControlPersist=300',
            f'ControlPath={self._control}',
            *self._more_options,
        ]
        return [word for value in values for word in ('-o', value)]

    def argv(self, command: Sequence[str | Path]) -> list[str]:
        """The ssh command line that runs a program there."""
        login = ['-F', 'none', '-p', str(self.port), '-i', str(self.key), '-o', 'BatchMode=yes', *self.options]
        return [require('ssh'), *login, f'root@{self.address}', shlex.join(str(word) for word in command)]

    def run(
        self,
        command: Sequence[str | Path],
        timeout: float = 300,
        check: bool = True,
        stdin: IO[bytes] | int = subprocess.DEVNULL,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program there; with check LabError unless it ends with 0."""
        done = self.run_bytes(command, timeout, check, stdin)
        out, err = (stream.decode('utf-8', 'replace') for stream in (done.stdout, done.stderr))
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def run_bytes(
        self,
        command: Sequence[str | Path],
        timeout: float = 300,
        check: bool = True,
        stdin: IO[bytes] | int = subprocess.DEVNULL,
    ) -> subprocess.CompletedProcess[bytes]:
        """The same, with the program's output as it is."""
        words = shlex.join(str(word) for word in command)
        try:
            done = subprocess.run(self.argv(command), stdin=stdin, capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise LabError(f'Failed to run {words} on the hypervisor: no end after {timeout:g} s') from None
        if check and done.returncode:
            said = (done.stderr or done.stdout).decode('utf-8', 'replace').strip()
            raise LabError(f'Failed to run {words} on the hypervisor: {said or f"exit status {done.returncode}"}')
        return done

    def answers(self) -> bool:
        """Whether one can log in."""
        try:
            return self.run(['true'], timeout=20, check=False).returncode == 0
        except LabError:
            return False

    def close(self) -> None:
        """End the connection that stays, where there is one; the next program makes a new one."""
        argv = [
            require('ssh'),
            '-F',
            'none',
            '-O',
            'exit',
            '-o',
            f'ControlPath={self._control}',
            f'root@{self.address}',
        ]
        subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)

    def put(self, local: Path, remote: str, timeout: float = 300) -> None:
        """Copy a file there."""
        with open(local, 'rb') as source:
            self.run(
                ['dd', f'of={remote}', 'bs=1M', 'conv=sparse', 'iflag=fullblock', 'status=none'], timeout, True, source
            )

    def fetch(self, remote: str, local: Path, timeout: float = 300) -> None:
        """Copy a file or a block device to a sparse local file."""
        got = self.run_bytes(['python3', '-c', _SENDER, remote], timeout).stdout
        with open(local, 'wb') as target:
            for offset, data in sparse_blocks(got):
                target.seek(offset)
                target.write(data)
                target.truncate(max(offset + len(data), target.seek(0, 2)))


def sparse_blocks(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """(place, data) of what _SENDER sends; the last one has the size as its place, and no data."""
    place = 0
    while place + _BLOCK.size <= len(stream):
        offset, length = _BLOCK.unpack_from(stream, place)
        place += _BLOCK.size
        if place + length > len(stream):
            break
        yield offset, stream[place : place + length]
        place += length
        if length == 0:
            return
    raise LabError('A copy from the hypervisor broke off')
