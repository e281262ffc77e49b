# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One hypervisor for all tests, which each test finds as it was saved.

Where the emulation under it broke down (``hypervisor_faults``, or a signal killed the agent in the guest), which has
nothing to do with what is tested, the test is run again on a fresh one, twice at most. The summary counts it as a
rerun, and shows why.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator

import pytest

from ansible_collections.disksnap.libvirt.tests.hypervisor.harness import RemoteRunner
from disksnap_lab import LabError, hypervisor_faults
from disksnap_lab.hypervisor import Hypervisor, HypervisorGuest
from disksnap_lab.hypervisor_layout import guest_files

SIGNALLED = 128  # a shell adds the number of the signal


class EmulatorBrokeDown(Exception):
    """The virtual machine is gone, or a program of its guest, and QEMU is to blame."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test may be run again, for this one reason."""
    for item in items:
        item.add_marker(pytest.mark.flaky(reruns=2, only_rerun=[EmulatorBrokeDown.__name__]))


def _blame(item: pytest.Item) -> Generator[None, object, object]:
    try:
        return (yield)
    except (Exception, pytest.fail.Exception) as error:
        found = getattr(item, 'funcargs', {}).get('hypervisor')
        if not isinstance(found, Hypervisor):
            raise
        why = hypervisor_faults.fault(found.machine) or _agent_was_killed(found)
        if why is None:
            raise
        raise EmulatorBrokeDown(f'The emulation of hypervisor {found.name} broke down: {why}') from error


def _agent_was_killed(hypervisor: Hypervisor) -> str | None:
    """A signal ended the agent of the guest, which nothing but a fault of the emulation below it sends."""
    try:
        said = hypervisor.run(['cat', guest_files('inner').console], timeout=60).stdout
    except LabError:
        return None
    killed = any(int(code) > SIGNALLED for code in re.findall(r'LAB agent-ended (\d+)', said))
    return 'a signal killed the agent of its guest' if killed else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """See _blame."""
    return (yield from _blame(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """See _blame."""
    return (yield from _blame(item))


# what tells most of why a test failed, on the hypervisor
_WITNESSES = {
    'the guest said': ['tail', '-n', '30', str(guest_files('inner').console)],
    'libvirtd said': ['journalctl', '--no-pager', '-q', '-n', '30', '-u', 'libvirtd', '-u', 'virtlogd'],
    'the kernel said': ['sh', '-c', 'dmesg | tail -n 30'],
    'what runs': ['virsh', '-q', 'list', '--all'],
}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where a test fails, add what the hypervisor and its guest have to say: the next test begins by forgetting it."""
    report = yield
    found = getattr(item, 'funcargs', {}).get('hypervisor')
    if report.failed and isinstance(found, Hypervisor):
        if found.ssh.answers():
            report.sections += list(_heard(found))
        else:
            report.sections += list(hypervisor_faults.witnesses(found.machine).items())
    return report


def _heard(hypervisor: Hypervisor) -> Iterator[tuple[str, str]]:
    for title, argv in _WITNESSES.items():
        try:
            said = hypervisor.run(argv, timeout=60, check=False)
        except LabError as error:
            yield title, f'not known: {error}'
        else:
            yield title, said.stdout + said.stderr


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show why tests were run again: of those that passed then, pytest itself shows nothing."""
    for report in terminalreporter.stats.get('rerun', ()):
        terminalreporter.section(f'run again: {report.nodeid}')
        terminalreporter.line(report.longrepr.reprcrash.message)
        for title, text in report.sections:
            terminalreporter.section(title, '-')
            terminalreporter.line(text)


@pytest.fixture(scope='session')
def hypervisor() -> Iterator[Hypervisor]:
    """A hypervisor for each worker; DISKSNAP_TEST_LAB names it, so that two runs of the tests do not meet."""
    name = os.environ.get('DISKSNAP_TEST_LAB', 'tests')
    worker = os.environ.get('PYTEST_XDIST_WORKER')
    found = Hypervisor.start(f'{name}-{worker}' if worker else name, print)
    yield found
    found.stop()


@pytest.fixture
def hv(hypervisor: Hypervisor) -> Hypervisor:
    """The hypervisor as it was saved: nothing of the tests before is left."""
    hypervisor.reset()
    return hypervisor


@pytest.fixture
def inner(hv: Hypervisor) -> HypervisorGuest:
    """The guest that runs on it."""
    return hv.guest('inner')


@pytest.fixture(scope='session')
def run_module(hypervisor: Hypervisor, tmp_path_factory: pytest.TempPathFactory) -> RemoteRunner:
    """Run a module on the hypervisor: run_module('disk_snapshot', {...}), .fails(...), .start(...)."""
    return RemoteRunner(hypervisor, tmp_path_factory.mktemp('remote'))
