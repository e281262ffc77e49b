# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a playbook as AWX runs a job template: a private data directory, the answers of its survey, ansible-runner."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible_runner
import yaml

from ansible_collections.disksnap.libvirt.tests.live.harness import COLLECTIONS, ROOT
from ansible_collections.disksnap.libvirt.tests.live.playing import this_machine
from disksnap_lab import Lab

TYPES: dict[str, Any] = {'text': str, 'textarea': str, 'multiplechoice': str, 'float': (int, float)}


class _Unsafe(yaml.SafeDumper):
    """AWX marks all text of extra variables as no template."""

    def represent_data(self, data: Any) -> yaml.Node:
        if isinstance(data, str):
            return self.represent_scalar('!unsafe', data)
        return super().represent_data(data)


@dataclass
class Template:
    """A job template for one of the playbooks.

    blank is what AWX makes of a question without an answer and a default: '' or None, by its version; with 'absent',
    there is no variable, as in newer ones, or where the survey does not have the question.
    """

    lab: Lab
    playbook: str
    directory: Path
    blank: str | None = ''
    hosts: dict[str, dict[str, Any]] = field(default_factory=lambda: {'hv1': {}})
    imported: bool = False
    jobs: int = 0

    def launch(
        self,
        answers: dict[str, Any],
        *,
        extra: dict[str, Any] | None = None,
        cancel: Callable[[], bool] | None = None,
        heard: Callable[[dict[str, Any]], None] | None = None,
    ) -> Job:
        """Run a job; cancel is asked again and again, heard gets each event. extra are the variables that AWX adds."""
        self.jobs += 1
        data = self.directory / f'awx_{self.jobs}'
        self._project(data / 'project')
        variables = {**self._answered(answers), **self._of_awx(), **(extra or {})}
        text = ''.join(yaml.dump({key: value}, Dumper=_Unsafe) for key, value in variables.items())
        _write(data / 'env' / 'extravars', text)
        _write(data / 'env' / 'cmdline', '-u root --forks=5')
        # asked five times a second whether to cancel, and not every five seconds
        _write(data / 'env' / 'settings', json.dumps({'job_timeout': 240, 'pexpect_timeout': 0.2}))
        inventory = {
            'all': {'hosts': list(self.hosts)},
            '_meta': {'hostvars': {host: {**this_machine(self.lab), **own} for host, own in self.hosts.items()}},
        }
        script = _write(data / 'inventory' / 'hosts', f'#!/usr/bin/env python3\nprint({json.dumps(inventory)!r})\n')
        script.chmod(0o700)
        runner = ansible_runner.run(
            ident=str(self.jobs),
            private_data_dir=str(data),
            playbook=f'{self.playbook}.yml',
            inventory=str(script),
            envvars=self._environment(data),
            cancel_callback=cancel or (lambda: False),
            event_handler=lambda event: heard(event) is None if heard else True,
            quiet=True,
        )
        return Job(runner)

    def _project(self, project: Path) -> None:
        """Either the playbooks themselves, or one of a line, as AWX runs no playbook by its full name."""
        if not self.imported:
            shutil.copytree(ROOT / 'playbooks', project)
            return
        play = {'name': 'Import', 'ansible.builtin.import_playbook': f'disksnap.libvirt.{self.playbook}'}
        _write(project / f'{self.playbook}.yml', yaml.safe_dump([play]))

    def _answered(self, answers: dict[str, Any]) -> dict[str, Any]:
        """Question -> answer or default, as AWX passes it and if AWX takes it."""
        survey = json.loads((ROOT / 'docs' / 'awx' / f'{self.playbook}.survey.json').read_text(encoding='utf-8'))
        questions = {question['variable']: question for question in survey['spec']}
        assert not set(answers) - set(questions)
        answered = {'fleet_snapshot_uri': self.lab.uri, **answers}
        variables = {}
        for variable, question in questions.items():
            answer = answered.get(variable, question['default'])
            assert isinstance(answer, TYPES[question['type']])
            assert answer != '' or not question['required']
            if answer != '' or self.blank != 'absent':
                variables[variable] = self.blank if answer == '' else answer
        return variables

    def _of_awx(self) -> dict[str, Any]:
        """The variables that AWX adds to each job, under both of their names."""
        added = {
            'job_id': self.jobs,
            'job_launch_type': 'manual',
            'job_template_id': 7,
            'job_template_name': self.playbook,
            'inventory_id': 1,
            'inventory_name': 'Hypervisors',
            'user_name': 'operator',
        }
        return {f'{prefix}_{name}': value for name, value in added.items() for prefix in ('awx', 'tower')}

    def _environment(self, data: Path) -> dict[str, str]:
        config = _write(data / 'ansible.cfg', '')  # nothing of this machine's own counts
        return {
            'ANSIBLE_COLLECTIONS_PATH': str(COLLECTIONS),
            'ANSIBLE_CONFIG': str(config),
            'ANSIBLE_HOME': str(data / 'home'),
            'ANSIBLE_RETRY_FILES_ENABLED': 'False',
            'LC_ALL': 'C.UTF-8',
            'PATH': os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']]),
        }


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')
    return path


class Job:
    """A job that has ended: its status, and what ansible-runner left in artifacts/."""

    def __init__(self, runner: Any) -> None:
        self.status = str(runner.status)
        self.events: list[dict[str, Any]] = list(runner.events)
        self.printed = '\n'.join(event['stdout'] for event in self.events)

    @property
    def artifacts(self) -> dict[str, Any]:
        """As AWX reads them: the data of set_stats in the last event."""
        [stats] = [event for event in self.events if event['event'] == 'playbook_on_stats']
        return dict(stats['event_data']['artifact_data'])

    def taken(self) -> dict[str, dict[str, Any]]:
        """Host -> its fleet_snapshot_result, of a job that must have gone well."""
        assert self.status == 'successful', self.printed
        return dict(self.artifacts['fleet_snapshot'])
