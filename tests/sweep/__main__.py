# Copyright (c) 2026, The disksnap.libvirt contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Break each operation at each of its libvirt calls, in every way, and print what survived. See ``make sweep``."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOG = ROOT / '.build' / 'sweep.jsonl'
sys.path[:0] = [str(ROOT / '.build' / 'collections'), str(ROOT / 'tests' / 'lab')]

from ansible_collections.disksnap.libvirt.tests.sweep.log import Log, table  # noqa: E402
from ansible_collections.disksnap.libvirt.tests.sweep.operations import OPERATIONS  # noqa: E402
from ansible_collections.disksnap.libvirt.tests.sweep.points import FAULTS  # noqa: E402
from ansible_collections.disksnap.libvirt.tests.sweep.worker import say, sweep  # noqa: E402


def main() -> int:
    """Exit status 0 where all survived."""
    parser = argparse.ArgumentParser(prog='sweep', description=__doc__)
    parser.add_argument('--operation', action='append', choices=[one.name for one in OPERATIONS], help='only this one')
    parser.add_argument('--fault', action='append', choices=FAULTS, help='only this one')
    parser.add_argument('--call', type=int, help='only the call of this number')
    parser.add_argument('--every', type=int, default=1, help='only each call of so many (default 1)')
    parser.add_argument('--labs', type=int, default=2, help='so many labs side by side (default 2)')
    parser.add_argument('--lab', default='sweep', help='name of the labs (default sweep)')
    parser.add_argument('--log', type=Path, default=LOG, help=f'the file of what was found (default {LOG})')
    parser.add_argument('--resume', action='store_true', help='go on where a sweep of the same plugins was interrupted')
    options = parser.parse_args()
    if not options.resume:
        options.log.unlink(missing_ok=True)
    started = time.monotonic()
    try:
        with multiprocessing.get_context('spawn').Pool(options.labs) as pool:
            pool.starmap(sweep, [(options, worker) for worker in range(options.labs)], chunksize=1)
    finally:
        outcomes = Log(options.log).outcomes()
        failed = [outcome for outcome in outcomes if outcome.problems]
        for line in ('', *table(outcomes)):
            say(line)
        say(f'{len(outcomes)} runs, {len(failed)} failed; this took {(time.monotonic() - started) / 60:.0f} min')
    return 1 if failed or not outcomes else 0


if __name__ == '__main__':
    sys.exit(main())
