"""``layer``: batch norm of bnjax, Flax and torch, and what its import costs."""

import dataclasses
import functools
import importlib.util
import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bnjax.benchmark.cases import cases
from bnjax.benchmark.timing import in_own_process, in_turn, last_line

JAX_LAYER, TORCH_LAYER = 'bnjax.benchmark.jax_layer', 'bnjax.benchmark.torch_layer'
JAX_SIDES = ('bnjax', 'flax')
SIDES = (*JAX_SIDES, 'torch')
NOTES = """\
ms: of one training step, running statistics updated; the median over rounds.
vs: the time of bnjax in units of theirs.
passes: bytes accessed where no rare branch is taken, in units of the input's; batch
norm takes at least 3 forward, 8 forward + backward."""
BUSY = 0.25
IDLE = 'measure on an idle machine, for threads that wait for each other suffer most'
NO_TORCH = "torch is not installed: pip install -e '.[peers]' fills its columns."
IMPORTS = """
import json, time
times = [time.perf_counter()]
import flax.linen
times.append(time.perf_counter())
import bnjax.linen
times.append(time.perf_counter())
print(json.dumps([1e3 * (after - before) for before, after in zip(times, times[1:])]))
"""


def measure(groups: Iterable[tuple[Sequence[int], str]], rounds: int) -> dict[str, Any]:
    """Measures ``cases`` of each shape and dtype, and the imports.

    Args:
      groups: shapes, features last, each with a dtype.
      rounds: how often every side is measured; the sides take turns.

    Returns:
      What JSON can hold: ``devices`` by side; ``cases``, each with ``milliseconds``
      of every round and ``passes`` by side; ``import_milliseconds`` of every round.
    """
    rows: list[dict[str, Any]] = []
    devices: dict[str, str] = {}
    for shape, dtype in groups:
        timed = in_turn(_sides(shape=shape, dtype=dtype), rounds)
        devices |= {side: results[0]['device'] for side, results in timed.items()}
        rows += _rows(shape, dtype, timed)
    return {
        'rounds': rounds,
        'devices': devices,
        'cases': rows,
        'import_milliseconds': _imports(rounds),
    }


def _sides(**group: Any) -> dict[str, functools.partial[Any]]:
    """How to measure each side; torch only where it is installed."""
    call = functools.partial
    sides = {
        side: call(in_own_process, f'{JAX_LAYER}:measure', side=side, **group)
        for side in JAX_SIDES
    }
    if importlib.util.find_spec('torch'):
        sides['torch'] = call(in_own_process, f'{TORCH_LAYER}:measure', **group)
    return sides


def _rows(
    shape: Sequence[int], dtype: str, timed: Mapping[str, Sequence[Any]]
) -> Iterator[dict[str, Any]]:
    passes = in_own_process(f'{JAX_LAYER}:passes', shape=shape, dtype=dtype)
    for i, case in enumerate(cases(tuple(shape), dtype)):
        yield dataclasses.asdict(case) | {
            'milliseconds': {
                side: [1e3 * result['seconds'][i] for result in results]
                for side, results in timed.items()
            },
            'passes': {side: counts[i] for side, counts in passes.items()},
        }


def _imports(rounds: int) -> dict[str, list[float]]:
    """Of flax.linen, and of bnjax.linen after it."""
    times = [json.loads(last_line(['-c', IMPORTS])) for _ in range(1 + rounds)]
    # The first one reads files that the others find in memory.
    flax, bnjax = zip(*times[1:], strict=True)
    return {'flax.linen': list(flax), 'bnjax.linen': list(bnjax)}


def show(report: Mapping[str, Any], console: Console) -> None:
    """Prints ``circumstances`` and what ``measure`` returned.

    The table is Markdown where the console is not a terminal.
    """
    say = functools.partial(console.print, markup=False, highlight=False)
    say(table(report['cases'], console.is_terminal))
    say(NOTES, soft_wrap=True)
    if 'torch' not in report['devices']:
        say(NO_TORCH)
    where = ', '.join(f'{side} on {d}' for side, d in report['devices'].items())
    times = report['import_milliseconds']
    flax, bnjax = (statistics.median(times[m]) for m in ('flax.linen', 'bnjax.linen'))
    say(f'rounds: {report["rounds"]}; {where}')
    if report['load'] > BUSY * report['cores']:
        say(f'load before: {report["load"]:.1f} of {report["cores"]} cores; {IDLE}')
    say(f'import: flax.linen {flax:.0f} ms, bnjax.linen {bnjax:.0f} ms more')


def table(rows: Sequence[Mapping[str, Any]], framed: bool) -> Table:
    """A line for each case, under a line for its shape and dtype."""
    shown = Table(
        pad_edge=not framed,
        box=box.SIMPLE_HEAD if framed else box.MARKDOWN,
        collapse_padding=framed,
    )
    shown.add_column('layer', no_wrap=True)
    headers = [f'{side} ms' for side in SIDES]
    headers += [f'vs {side}' for side in SIDES[1:]]
    headers += [f'{side} passes' for side in JAX_SIDES]
    for header in headers:
        shown.add_column(header, justify='right')
    group = None
    for row in rows:
        if group != (group := f'{"x".join(map(str, row["shape"]))} {row["dtype"]}'):
            if framed:
                shown.add_section()
            shown.add_row(group)
        name = 'BN + ReLU' if row['relu'] else 'BN'
        shown.add_row(f'{name}, {"both" if row["backward"] else "fwd"}', *_cells(row))
    return shown


def _cells(row: Mapping[str, Any]) -> list[str]:
    ms = {side: statistics.median(t) for side, t in row['milliseconds'].items()}
    cells = [f'{ms[side]:.3g}' if side in ms else '-' for side in SIDES]
    ratios = {side: ms['bnjax'] / time for side, time in ms.items()}
    cells += [f'{ratios[side]:.2f}' if side in ratios else '-' for side in SIDES[1:]]
    return cells + [f'{row["passes"][side]:.1f}' for side in JAX_SIDES]
