"""A sweep's report: a table for the terminal, figures, and a page."""

import pathlib
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from bnjax.comparison import (
    Comparison,
    Contrast,
    at_equal_settings,
    compare,
    mean_of,
)
from bnjax.records import METRICS, Record, write_atomically
from bnjax.report import page
from bnjax.report.answer import conclude, headlines
from bnjax.report.figures import drawn
from bnjax.report.verdicts import verdict_table, write_verdicts
from bnjax.report.wording import (
    TRAIN,
    arm_name,
    compared_name,
    count_status,
    estimate,
    names,
    show,
    signed,
)
from bnjax.verdict import Verdict

__all__ = ['headlines', 'summary', 'verdict_table', 'write', 'write_verdicts']

WIDE = 3  # as many arms stand side by side in a terminal of 100 columns
COLOURS = {'higher': 'green', 'lower': 'red'}


def write(
    workdir: pathlib.Path,
    records: Sequence[Record],
    *,
    title: str,
    description: str,
    swept: Sequence[str],
    notes: Mapping[str, str],
    verdicts: Sequence[Verdict] = (),
) -> pathlib.Path:
    """Writes `figures/*.png` and `report.html` under `workdir`; returns the page.

    `swept` are the dotted names of the fields that vary, without 'seed', in the order
    of the sweep; `description` tells the question in its first line; `notes` say how
    the sweep was run; `verdicts` are the config's. A file that is there already is
    replaced whole.
    """
    comparison = compare(records, swept)
    folder = workdir / 'figures'
    folder.mkdir(parents=True, exist_ok=True)
    figures = drawn(comparison)
    for old in folder.glob('*.png'):
        old.unlink()
    for picture, png in figures:
        write_atomically(folder / f'{picture.name}.png', png)
    text = page.render(
        comparison,
        figures,
        title=title,
        description=description,
        answer=conclude(comparison),
        notes=notes,
        settled=verdicts,
    )
    path = workdir / 'report.html'
    # UTF-8 has no letter for some bytes of a path.
    write_atomically(path, text.encode(errors='replace'))
    return path


def summary(records: Sequence[Record], swept: Sequence[str]) -> Table:
    """The table of a sweep for a terminal of 100 columns.

    A row for each setting and a column for each arm: the mean of the final test
    accuracy with its interval, and below it the paired difference to the baseline.
    More than three arms stand in rows.
    """
    comparison = compare(records, swept)
    if comparison.field is None:
        return _metrics(comparison)
    short = names(comparison)
    base = arm_name(comparison, comparison.baseline)
    wide = len(comparison.arms) <= WIDE
    last = [arm_name(comparison, arm) for arm in comparison.arms]
    heads = last if wide else [compared_name(comparison), 'test accuracy']
    table = Table(
        title='Final test accuracy',
        caption=Text(
            'mean ± half of the 95 % t-interval over seeds; below it the paired '
            f'difference to {base} [interval], higher or lower where p < 0.05, '
            'Holm-adjusted'
        ),
    )
    for name in [*(short[field] for field in comparison.fields), *heads]:
        table.add_column(Text(name))
    contrasts = {(c.where, c.arm): c for c in _to_baseline(comparison)}
    for setting in comparison.settings:
        shown = [Text(show(value)) for value in setting]
        cells = [
            _cell(comparison.cell(setting, arm), contrasts.get((setting, arm)))
            for arm in comparison.arms
        ]
        if wide:
            table.add_row(*shown, *cells)
        else:
            for arm, cell in zip(comparison.arms, cells, strict=True):
                table.add_row(*shown, Text(show(arm)), cell)
    return table


def _to_baseline(comparison: Comparison) -> list[Contrast]:
    every = at_equal_settings(comparison)
    return [c for c in every if c.against == comparison.baseline]


def _cell(cell: Sequence[Record], contrast: Contrast | None) -> Text:
    text = Text(estimate(mean_of(cell)))
    if contrast:
        if contrast.verdict in COLOURS:
            text.append(f'  {contrast.verdict}', COLOURS[contrast.verdict])
        text.append(f'\n{signed(contrast.difference)}')
    if diverged := count_status(cell, 'diverged'):
        text.append(f'\n{diverged} of {len(cell)} diverged', 'yellow')
    return text


def _metrics(comparison: Comparison) -> Table:
    """The final metrics, where only the seed varies."""
    heads = 'metric', 'mean ± half of the 95 % t-interval', 'seeds'
    table = Table(*heads, title='Last epoch', caption=Text(TRAIN))
    for metric in METRICS:
        mean = mean_of(comparison.records, metric)
        table.add_row(metric, estimate(mean), str(mean.n))
    return table
