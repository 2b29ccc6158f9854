"""A sweep's report: a table for the terminal, figures, and a page."""

import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from rich.table import Table
from rich.text import Text

from bnjax.records import METRICS, Record, write_atomically
from bnjax.report import drawing, page
from bnjax.report.answer import conclude, headlines
from bnjax.report.figures import pictures
from bnjax.report.picture import Picture
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
from bnjax.stats import Comparison, compare, mean_of, verdict

__all__ = ['headlines', 'summary', 'write']

DPI = 200  # two pixels of the file for each of the page
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
) -> pathlib.Path:
    """Writes `figures/*.png` and `report.html` under `workdir`; returns the page.

    `swept` are the dotted names of the fields that vary, without 'seed', in the order
    of the sweep; `description` tells the question in its first line; `notes` say how
    the sweep was run. A file that is there already is replaced whole.
    """
    comparison = compare(records, swept)
    folder = workdir / 'figures'
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(drawing.STYLE):
        drawn = [(picture, _png(picture)) for picture in pictures(comparison)]
    for old in folder.glob('*.png'):
        old.unlink()
    for picture, png in drawn:
        write_atomically(folder / f'{picture.name}.png', png)
    text = page.render(
        comparison,
        drawn,
        title=title,
        description=description,
        answer=conclude(comparison),
        notes=notes,
    )
    path = workdir / 'report.html'
    write_atomically(path, text.encode())
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
            f'difference to {base} [interval]'
        ),
    )
    for name in [*(short[field] for field in comparison.fields), *heads]:
        table.add_column(Text(name))
    for setting in comparison.settings:
        shown = [Text(show(value)) for value in setting]
        cells = [_cell(comparison, setting, arm) for arm in comparison.arms]
        if wide:
            table.add_row(*shown, *cells)
        else:
            for arm, cell in zip(comparison.arms, cells, strict=True):
                table.add_row(*shown, Text(show(arm)), cell)
    return table


def _cell(comparison: Comparison, setting: tuple[Any, ...], arm: Any) -> Text:
    cell = comparison.cell(setting, arm)
    text = Text(estimate(mean_of(cell)))
    if arm != comparison.baseline:
        difference = comparison.difference(setting, arm, comparison.baseline)
        word = verdict(difference)
        if word in COLOURS:
            text.append(f'  {word}', COLOURS[word])
        text.append(f'\n{signed(difference)}')
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


def _png(picture: Picture) -> bytes:
    buffer = io.BytesIO()
    picture.figure.savefig(buffer, dpi=DPI, format='png')
    return buffer.getvalue()
