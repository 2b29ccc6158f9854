"""What the figures are drawn with: panels, marks with intervals, legends, style.

An arm is drawn by its index: a colour that colour-blind eyes tell apart, and a marker
and a line style that survive grey print.
"""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import FuncNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, SymmetricalLogLocator
from numpy.typing import ArrayLike

from bnjax.stats import Interval

WIDTH = 9.0  # inches; the page shows 100 pixels for each
BLACK, BLUE, VERMILION, GREEN = '#000000', '#0072B2', '#D55E00', '#009E73'
PURPLE, SKY, ORANGE = '#CC79A7', '#56B4E9', '#E69F00'
COLOURS = [BLACK, BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE]
MARKERS = ['o', 's', '^', 'D', 'v', 'P', 'X']
LINES = ['--', '-', '-.', ':']
ERROR_FLOOR = 0.003
ACCURACY_TICKS = [0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0]
DIFFERENCE_TICKS = [-1, -0.1, -0.01, 0, 0.01, 0.1, 1]
NEAR_ZERO = 0.01  # differences below it are drawn on a linear scale
STYLE: dict[Any, Any] = {
    'font.size': 9,
    'axes.titlesize': 9,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'grid.color': '#e4e4e4',
    'grid.linewidth': 0.6,
    'axes.axisbelow': True,
    'legend.frameon': False,
    'lines.linewidth': 1.4,
    'lines.markersize': 4.5,
}


def colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    return MARKERS[index % len(MARKERS)]


def line(index: int) -> str:
    return LINES[index % len(LINES)]


def plain(text: str) -> str:
    """Text in which a dollar sign does not begin a formula."""
    return text.replace('$', r'\$')


