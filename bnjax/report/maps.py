"""Maps of a sweep over two of its fields: how good, and how often it diverged."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure

from bnjax.comparison import Comparison, mean_of
from bnjax.records import Record
from bnjax.report import drawing
from bnjax.report.picture import MOST_PANELS, Picture, subset
from bnjax.report.wording import arm_name, count_status, names, show

MOST_NUMBERED = 64  # cells of a map in which numbers are written


class Plane(NamedTuple):
    """The fields that a map's axes stand for, and those a map has one value of."""

    across: str
    up: str | None
    others: tuple[str, ...]


def plane(comparison: Comparison) -> Plane | None:
    """The first two swept numbers as axes; or one and the arms; None without any."""
    compared = () if comparison.field is None else (comparison.field,)
    fields = (*comparison.fields, *compared)
    numbers = [name for name in fields if _is_number(comparison.records, name)]
    if not numbers:
        return None
    # Beside one number stand the arms, if it is not they that are numbers.
    candidates = [*numbers[1:], *compared]
    across, up = numbers[0], next((n for n in candidates if n != numbers[0]), None)
    others = tuple(name for name in fields if name not in (across, up))
    return Plane(across, up, others)


def _is_number(records: Sequence[Record], field: str) -> bool:
    values = [record.config[field] for record in records]
    return all(isinstance(v, int | float) and type(v) is not bool for v in values)


def accuracy_map(comparison: Comparison) -> Picture | None:
    """Mean final test accuracy over two fields; None where fewer are numbers."""
    axes_of = plane(comparison)
    if axes_of is None or not axes_of.up:
        return None
    if not _is_number(comparison.records, axes_of.up):
        return None
    maps = _maps(comparison, axes_of, lambda cell: mean_of(cell).mean)
    known = [value for values in maps.values() for value in values[np.isfinite(values)]]
    if not known:
        return None
    norm = drawing.stretched(min(known), max(known))
    figure = _draw(comparison, axes_of, maps, norm, 'cividis', '{:.3f}')
    drawing.accuracy_ticks(figure.axes[-1].yaxis, min(known), max(known))
    figure.axes[-1].set_ylabel('mean final test accuracy (fraction)')
    return Picture(
        'accuracy_map',
        f'Final test accuracy by {_axes_names(comparison, axes_of)}',
        figure,
        'Shows whether the two fields act together, and whether the best lies at an '
        'edge of what was tried: mean over seeds, yellow is best, grey was not run or '
        f'failed. The colour scale is stretched towards 1.{subset(list(maps))}',
        'Heat maps of the accuracies listed in the table of all settings.',
    )


def divergence_map(comparison: Comparison) -> Picture | None:
    """Share of diverged trials over one field or two; None where none diverged."""
    axes_of = plane(comparison)
    if axes_of is None or not count_status(comparison.records, 'diverged'):
        return None
    maps = _maps(comparison, axes_of, _diverged)
    figure = _draw(comparison, axes_of, maps, Normalize(0, 1), 'Oranges', '{:.0%}')
    figure.axes[-1].set_ylabel('share of trials that diverged')
    return Picture(
        'divergence_map',
        f'Where training diverged, by {_axes_names(comparison, axes_of)}',
        figure,
        'Shows where training breaks down: the share of trials, over seeds, whose loss '
        f'stopped being finite; grey was not run.{subset(list(maps))}',
        'Heat maps of the diverged trials counted in the table of all settings.',
    )


def _diverged(cell: Sequence[Record]) -> float:
    return count_status(cell, 'diverged') / len(cell)


def _axes_names(comparison: Comparison, axes_of: Plane) -> str:
    short = names(comparison)
    fields = [axes_of.across, *([axes_of.up] if axes_of.up else [])]
    return ' and '.join(short[field] for field in fields)


def _values(comparison: Comparison, field: str | None) -> list[Any]:
    """Of a field, in the order of the axis it has; [None] for no field."""
    if field is None:
        return [None]
    seen = list(dict.fromkeys(record.config[field] for record in comparison.records))
    if _is_number(comparison.records, field):
        return sorted(seen)
    return list(comparison.arms) if field == comparison.field else seen


