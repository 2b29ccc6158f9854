"""Kills a sweep again and again, and looks at what is left of it.

``python tests/kills.py --config=FILE --kills=50`` runs a sweep undisturbed, then once
more, killed at random moments and half of the time in the middle of a write, until it
is through, and so on; it says what was lost or repeated, and whether tables are equal.
"""

import argparse
import csv
import itertools
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time


def run(kill_at):
    """The command, killed when it makes its write of that number visible; 0: never."""
    replace, writes = os.replace, 0

    def counted(*names):
        nonlocal writes
        writes += 1
        if writes == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*names)

    os.replace = counted
    from bnjax.cli import main

    raise SystemExit(main(['train.py', *sys.argv[1:]]))


def begin(config, workdir, kill_at=0):
    command = [sys.executable, '-c', f'import kills; kills.run({kill_at})']
    paths = [str(pathlib.Path(__file__).parent), os.environ.get('PYTHONPATH', '')]
    return subprocess.Popen(
        [*command, f'--config={config}', f'--workdir={workdir}']
        + ['--config.execution.checkpoint_seconds=0'],
        env=os.environ | {'PYTHONPATH': os.pathsep.join(filter(None, paths))},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def finished(workdir):
    """Name and time of every record: one that is written again has another time."""
    files = pathlib.Path(workdir, 'trials').glob('*.json')
    return {file.name: file.stat().st_mtime_ns for file in files}


def table(workdir):
    with open(pathlib.Path(workdir, 'trials.csv'), newline='') as file:
        return [row | {'seconds': ''} for row in csv.DictReader(file)]


def attack(config, directory, kills, rng):
    """Prints a line for each sweep that was killed until it was through."""
    whole = pathlib.Path(directory, 'whole')
    begun = time.monotonic()
    assert begin(config, whole).wait() == 0
    longest = time.monotonic() - begun
    for sweep in itertools.count():
        killed = pathlib.Path(directory, f'killed_{sweep}')
        done = lost = repeated = 0
        while kills and not (killed / 'trials.csv').exists():
            before = finished(killed)
            process = begin(config, killed, rng.choice([0, rng.randint(2, 20)]))
            try:
                process.wait(rng.uniform(longest / 8, longest))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.returncode in (0, -signal.SIGKILL), process.returncode
            after = finished(killed)
            lost += len(before.keys() - after.keys())
            repeated += sum(after.get(name, at) != at for name, at in before.items())
            done += process.returncode != 0
            kills -= process.returncode != 0
        assert begin(config, killed).wait() == 0
        equal = table(whole) == table(killed)
        print(
            f'{done} kills of {len(table(whole))} trials: {lost} lost, '
            f'{repeated} repeated, tables {"equal" if equal else "NOT equal"}',
            flush=True,
        )
        if not kills:
            return


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--config', required=True)
    parser.add_argument('--kills', type=int, default=50)
    parser.add_argument('--seed', type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        rng = random.Random(arguments.seed)
        attack(arguments.config, directory, arguments.kills, rng)