def panels(
    count: int, height: float, *, columns: int = 4, share: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` axes in rows of at most `columns`, each `height` inches."""
    rows = math.ceil(count / columns)
    columns = math.ceil(count / rows)
    width = min(WIDTH, 1.0 + 4.0 * columns)
    figure = Figure((width, 0.5 + rows * height), layout='constrained')
    grid = figure.subplots(rows, columns, squeeze=False, sharey=share)
    axes = list(grid.flat)
    for unused in axes[count:]:
        unused.remove()
    return figure, axes[:count]


def label_left(axes: Sequence[Axes], label: str) -> None:
    """Names the y axis of the first panel of every row."""
    for panel in axes:
        where = panel.get_subplotspec()
        if where is not None and where.is_first_col():
            panel.set_ylabel(label)


def dodge(count: int, width: float) -> np.ndarray:
    """Offsets (count,) that set `count` marks side by side within `width`."""
    return (np.arange(count) - (count - 1) / 2) * (width / max(count, 1))


def positions(values: Sequence[float]) -> tuple[np.ndarray, bool]:
    """Where ascending values stand on an axis, and whether by their logarithm."""
    if min(values) > 0:
        return np.log10(values), True
    return np.arange(len(values), dtype=float), False


def stretch_accuracy(axes: Axes) -> None:
    """Widens the y axis towards an accuracy of 1, where trained networks differ.

    Heights go with the logarithm of the error, 0.3 % added so that 1 has a place.
    """
    axes.set_yscale('function', functions=(_stretched, _accuracy))
    axes.autoscale(axis='y')
    low, high = axes.get_ylim()
    high = min(high, 1.0)
    axes.set_ylim(low, high)
    accuracy_ticks(axes.yaxis, low, high)


def stretched(low: float, high: float) -> Normalize:
    """Colours of accuracies from `low` to `high`, stretched in the same way."""
    margin = 1e-3 if low == high else 0.0
    functions = _stretched, _accuracy
    return FuncNorm(functions, vmin=low - margin, vmax=high)


def accuracy_ticks(axis: Axis, low: float, high: float) -> None:
    """Puts ticks at round accuracies, where three of them are in the range."""
    ticks = [tick for tick in ACCURACY_TICKS if low <= tick <= high]
    if len(ticks) > 2:
        axis.set_ticks(ticks, labels=[f'{tick:g}' for tick in ticks])


def _stretched(accuracy: np.ndarray) -> np.ndarray:
    return -np.log(np.maximum(1 + ERROR_FLOOR - np.asarray(accuracy), ERROR_FLOOR / 2))


def _accuracy(height: np.ndarray) -> np.ndarray:
    return 1 + ERROR_FLOOR - np.exp(-np.asarray(height))


def across(axes: Axes, value: Interval, y: float, index: int) -> None:
    """A mean with its interval, lying at height `y`."""
    axes.plot([value.low, value.high], [y, y], color=colour(index), lw=1.6)
    axes.plot([value.mean], [y], marker(index), color=colour(index), ms=5.5)


def upright(axes: Axes, x: np.ndarray, values: Sequence[Interval], index: int) -> None:
    """Means with their intervals at each `x`, joined by a line."""
    mean, low, high, _ = np.array(values, dtype=float).reshape(-1, 4).T
    axes.plot(x, mean, marker=marker(index), ls=line(index), color=colour(index))
    axes.vlines(x, low, high, lw=1.6, color=colour(index))


def band(axes: Axes, x: np.ndarray, values: Interval, index: int) -> None:
    """A curve of means (E,) in the band of its intervals."""
    axes.fill_between(x, values.low, values.high, color=colour(index), alpha=0.18, lw=0)
    axes.plot(x, values.mean, ls=line(index), color=colour(index))


def seeds(axes: Axes, x: ArrayLike, y: ArrayLike, index: int) -> None:
    """Single trials, faint."""
    axes.plot(x, y, '.', ms=3.5, mew=0, alpha=0.45, color=colour(index))


def zero_lines(panels: Sequence[Axes]) -> str:
    """Marks 0 on the x axes, gives them one range, and returns a note on their scale.

    Where differences are far apart the scale turns logarithmic, or else one arm that
    fails would hide all the small differences.
    """
    for axes in panels:
        axes.axvline(0, color='#555555', lw=1, zorder=0)
    low, high = _common_range(panels)
    wide = max(-low, high) > 10 * NEAR_ZERO
    if wide:
        for axes in panels:
            axes.set_xscale('symlog', linthresh=NEAR_ZERO, linscale=1)
            minor = SymmetricalLogLocator(None, range(2, 10), NEAR_ZERO, 10)
            axes.xaxis.set_minor_locator(minor)
            axes.autoscale(axis='x')  # its margins belong to the scale
        low, high = _common_range(panels)
    for axes in panels:
        if wide:
            ticks = [tick for tick in DIFFERENCE_TICKS if low <= tick <= high]
            axes.set_xticks(ticks, [f'{tick:+g}' if tick else '0' for tick in ticks])
        axes.set_xlim(low, high)
    return f', logarithmic beyond ±{NEAR_ZERO:g}' if wide else ''


def _common_range(panels: Sequence[Axes]) -> tuple[float, float]:
    limits = [axes.get_xlim() for axes in panels]
    return min(low for low, _ in limits), max(high for _, high in limits)


def epochs(axes: Axes) -> None:
    """Names the x axis and keeps its ticks whole."""
    axes.set_xlabel('epoch')
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def rows(axes: Axes, labels: Sequence[str]) -> None:
    """Names the rows at heights 0, 1, ... from the top down, a line between any two."""
    axes.set_yticks(range(len(labels)), [plain(label) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis='y', length=0)
    axes.grid(False, axis='y')
    for edge in range(1, len(labels)):
        axes.axhline(edge - 0.5, color='#e4e4e4', lw=0.6, zorder=0)


def legend(
    figure: Figure,
    labels: Sequence[str],
    *,
    first: int = 0,
    lines: bool = True,
    markers: bool = True,
) -> None:
    """Names what is drawn with the indices `first`, `first + 1`, ..., above all.

    A label too long for the figure, which would cut it off, is broken into lines.
    """
    fitting = int((figure.get_figwidth() - 0.8) / 0.11)
    labels = [textwrap.fill(label, fitting) for label in labels]
    handles = [
        Line2D(
            [],
            [],
            color=colour(index),
            ls=line(index) if lines else '-',
            marker=marker(index) if markers else '',
            label=plain(label),
        )
        for index, label in enumerate(labels, first)
    ]
    longest = max(len(line) for label in labels for line in label.splitlines())
    fitting = int(figure.get_figwidth() / (0.8 + 0.08 * longest))
    columns = max(1, min(len(handles), 4, fitting))
    rows = math.ceil(len(handles) / columns)
    figure.set_figheight(figure.get_figheight() + 0.19 * (rows - 1))
    figure.legend(
        handles=handles,
        loc='outside upper center',
        ncols=columns,
        handlelength=3,
    )
