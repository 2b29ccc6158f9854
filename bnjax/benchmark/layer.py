"""``layer``: batch norm of bnjax, Flax and torch, and what its import costs."""

import dataclasses
import functools
import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from bnjax.benchmark import table as tables
from bnjax.benchmark.cases import cases
from bnjax.benchmark.timing import in_own_process, in_turn, last_line

JAX_LAYER, TORCH_LAYER = 'bnjax.benchmark.jax_layer', 'bnjax.benchmark.torch_layer'
JAX_SIDES = ('bnjax', 'flax')
NOTES = """\
ms: of one training step, running statistics updated; the median over rounds.
vs: the time of bnjax in units of theirs.
passes: bytes accessed where no rare branch is taken, in units of the input's; batch
norm takes at least 3 forward, 8 forward + backward."""
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
    if 'torch' in tables.installed_sides():
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
    """Prints ``circumstances`` and what ``measure`` returned."""
    shown = table(report['cases'], console.is_terminal)
    tables.show(shown, NOTES, report, console)
    times = report['import_milliseconds']
    flax, bnjax = (statistics.median(times[m]) for m in ('flax.linen', 'bnjax.linen'))
    console.print(
        f'import: flax.linen {flax:.0f} ms, bnjax.linen {bnjax:.0f} ms more',
        highlight=False,
    )


def table(rows: Sequence[Mapping[str, Any]], framed: bool) -> Table:
    """A line for each case, under a line for its shape and dtype."""
    columns = [f'{side} passes' for side in JAX_SIDES]
    shown = tables.table('layer', 'ms', columns, framed)
    group = None
    for row in rows:
        if group != (group := f'{"x".join(map(str, row["shape"]))} {row["dtype"]}'):
            if framed:
                shown.add_section()
            shown.add_row(group)
        layer = 'BN + ReLU' if row['relu'] else 'BN'
        times = tables.time_cells(row['milliseconds'])
        passes = [f'{row["passes"][side]:.1f}' for side in JAX_SIDES]
        name = f'{layer}, {"both" if row["backward"] else "fwd"}'
        shown.add_row(name, *times, *passes)
    return shown