def _maps(
    comparison: Comparison, axes_of: Plane, value: Callable[[Sequence[Record]], float]
) -> dict[tuple[Any, ...], np.ndarray]:
    """For each setting of the other fields an array (up, across), nan where empty."""
    across = {v: i for i, v in enumerate(_values(comparison, axes_of.across))}
    up = {v: i for i, v in enumerate(_values(comparison, axes_of.up))}
    cells: dict[tuple[Any, ...], list[Record]] = {}
    for setting in comparison.settings:
        for arm in comparison.arms:
            for r in comparison.cell(setting, arm):
                other = tuple(r.config[name] for name in axes_of.others)
                row = up[r.config[axes_of.up] if axes_of.up else None]
                key = other, row, across[r.config[axes_of.across]]
                cells.setdefault(key, []).append(r)
    maps: dict[tuple[Any, ...], np.ndarray] = {}
    for (other, row, column), cell in cells.items():
        empty = np.full((len(up), len(across)), np.nan)
        maps.setdefault(other, empty)[row, column] = value(cell)
    return maps


def _draw(
    comparison: Comparison,
    axes_of: Plane,
    maps: dict[tuple[Any, ...], np.ndarray],
    norm: Normalize,
    colours: str,
    numbers: str,
) -> Figure:
    shown = dict(list(maps.items())[:MOST_PANELS])
    across, up = (_values(comparison, f) for f in (axes_of.across, axes_of.up))
    arms = comparison.field in axes_of.others
    columns = min(len(comparison.arms), 4) if arms else 3
    height = 1.1 + min(0.32 * len(up), 3.5)
    figure, panels = drawing.panels(len(shown), height, columns=columns)
    cmap = matplotlib.colormaps[colours].with_extremes(bad='#d0d0d0')
    short = names(comparison)
    for axes, (other, values) in zip(panels, shown.items(), strict=True):
        image = axes.imshow(
            values, cmap, norm, aspect='auto', origin='lower', interpolation='nearest'
        )
        if values.size <= MOST_NUMBERED:
            _number(axes, values, cmap, norm, numbers)
        axes.grid(False)
        _ticks(axes, across, up)
        if axes_of.up and not _is_number(comparison.records, axes_of.up):
            axes.set_ylim(len(up) - 0.5, -0.5)  # words are read from the top down
        axes.set_xlabel(short[axes_of.across])
        axes.set_title(drawing.plain(_title(comparison, axes_of.others, other)))
    if axes_of.up:
        drawing.label_left(panels, short[axes_of.up])
    figure.colorbar(image, ax=panels, aspect=30, pad=0.02)
    return figure


def _number(
    axes: Axes, values: np.ndarray, cmap: Colormap, norm: Normalize, text: str
) -> None:
    """Writes each value into its cell, black on light and white on dark."""
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            light = np.dot(cmap(norm(value))[:3], (0.3, 0.6, 0.1)) > 0.5
            ink = 'black' if light else 'white'
            said = text.format(value)
            axes.text(column, row, said, ha='center', va='center', c=ink, fontsize=8)


def _ticks(axes: Axes, across: Sequence[Any], up: Sequence[Any]) -> None:
    """Names the columns and rows, or so many of them as there is room for."""
    for axis, values in ((axes.xaxis, across), (axes.yaxis, up)):
        at = range(0, len(values), -(-len(values) // 8))
        labels = [drawing.plain(show(values[i])) for i in at]
        axis.set_ticks(list(at), [] if values == [None] else labels)
    if values == [None]:
        axes.set_yticks([])


def _title(comparison: Comparison, fields: Sequence[str], values: Sequence[Any]) -> str:
    """The other fields' values in words, a line for the arm."""
    short = names(comparison)
    said = [
        arm_name(comparison, value)
        if field == comparison.field
        else f'{short[field]} {show(value)}'
        for field, value in zip(fields, values, strict=True)
    ]
    return '\n'.join(said)
