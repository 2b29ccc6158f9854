"""The table of all trials, and the curves of each for the page's script to draw."""

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bnjax.comparison import Comparison
from bnjax.records import METRICS, Record
from bnjax.report import tables
from bnjax.report.tables import Cell
from bnjax.report.wording import names, show

MOST_POINTS = 200  # of a curve
LEAST_POINTS = 25  # of a curve, where many trials leave room for no more
MOST_NUMBERS = 400_000  # of all curves together, 2.5 MB
DRAWN = sorted(METRICS, key=lambda metric: metric.split('_')[1])  # accuracies first
LONGEST_ERROR = 300  # characters


def section(comparison: Comparison) -> str:
    """The table of all trials by setting and arm, with their curves as JSON."""
    records = [
        record
        for setting in comparison.settings
        for arm in comparison.arms
        for record in comparison.cell(setting, arm)
    ]
    compared = [] if comparison.field is None else [comparison.field]
    fields = [*comparison.fields, *compared]
    metrics = [m for m in DRAWN if any(math.isfinite(r.metrics[m]) for r in records)]
    short = names(comparison)
    head = [short[field] for field in fields] + ['seed', 'status']
    head += [metric.replace('_', ' ') for metric in metrics] + ['trial']
    rows = [_row(record, fields, metrics) for record in records]
    chosen, points = _affordable(records)
    caption = (
        'Final metrics of every trial, those of a diverged one its last finite ones. '
        'The last column names its files in the folder trials.'
    ) + _thinned(records, chosen, points)
    table = tables.section('Trials', caption, head, rows)
    hint = (
        '<p class="note scripted" hidden>A click on a trial, or Enter, shows its '
        'curves.</p>\n<noscript><p class="note">The curves of a trial are drawn by a '
        'script, and scripts are off.</p></noscript>\n'
    )
    where = table.index('<div')
    embedded = _embedded(records, chosen, points)
    return f'<div id="trials">{table[:where]}{hint}{table[where:]}{embedded}</div>'


def _row(record: Record, fields: Sequence[str], metrics: Sequence[str]) -> list[Cell]:
    own = [Cell(show(record.config[name])) for name in (*fields, 'seed')]
    note = textwrap.shorten(record.error or '', LONGEST_ERROR, placeholder=' ...')
    if record.bad_step is not None:
        note = f'at step {record.bad_step}'
    numbers = [Cell(f'{record.metrics[metric]:.4g}') for metric in metrics]
    return [*own, Cell(record.status, note=note), *numbers, Cell(record.trial)]


def _affordable(records: Sequence[Record]) -> tuple[set[int], int]:
    """Which trials show curves, and how many points of each curve at most.

    All, with fewer points where they are many; and where even those are too many, the
    trials of the lowest seeds.
    """
    having = [i for i, record in enumerate(records) if 'epoch' in record.curves]
    by_seed = sorted(having, key=lambda i: records[i].config['seed'])
    points = MOST_NUMBERS // (len(METRICS) * max(len(having), 1))
    points = max(LEAST_POINTS, min(MOST_POINTS, points))
    lengths = (min(points, len(records[i].curves['epoch'])) for i in by_seed)
    total = np.cumsum([len(METRICS) * length for length in lengths])
    return set(by_seed[: int(np.sum(total <= MOST_NUMBERS))]), points


def _thinned(records: Sequence[Record], chosen: set[int], points: int) -> str:
    """Says what the curves leave out; empty where they are whole."""
    said = ''
    having = sum('epoch' in record.curves for record in records)
    if len(chosen) < having:
        said += (
            f' To keep the page small, only {len(chosen)} trials, those of the lowest '
            'seeds, have curves here.'
        )
    if any(len(records[i].curves['epoch']) > points for i in chosen):
        said += f' Curves are thinned to {points} points.'
    return said


def _embedded(records: Sequence[Record], chosen: set[int], points: int) -> str:
    """The curves as JSON that no text in it can end, and what they are drawn in."""
    epochs: dict[tuple[int, ...], int] = {}  # most trials share theirs
    trials: list[Any] = []
    for i, record in enumerate(records):
        at = _kept(record.curves, points) if i in chosen else np.zeros(0, int)
        curves = [_numbers(record.curves[m][at]) for m in DRAWN] if len(at) else []
        if any(curves):
            own = tuple(int(epoch) for epoch in record.curves['epoch'][at])
            trials.append([epochs.setdefault(own, len(epochs)), *curves])
        else:
            trials.append(0)
    data = {'metrics': DRAWN, 'epochs': list(epochs), 'trials': trials}
    return (
        '\n<template id="chart"><svg></svg></template>\n<script id="curves" '
        f'type="application/json">{safe_json(data)}</script>'
    )


def safe_json(data: Any) -> str:
    """JSON for a script element: ASCII, and without what HTML might read as markup."""
    text = json.dumps(data, separators=(',', ':'), allow_nan=False)
    return text.replace('<', r'\u003c').replace('>', r'\u003e').replace('&', r'\u0026')


def _kept(curves: Mapping[str, np.ndarray], points: int) -> np.ndarray:
    """Indices of the points that are kept, the first and the last among them."""
    length = len(curves['epoch'])
    return np.unique(
        np.linspace(0, length - 1, min(points, length)).round().astype(int)
    )


def _numbers(values: np.ndarray) -> list[float | None] | int:
    """To four significant digits, None where not finite; 0 where nothing is known."""
    if not np.isfinite(values).any():
        return 0
    return [float(f'{v:.4g}') if math.isfinite(v) else None for v in values.tolist()]
