# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The merge of one disk of a shut-off domain: qemu-img beside the polling loop, then the definition.

``commit -d`` leaves the overlay as it is, and ``rebase`` changes the backing file last, so a qemu-img that dies leaves
the chain as it was. It dies with this process, lest it go on unseen. QEMU's image locks keep the domain from starting
meanwhile, and qemu-img from touching the images of one that has started.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import typing as t

from ansible_collections.disksnap.libvirt.plugins.module_utils import _merge_doubt
from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import explained, xml_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Domain
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_model import (
    ABORTED,
    CLEAN,
    COMMIT,
    NO_BASE,
    DiskMerge,
    MergeOptions,
)
from ansible_collections.disksnap.libvirt.plugins.module_utils._merge_work import ENDED, VERIFYING, Work
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.change import domain_with_disk

# what qemu-img -p prints (qemu-progress.c of QEMU), and how much of that holds one at least
_PERCENT = re.compile(rb'\(([0-9]+\.[0-9]+)/100%\)')
_TAIL = 64
# exit status of qemu-img compare
_DIFFERENT = 1


def commands(merge: DiskMerge, bandwidth: int) -> list[list[str]]:
    """The qemu-img calls of a merge, in their order."""
    top, base = merge.top, merge.base
    top_path = top.path or ''
    if merge.direction == COMMIT:
        base_path = merge.receiver.path or ''
        rate = ['-r', str(bandwidth)] if bandwidth else []
        calls = [['commit', '-p', '-f', top.format or 'qcow2', '-d', *rate, '-b', base_path, top_path]]
        if merge.child is not None:
            child, base_format = merge.child, merge.receiver.format or 'raw'
            new_base = ['-F', base_format, '-b', base_path]
            calls.append(['rebase', '-q', '-u', '-f', child.format or 'qcow2', *new_base, child.path or ''])
        return calls
    backing = ['-b', NO_BASE] if base is None else ['-F', base.format or 'raw', '-b', base.path or '']
    return [['rebase', '-p', '-f', top.format or 'qcow2', *backing, top_path]]


class OfflineWork(Work):
    """qemu-img on the images of a shut-off domain."""

    def __init__(self, domain: Domain, merge: DiskMerge, options: MergeOptions) -> None:
        super().__init__(domain, merge, options)
        self._left = commands(merge, options.bandwidth)
        self._comparing = False
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: t.IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._output: t.IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._stopping = False

    def _start(self) -> None:
        tool = shutil.which('qemu-img')
        if tool is None:
            raise self.problem(
                'qemu-img is not installed on the hypervisor',
                'It is in the package qemu-utils (Debian) or qemu-img (RHEL).',
            )
        guard = shutil.which('setpriv')
        first = self.merge.doubtful and self._process is None
        comparison = _merge_doubt.comparison(self.merge) if first else None
        self._comparing = comparison is not None
        argv = [tool, *(comparison or self._left.pop(0))]
        if guard is not None:
            argv = [guard, '--pdeathsig', 'KILL', *argv]
        self._errors.seek(0)
        self._errors.truncate()
        # run_command would wait for it
        self._process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            argv,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._errors,
            env={**os.environ, 'LC_ALL': 'C'},
        )

    def _take_over(self) -> None:
        raise self.problem('a block job was found, but the domain is shut off', 'Run the task again.')

    def _watch(self) -> None:
        status = None if self._process is None else self._process.poll()
        if status is None:
            return
        if self._stopping and (status != 0 or self._left):
            self._refresh()
            self.state = VERIFYING  # the chain is as it was; _unmerged says why
            return
        if status == _DIFFERENT and self._comparing:
            raise self.problem(*_merge_doubt.different(self.merge))
        if status != 0:
            raise self._explained(status)
        if self._left:
            self._start()
            return
        self._define()
        self._refresh()
        self.state = VERIFYING

    def progress(self) -> dict[str, t.Any]:
        """By what qemu-img says of itself: ``(12.34/100%)``, again and again."""
        size = os.fstat(self._output.fileno()).st_size
        said = _PERCENT.findall(os.pread(self._output.fileno(), _TAIL, max(0, size - _TAIL)))
        if said:
            # a rebase of the header alone, which comes after a commit, begins at 0 again
            self.bytes = max(self.bytes, round(min(float(said[-1]), 100.0) / 100 * self.goal))
        return super().progress()

    def _explained(self, status: int) -> DiskSnapError:
        self._errors.seek(0)
        words = ' '.join(self._errors.read().decode(errors='replace').split()) or f'qemu-img ended with status {status}'
        locked = 'lock' in words
        return self.problem(
            words,
            'Another process has the image open. If the domain was started meanwhile, run the task again; if it is the '
            'QEMU of this very domain, libvirt has lost that: leave both as they are, and see "What happens when".'
            if locked
            else None,
        )

    def _define(self) -> None:
        """Have the definition name the active layer, and no chain that is no longer there."""
        merge, handle = self.merge, self.domain.handle
        if merge.disk_after == merge.disk_before:
            return
        before = xml_of(handle, inactive=True, secure=True)
        with explained('Failed to define the domain with its merged disk', domain=self.domain.name, disk=merge.target):
            if not self.domain.live:
                self.domain.host.connection.defineXML(domain_with_disk(before, merge.target, merge.disk_after))
            # started before, it runs on the overlay, which the definition must name; started after, on what is left
            if self.domain.live and set(self.chain()) & set(merge.layers):
                self.domain.host.connection.defineXML(before)
                raise self.problem(
                    'the domain was started meanwhile; it runs on its overlay, and nothing is lost',
                    'Run the task again.',
                )

    def _refresh(self) -> None:
        """The storage pools must see what qemu-img did behind their back."""
        for layer in (self.merge.base, self.merge.top, self.merge.child):
            if layer is not None and layer.path is not None:
                self.domain.host.pools.refresh(layer.path)

    def _unmerged(self) -> None:
        if self._stopping:
            self.end(ABORTED, self.overdue())
        else:
            raise self.problem('qemu-img ended well, and the chain is as it was')

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
        self._stopping = True

    def abort(self) -> None:
        if self.merge.todo != CLEAN:  # whatever it was, it died with its domain or with the run that began it
            self.forget()
            self.changed = True
            self.end(ABORTED)

    def leave(self, *, overdue: bool = False) -> None:
        if overdue and not self._stopping:
            self.warnings.append(
                f'Domain {self.domain.name}, disk {self.merge.target}: on_timeout: leave has no effect on a shut-off '
                'domain; its merge was ended.'
            )
        self.stop()

    def end(self, ending: str, error: DiskSnapError | None = None) -> None:
        if self.state != ENDED and self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        super().end(ending, error)
