# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What all modules share: the common options, the domains that they name, and how a module ends."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.disksnap.libvirt.plugins.module_utils._connection import secrets_of
from ansible_collections.disksnap.libvirt.plugins.module_utils._deps import libvirt, require
from ansible_collections.disksnap.libvirt.plugins.module_utils._errors import DiskSnapError
from ansible_collections.disksnap.libvirt.plugins.module_utils._host import Host
from ansible_collections.disksnap.libvirt.plugins.module_utils._patterns import matches
from ansible_collections.disksnap.libvirt.plugins.module_utils._quiesce import Terms
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.method import ARRAY, TAKES
from ansible_collections.disksnap.libvirt.plugins.module_utils._xml.parse import can_hold

METHODS = tuple(TAKES)
# those that need nothing said of the disk, so that a task can name them for all disks
FOR_ALL = tuple(name for name in METHODS if name != ARRAY)
# seconds that libvirt's timeouts, select() and threads can all count: 68 years
LONGEST = 2**31 - 1


@dataclass(frozen=True)
class Request:
    """One domain that the task names, with its ``disks`` entries; None means all that can be snapshotted.

    ``rank`` is its place in the order of the freeze, where there is one.
    """

    name: str
    disks: tuple[dict[str, t.Any], ...] | None
    rank: int = 0


def _disks_spec() -> dict[str, t.Any]:
    return {
        'type': 'list',
        'elements': 'dict',
        'options': {
            'target': {'type': 'str', 'required': True},
            'method': {'type': 'str', 'choices': ['auto', *METHODS]},
            'method_xml': {'type': 'str'},
            'device': {'type': 'str'},
            'pool': {'type': 'str'},
            'file': {'type': 'str'},
            'size': {'type': 'str'},
            'volume': {'type': 'dict'},
        },
    }


def common_spec() -> dict[str, t.Any]:
    """The argument spec of the options that every module has; merge the module's own into it."""
    return {
        'uri': {'type': 'str', 'default': 'qemu:///system'},
        'name': {'type': 'str', 'aliases': ['guest', 'domain']},
        'domains': {
            'type': 'list',
            'elements': 'dict',
            'options': {'name': {'type': 'str', 'required': True}, 'disks': _disks_spec()},
        },
        'disks': _disks_spec(),
    }


def snapshot_spec() -> dict[str, t.Any]:
    """The argument spec of the options of a snapshot that is taken, those of its freeze included."""
    return {
        'running': {
            'type': 'dict',
            'options': {
                'exclude': {'type': 'list', 'elements': 'str', 'default': []},
                'disks': {'type': 'dict', 'default': {}},
            },
        },
        **freeze_spec(quiesce=('required', 'preferred', 'none'), default='preferred'),
        'snapshot_name': {'type': 'str', 'required': True},
        'method': {'type': 'str', 'choices': ['auto', *FOR_ALL], 'default': 'auto'},
        'description': {'type': 'str'},
        'min_free': {'type': 'str', 'default': '0'},
    }


def freeze_spec(*, quiesce: t.Sequence[str], default: str) -> dict[str, t.Any]:
    """The argument spec of the options of a freeze."""
    return {
        'quiesce': {'type': 'str', 'choices': list(quiesce), 'default': default},
        'mountpoints': {'type': 'list', 'elements': 'str'},
        'max_frozen': {'type': 'float', 'default': 10},
        'agent_timeout': {'type': 'float', 'default': 5},
        'presync': {'type': 'bool', 'default': True},
    }


def terms(params: dict[str, t.Any]) -> Terms:
    """The options of a freeze.

    Raises:
        DiskSnapError: if a time is none or a mount point is not an absolute path.
    """
    for option in ('max_frozen', 'agent_timeout'):
        refuse_time(option, params[option])
    mountpoints = tuple(params.get('mountpoints') or ())
    for mountpoint in mountpoints:
        if not mountpoint.startswith('/'):
            raise DiskSnapError(
                'Failed to read the options',
                why=f'the mount point {mountpoint!r} of mountpoints is not an absolute path',
            )
    return Terms(params['max_frozen'], params['agent_timeout'], params['presync'], mountpoints)


def refuse_time(option: str, seconds: float) -> None:
    """Refuse an option that is no time, or a longer one than libvirt and this machine count.

    Raises:
        DiskSnapError: if it is.
    """
    if not 0 < seconds <= LONGEST:
        limits = f'must be above 0 and at most {LONGEST}'
        raise DiskSnapError('Failed to read the options', why=f'{option} is {seconds} and {limits}')


# how the common options go together, as keyword arguments of AnsibleModule
COMMON_RULES: dict[str, t.Any] = {
    'mutually_exclusive': [('name', 'domains'), ('disks', 'domains')],
    'required_one_of': [('name', 'domains')],
}


SNAPSHOT_RULES: dict[str, t.Any] = {
    'mutually_exclusive': [('name', 'domains', 'running'), ('disks', 'domains'), ('disks', 'running')],
    'required_one_of': [('name', 'domains', 'running')],
}


