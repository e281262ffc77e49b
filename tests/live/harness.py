# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the live tests share: run a module as Ansible would, see the state of a guest, put its chains back."""

from __future__ import annotations

import contextlib
import copy
import difflib
import functools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ansible
import libvirt
import pytest
from lxml import etree

from disksnap_lab import Guest, GuestSpec, Lab

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / '.build' / 'collections'
MODULES = COLLECTIONS / 'ansible_collections' / 'disksnap' / 'libvirt' / 'plugins' / 'modules'
# in the environment of all modules that these tests run, so that their watchdogs can be told from others
_MARK = f'DISKSNAP_TESTS={os.getpid()}'.encode()
# of the writers in the guests: under TCG, a guest that writes every 10 ms takes a fifth of a core
PERIOD_MS = 50
JOURNALS = ('urn:disksnap:libvirt:journal:1', 'urn:disksnap:libvirt:quiesce:1')


class Failed(AssertionError):
    """A module ended with fail_json where success was asked for; ``result`` is what it said."""

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__(result.get('msg', result))
        self.result = result


class Background:
    """A module that runs; ``wait`` for what it returns, or kill it."""

    def __init__(self, command: Sequence[str], stdin: str, env: dict[str, str], **options: Any) -> None:
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            **options,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(stdin)
        self.process.stdin.close()
        self.process.stdin = None

    @property
    def pid(self) -> int:
        """Process id of the module itself."""
        return self.process.pid

    def wait(self, timeout: float = 120) -> dict[str, Any]:
        """The module's JSON; the process must have closed its output and ended."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        try:
            result: dict[str, Any] = json.loads(out)
        except ValueError:
            pytest.fail(f'The module ended with {self.process.returncode} and no JSON: {out}{err}')
        # ansible-core 2.19 wraps warnings where it talks to itself
        result['warnings'] = [w['event']['msg'] if isinstance(w, dict) else w for w in result.get('warnings', [])]
        result['_seconds'] = time.monotonic() - self.started
        result['_stderr'] = err
        return result

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self.process.kill()
        self.process.communicate(timeout=30)


class Runner:
    """Runs module files of the collection on the lab's libvirtd, as a process of their own, without Ansible's start-up.

    Called, it returns the result and raises ``Failed`` where the module failed; ``fails`` is the reverse.
    """

    def __init__(self, uri: str, python: str = '/usr/bin/python3') -> None:
        self.uri = uri
        self.python = python

    def start(
        self,
        name: str,
        args: dict[str, Any],
        *,
        check: bool = False,
        diff: bool = False,
        flags: Sequence[str] = (),
        path: Sequence[str | Path] | None = None,
        search: Sequence[str | Path] | None = None,
        more: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Background:
        """Start a module; ``path`` is PYTHONPATH, ``search`` PATH, where not the usual ones; ``more`` goes beside.

        ``flags`` are options of Python.
        """
        if path is None:
            path = (COLLECTIONS, Path(ansible.__file__).parents[1])
        env = {**os.environ, 'LC_ALL': 'C.UTF-8', 'DISKSNAP_TESTS': str(os.getpid()), **(more or {})}
        env['PYTHONPATH'] = os.pathsep.join(map(str, path))
        if search is not None:
            env['PATH'] = os.pathsep.join(map(str, search))
        wanted = {'uri': self.uri, **args, '_ansible_check_mode': check, '_ansible_diff': diff}
        command = [self.python, *flags, str(MODULES / f'{name}.py')]
        return Background(command, json.dumps({'ANSIBLE_MODULE_ARGS': wanted}), env, **options)

    def __call__(self, name: str, args: dict[str, Any], *, timeout: float = 120, **options: Any) -> dict[str, Any]:
        result = self.start(name, args, **options).wait(timeout)
        if result.get('failed'):
            raise Failed(result)
        return result

    def fails(self, name: str, args: dict[str, Any], *, timeout: float = 120, **options: Any) -> dict[str, Any]:
        """Run a module that must fail, with one sentence and no traceback; its result."""
        result = self.start(name, args, **options).wait(timeout)
        assert result.get('failed'), f'it did not fail: {result}'
        assert 'Traceback' not in result['msg'], result['msg']
        assert '\n' not in result['msg'].strip(), result['msg']
        return result


class Guests:
    """Defines guests and removes those that it defined."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._names: list[str] = []

    def __call__(self, spec: GuestSpec, *, wait: bool = True) -> Guest:
        """A guest; ``wait`` for its agent, or without one for its boot. Its writers leave the cores to the others."""
        if spec.writer_period_ms == GuestSpec.writer_period_ms:
            spec = replace(spec, writer_period_ms=PERIOD_MS)
        guest = self._lab.define(spec)
        self._names.append(spec.name)
        if wait:
            ready(guest)
        return guest

    def remove(self) -> None:
        """Remove them all."""
        for name in self._names:
            self._lab.guest(name).remove()
        self._names = []


