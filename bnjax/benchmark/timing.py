"""Measurements in processes of their own, the sides in turn.

``python -m bnjax.benchmark.timing MODULE:FUNCTION ARGUMENTS`` calls a function with
arguments in JSON and prints what it returns, in JSON, as its last line.
"""

import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar('T')


class MeasurementError(RuntimeError):
    """A process that measures has failed; the message has its last words."""


# What a process frees stays with it. Otherwise each large result costs page faults,
# and a benchmark of eager code would be one of the kernel's allocator.
SETTINGS = {
    'MALLOC_MMAP_THRESHOLD_': str(2**31 - 1),
    'MALLOC_TRIM_THRESHOLD_': str(2**31 - 1),
    'MALLOC_TOP_PAD_': str(2**28),
    'MALLOC_ARENA_MAX': '1',  # the arena of a thread gives back what is over 64 MiB
    'JAX_ENABLE_COMPILATION_CACHE': '0',  # compilation is part of what is measured
    'JAX_TRACEBACK_FILTERING': 'off',  # the last line is the error's
}


def in_own_process(function: str, **arguments: Any) -> Any:
    """What ``module:function`` returns in a process of its own.

    Args:
      function: its module and name.
      **arguments: what it takes. They and the result are what JSON can hold.

    Raises:
      MeasurementError: the process failed.
    """
    command = ['-m', 'bnjax.benchmark.timing', function, json.dumps(arguments)]
    return json.loads(last_line(command))


def last_line(arguments: list[str]) -> str:
    """The last line that Python prints when called with these arguments."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | SETTINGS,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        words = (done.stderr.strip() or 'it said nothing').splitlines()[-1]
        raise MeasurementError(
            f'python {" ".join(arguments)} ended with {done.returncode}: {words}'
        )
    return done.stdout.splitlines()[-1]


def in_turn(sides: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Calls every side once a round, so that a slow minute slows all of them."""
    results: dict[str, list[T]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, call in sides.items():
            results[name].append(call())
    return results


def median_seconds(run: Callable[[], Any], repeats: int = 5) -> float:
    """The median time of a call, after two that warm caches and allocator up."""
    times = []
    for _ in range(2 + repeats):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return statistics.median(times[2:])


if __name__ == '__main__':
    module, _, name = sys.argv[1].partition(':')
    call = getattr(importlib.import_module(module), name)
    print(json.dumps(call(**json.loads(sys.argv[2]))))