def selection(params: dict[str, t.Any]) -> t.Callable[[Host], list[Request]]:
    """The domains that a task names, or how to find those that it means, once there is a connection.

    Raises:
        DiskSnapError: as ``requests`` does.
    """
    running = params.get('running')
    if running is None:
        named = requests(params)
        return lambda _host: named
    disks = {name: _checked_disks(name, entries) for name, entries in running['disks'].items()}

    def those_that_run(host: Host) -> list[Request]:
        names = [name for name in host.running() if not any(matches(name, one) for one in running['exclude'])]
        chosen = [{'name': name, 'disks': disks.get(name)} for name in names]
        return requests({'domains': chosen}) if chosen else []

    return those_that_run


def _checked_disks(name: str, entries: t.Any) -> list[dict[str, t.Any]]:
    """Entries of ``disks`` that stand where Ansible does not look into them, with what they leave out."""
    checked = ArgumentSpecValidator({'disks': _disks_spec()}).validate({'disks': entries})
    if checked.error_messages:
        why = '; '.join(checked.error_messages)
        raise DiskSnapError('Failed to read the options', domain=name, why=f'the disks in running: {why}')
    return t.cast('list[dict[str, t.Any]]', checked.validated_parameters['disks'])


def requests(params: dict[str, t.Any]) -> list[Request]:
    """The domains that a task names, in its order.

    Raises:
        DiskSnapError: if it names none, or the same one twice, or the same disk twice.
    """
    if params.get('domains') is not None:
        entries = params['domains']
    else:
        entries = [{'name': params['name'], 'disks': params.get('disks')}]
    found = [Request(entry['name'], None if entry.get('disks') is None else tuple(entry['disks'])) for entry in entries]
    if not found:
        raise DiskSnapError(
            'Failed to read the options', why='domains is an empty list', hint='Name at least one domain.'
        )
    for request in found:
        if [other.name for other in found].count(request.name) > 1:
            raise DiskSnapError(
                'Failed to read the options', domain=request.name, why='domains names it more than once'
            )
        if request.disks is not None and not request.disks:
            raise DiskSnapError(
                'Failed to read the options',
                domain=request.name,
                why='disks is an empty list',
                hint='Name at least one disk, or leave disks out for all.',
            )
        targets = [disk['target'] for disk in request.disks or ()]
        for target in targets:
            if targets.count(target) > 1:
                raise DiskSnapError(
                    'Failed to read the options', domain=request.name, disk=target, why='disks names it more than once'
                )
    return found


class DiskSnapModule(AnsibleModule):
    """A module that shows the password of ``uri`` nowhere: not in its result, the invocation included, nor in a log.

    ``no_log`` would hide the whole URI, and turn each ``qemu:///system`` of a message into asterisks.
    """

    def exit_json(self, **kwargs: t.Any) -> None:
        self._hide_password()
        super().exit_json(**kwargs)

    def fail_json(self, msg: str, **kwargs: t.Any) -> None:
        self._hide_password()
        super().fail_json(msg, **kwargs)

    def log(self, msg: str, log_args: dict[str, t.Any] | None = None) -> None:
        self._hide_password()
        super().log(msg, log_args)

    def _hide_password(self) -> None:
        uri = getattr(self, 'params', {}).get('uri')
        if isinstance(uri, str):
            self.no_log_values |= secrets_of(uri)


def _texts(name: str, value: t.Any) -> t.Iterator[tuple[str, str]]:
    """Every text in an option, with the name of its place: ``domains[0].name``."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, (list, tuple)):
        for place, entry in enumerate(value):
            yield from _texts(f'{name}[{place}]', entry)
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from _texts(f'a key of {name}', key)
            yield from _texts(f'{name}.{key}' if name else str(key), entry)


def _refuse_unholdable(params: dict[str, t.Any]) -> None:
    """Refuse what neither libvirt nor the file system takes as a name, and XML cannot hold.

    Raises:
        DiskSnapError: if an option has such a character. The value is not shown: it may be one with a password.
    """
    for name, text in _texts('', params):
        if not can_hold(text):
            why = f'{name} has control characters or such, which no name, path or XML can have'
            raise DiskSnapError('Failed to read the options', why=why)


def run_module(module: AnsibleModule, action: t.Callable[[AnsibleModule], dict[str, t.Any]]) -> None:
    """Run the module's one call and end the module with its result or with one sentence.

    Args:
        module: the module.
        action: takes the module; returns what exit_json takes. ``warnings`` in it are shown as Ansible's own.
    """
    require(module)
    try:
        _refuse_unholdable(module.params)
        result = action(module)
    except DiskSnapError as error:
        failure = dict(error.result)
        for warning in failure.pop('warnings', []):
            module.warn(warning)
        module.fail_json(msg=str(error), **failure)
    except libvirt.libvirtError as error:
        module.fail_json(msg=f'libvirt failed: {error.get_error_message()} (libvirt error {error.get_error_code()}).')
    for warning in result.pop('warnings', []):
        module.warn(warning)
    module.exit_json(**result)