def ready(*guests: Guest) -> None:
    """Wait until guests that run have booted, with an agent that answers where they have one."""
    for guest in guests:
        if guest.state != 'running':
            continue
        if guest.agent in ('exec', 'noexec'):
            guest.wait_agent(timeout=180)
        else:
            guest.wait_up(timeout=180)
        if guest.written:
            guest.wait_acked(1, timeout=180)


def until(what: str, ask: Callable[[], Any], timeout: float = 30) -> Any:
    """Ask until the answer is true, and return it; fail after timeout seconds."""
    deadline = time.monotonic() + timeout
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f'{what}: still not so after {timeout:g} s')
        time.sleep(0.05)


# -- what a guest looks like ------------------------------------------------------------------------------------


def _parsed(xml: str | bytes) -> Any:
    return etree.fromstring(xml)


def disk_element(guest: Guest, target: str, *, inactive: bool = False) -> Any:
    """The ``<disk>`` of a target as libvirt shows it."""
    flags = libvirt.VIR_DOMAIN_XML_INACTIVE if inactive else 0
    domain = _parsed(guest.domain.XMLDesc(flags))
    return next(disk for disk in domain.iterfind('devices/disk') if disk.find('target').get('dev') == target)


def plain(xml: Any) -> str:
    """XML as one canonical text without layer indexes, white space and an empty <metadata>, which all mean nothing."""
    element = _parsed(xml if isinstance(xml, str) else etree.tostring(xml))
    for metadata in element.findall('metadata'):
        if len(metadata) == 0:  # libvirt leaves it when what was in it goes
            element.remove(metadata)
    for node in element.iter(etree.Element):
        if node.tag in ('source', 'backingStore', 'mirror'):
            node.attrib.pop('index', None)
        if not (node.text or '').strip():
            node.text = None
        node.tail = None
    return str(etree.tostring(element, method='c14n').decode())


def chain(guest: Guest, target: str, *, inactive: bool = False) -> list[str]:
    """Files, devices, volumes or exports of a disk from the active layer down, as the domain's XML shows them."""
    holder = disk_element(guest, target, inactive=inactive)
    found = []
    while holder is not None:
        source = holder.find('source')
        if source is None:
            break
        found.append(next(source.get(key) for key in ('file', 'dev', 'volume', 'name') if source.get(key)))
        holder = holder.find('backingStore')
    return found


def journal(guest: Guest) -> str | None:
    """The collection's elements in the domain's metadata, as text; None where there is none."""
    found = []
    for namespace in JOURNALS:
        try:
            found.append(guest.domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, namespace, 0))
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_METADATA:
                raise
    return '\n'.join(found) or None


def frozen(guest: Guest) -> bool:
    """Whether the guest's agent says that file systems are frozen."""
    return bool(guest.agent_command('guest-fsfreeze-status') == 'frozen')


def pools(lab: Lab) -> dict[str, bool]:
    """Name of each storage pool -> whether it is active; one that goes away meanwhile is none."""
    found = {}
    for pool in lab.connection.listAllStoragePools(0):
        try:
            found[pool.name()] = bool(pool.isActive())
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
                raise
    return found


