"""Times of the sides beside each other, on a terminal or as Markdown."""

import functools
import importlib.util
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

SIDES = ('bnjax', 'flax', 'torch')
BUSY = 0.25
IDLE = 'measure on an idle machine, for threads that wait for each other suffer most'
NO_TORCH = "torch is not installed: pip install -e '.[peers]' fills its columns."


def installed_sides() -> list[str]:
    """All of them, or without torch where it is not installed."""
    torch = importlib.util.find_spec('torch')
    return [side for side in SIDES if side != 'torch' or torch]


def table(first: str, unit: str, more: Sequence[str], framed: bool) -> Table:
    """An empty one; to a line's name and ``time_cells`` it adds columns of ``more``."""
    shown = Table(
        pad_edge=not framed,
        box=box.SIMPLE_HEAD if framed else box.MARKDOWN,
        collapse_padding=framed,
    )
    shown.add_column(first, no_wrap=True)
    headers = [f'{side} {unit}' for side in SIDES]
    headers += [f'vs {side}' for side in SIDES[1:]]
    for header in (*headers, *more):
        shown.add_column(header, justify='right')
    return shown


def time_cells(times: Mapping[str, Sequence[float]]) -> list[str]:
    """Medians over the rounds of each side, and bnjax's in units of the others'."""
    median = {side: statistics.median(t) for side, t in times.items()}
    cells = [f'{median[side]:.3g}' if side in median else '-' for side in SIDES]
    ratios = {side: median['bnjax'] / time for side, time in median.items()}
    return cells + [f'{ratios[s]:.2f}' if s in ratios else '-' for s in SIDES[1:]]


def show(
    shown: Table,
    notes: str,
    report: Mapping[str, Any],
    console: Console,
    sides: Sequence[str] = SIDES,
) -> None:
    """Prints a table, what it means, and on what it was measured."""
    say = functools.partial(console.print, markup=False, highlight=False)
    say(shown)
    say(notes, soft_wrap=True)
    if 'torch' in sides and 'torch' not in report['devices']:
        say(NO_TORCH)
    where = ', '.join(f'{side} on {d}' for side, d in report['devices'].items())
    say(f'rounds: {report["rounds"]}; {where}')
    if report['load'] > BUSY * report['cores']:
        say(f'load before: {report["load"]:.1f} of {report["cores"]} cores; {IDLE}')