def state_of(lab: Lab, guest: Guest) -> dict[str, Any]:
    """All that a task which failed, or was only asked to predict, must leave as it was."""
    domain = guest.domain
    xml = {'live': plain(domain.XMLDesc(0))}
    if domain.isPersistent():
        xml['inactive'] = plain(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    directories = {guest.images, *(Path(made.image).parent for made in guest.disks.values())}
    running = guest.state == 'running'
    return {
        'state': guest.state,
        'xml': xml,
        'journal': journal(guest),
        'files': sorted(str(path) for directory in directories for path in directory.iterdir()),
        'pools': pools(lab),
        'jobs': [t for t in guest.disks if guest.state in ('running', 'paused') and domain.blockJobInfo(t, 0)],
        'frozen': frozen(guest) if running and guest.agent in ('exec', 'noexec') else None,
    }


def difference(old: Any, new: Any) -> str:
    """The lines that differ, with an XML element a line."""
    before, after = (str(value).replace('><', '>\n<').splitlines() for value in (old, new))
    return '\n'.join(difflib.unified_diff(before, after, n=1, lineterm=''))


@contextlib.contextmanager
def untouched(lab: Lab, *guests: Guest) -> Iterator[None]:
    """What is done inside must leave these guests, their files and all pools as they were, and the guests writing."""
    before = [state_of(lab, guest) for guest in guests]
    yield
    after = [state_of(lab, guest) for guest in guests]
    for old, new in zip(before, after):
        for key in old:
            assert new[key] == old[key], f'{key} changed:\n{difference(old[key], new[key])}'
    for guest in guests:
        if guest.state == 'running' and guest.written:
            guest.wait_acked(1, timeout=60)


# -- putting it back --------------------------------------------------------------------------------------------


def put_back(*guests: Guest) -> None:
    """Undo all snapshots of guests by libvirt and qemu-img alone: one layer a disk, no overlay, no journal."""
    for guest in guests:
        if guest.state in ('shutoff', 'crashed'):
            _put_back_off(guest)
        elif guest.state != 'gone':
            _put_back_live(guest)
    for guest in guests:
        if guest.state != 'gone':
            _forget_journal(guest)


def _put_back_live(guest: Guest) -> None:
    if guest.state == 'running' and guest.agent in ('exec', 'noexec') and frozen(guest):
        guest.domain.fsThaw(None, 0)
    files: dict[str, list[str]] = {}
    for target in guest.disks:
        layers = chain(guest, target)
        if len(layers) > 1 and layers[0] != guest.disks[target].image:
            files[target] = [path for path in layers[:-1] if path.startswith('/')]
            guest.domain.blockCommit(target, None, None, 0, libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE)
    for target in files:
        until(f'{guest.name} {target} ready', functools.partial(_mirror_ready, guest, target), 120)
        guest.domain.blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
    for paths in files.values():
        for path in paths:
            Path(path).unlink()


def _mirror_ready(guest: Guest, target: str) -> bool:
    mirror = disk_element(guest, target).find('mirror')
    return mirror is not None and mirror.get('ready') == 'yes'


def _put_back_off(guest: Guest) -> None:
    domain = _parsed(guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))
    for disk in domain.iterfind('devices/disk'):
        made = guest.disks.get(disk.find('target').get('dev'))
        source = disk.find('source')
        if made is None or source is None or disk.get('type') != 'file' or source.get('file') == made.image:
            continue
        overlay = source.get('file')
        subprocess.run(['qemu-img', 'commit', '-q', '-d', overlay], check=True, timeout=120)
        Path(overlay).unlink()
        was = made.source
        disk.set('type', was.type)
        disk.find('driver').set('type', made.format)
        source.attrib.clear()
        for key, value in (('file', was.file), ('dev', was.device), ('pool', was.pool), ('volume', was.volume)):
            if value:
                source.set(key, value)
        for below in disk.findall('backingStore'):
            disk.remove(below)
    guest.lab.connection.defineXML(etree.tostring(domain, encoding='unicode'))


def _forget_journal(guest: Guest) -> None:
    if journal(guest) is None:
        return
    flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG if guest.domain.isPersistent() else 0
    if guest.domain.isActive():
        flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
    for namespace in JOURNALS:
        guest.domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, None, 'disksnap', namespace, flags)


def copy_out(source: str | Path, format_: str, to: Path) -> Path:
    """Copy a layer that a guest's chain has open, as a backup would: qemu-img convert -U."""
    argv = ['qemu-img', 'convert', '-U', '-f', format_, '-O', 'qcow2', str(source), str(to)]
    subprocess.run(argv, check=True, timeout=300, capture_output=True)
    return to


# -- check mode -------------------------------------------------------------------------------------------------


def without_times(result: dict[str, Any]) -> dict[str, Any]:
    """A result without what cannot be known beforehand."""
    left = {key: value for key, value in copy.deepcopy(result).items() if not key.startswith('_')}
    left.pop('invocation', None)
    left.pop('space', None)  # what is free, and what a guest that runs has written, changes all the time
    for domain in left['domains']:
        domain.pop('created_at')
        if domain['freeze']:
            for key in ('window_ms', 'frozen_at'):
                domain['freeze'].pop(key)
    return left


def predicts(run_module: Runner, name: str, task: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Run a task in check mode and then in earnest; the two may differ in times only. The real result."""
    predicted = run_module(name, task, check=True, diff=True, **options)
    real = run_module(name, task, diff=True, **options)
    for result in (predicted, real):  # one says what would be, the other what is
        result['warnings'] = [w.replace('would be', 'is') for w in result.get('warnings', [])]
    assert without_times(predicted) == without_times(real)
    return real


# -- watchdogs ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Process:
    """A process, with what it has open (sockets, pipes and the like without their numbers)."""

    pid: int
    parent: int
    state: str
    files: frozenset[str]


def watchdogs() -> list[Process]:
    """Watchdogs of the modules that these tests ran: processes that left the session of the tests."""
    found = []
    for entry in Path('/proc').iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                if _MARK in (entry / 'environ').read_bytes().split(b'\0') and os.getsid(int(entry.name)) != os.getsid(
                    0
                ):
                    found.append(_process(entry))
    return found


def end_watchdogs() -> None:
    """Kill them. A process that was prepared and hears no last word would wait for ten minutes."""
    for process in watchdogs():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def _process(entry: Path) -> Process:
    stat = (entry / 'stat').read_text(encoding='utf-8').rpartition(')')[2].split()
    # in the lab's own system, where it has one, files are below its root
    top = os.readlink(entry / 'root').rstrip('/')
    links = [os.readlink(link).removeprefix(top) for link in (entry / 'fd').iterdir()]
    return Process(int(entry.name), int(stat[1]), stat[0], frozenset(link.partition(':')[0] for link in links))
