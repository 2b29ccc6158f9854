"""The picture of a study: every claim's interval beside the numbers that decide it."""

import io
import math
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bnjax.report import drawing
from bnjax.report.numbers import estimate, number
from bnjax.stats import Interval
from bnjax.verdict import CONFIRMED, REFUTED, UNDECIDED

WIDTH, AXIS, LEFT = 8.0, 5.0, 0.3  # inches: the figure, an axis, where that begins
DPI = 200
STRIP, ROW, TICKS, LINE, GAP = 0.2, 0.34, 0.24, 0.16, 0.16  # inches, from the top down
LETTERS = 104  # of a title on a line
NARROW = 0.12  # of an axis: too little for a word
MARGIN = 0.25  # of what an axis shows, left free on either side
GREY, DARK = '#767676', '#333333'
SMALL: dict[str, Any] = {'fontsize': 8, 'va': 'center'}
COLOURS = {
    CONFIRMED: drawing.BLUE,
    REFUTED: drawing.VERMILION,
    UNDECIDED: drawing.BLACK,
}
MARKERS = {CONFIRMED: 'o', REFUTED: 'X', UNDECIDED: 'D'}
OPPOSITE = {CONFIRMED: REFUTED, REFUTED: CONFIRMED}
ABOVE, BELOW = 'above', 'below'
DOES = {CONFIRMED: 'confirms', REFUTED: 'refutes'}


class Measured(NamedTuple):
    """A verdict and the interval it stands on."""

    verdict: str
    interval: Interval


class Panel(NamedTuple):
    """What is drawn of a claim.

    Attributes:
      claim: its id, and those of its duplicates.
      effect: what was measured, with its unit.
      measured: the verdict and its interval.
      bounds: the values of the effect that decide, ascending.
      again: the same with other seeds, if there is one.
      confirms: the side of the bounds that confirms, ABOVE or BELOW; '' if neither.
    """

    claim: str
    effect: str
    measured: Measured
    bounds: tuple[float, ...] = ()
    again: Measured | None = None
    confirms: str = ''


class Region(NamedTuple):
    """A part of an axis, and the verdict that an interval within it has."""

    low: float
    high: float
    verdict: str


def forest(panels: Sequence[Panel]) -> bytes:
    """A PNG file with a panel for each claim, one below the other.

    Each has an axis of its own: the mean and its 95 % interval, the bounds as dashed
    lines, the verdicts on either side of them as far as they are known, and, in grey,
    the interval with other seeds. Verdicts are words, markers and colours.

    Args:
      panels: one or more, whose means are finite.
    """
    heights = [_height(panel) for panel in panels]
    figure = Figure((WIDTH, sum(heights) + GAP))
    with matplotlib.rc_context(drawing.STYLE):
        top = figure.get_figheight() - GAP / 2
        for panel, height in zip(panels, heights, strict=True):
            _draw(figure, panel, top)
            top -= height
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=DPI, format='png')
    return buffer.getvalue()


def regions(panel: Panel) -> list[Region]:
    """What the parts of the axis between the bounds mean, as far as that is known.

    The rule may say which side confirms. Or the outcome tells: a decided interval lies
    in a part that has its verdict, with the opposite beyond a single bound, or outside
    of two bounds around it. Where the two disagree no part is named: the verdict then
    rests on more than this interval.
    """
    parts = _parts(panel.bounds)
    told, seen = _told(panel.confirms, parts), _seen(panel, parts)
    known = {(low, high): verdict for low, high, verdict in told}
    if any(known.get((r.low, r.high), r.verdict) != r.verdict for r in seen):
        return []
    return told or seen


def _parts(bounds: Sequence[float]) -> list[tuple[float, float]]:
    edges = [-math.inf, *sorted(bounds), math.inf]
    return list(zip(edges, edges[1:], strict=False)) if bounds else []


def _told(confirms: str, parts: Sequence[tuple[float, float]]) -> list[Region]:
    """By the rule: the outermost parts, one of which confirms."""
    if not (confirms and parts):
        return []
    verdicts = (REFUTED, CONFIRMED) if confirms == ABOVE else (CONFIRMED, REFUTED)
    return [Region(*parts[0], verdicts[0]), Region(*parts[-1], verdicts[1])]


def _seen(panel: Panel, parts: Sequence[tuple[float, float]]) -> list[Region]:
    """By the outcome, or else by that with other seeds."""
    for measured in (panel.measured, panel.again):
        if measured is None or measured.verdict not in OPPOSITE:
            continue
        verdict, interval = measured
        for part in parts:
            if part[0] <= interval.low and interval.high <= part[1]:
                return [Region(*part, verdict)]
    return []


def _height(panel: Panel) -> float:
    return len(_title(panel)) * LINE + _axis_height(panel) + TICKS + GAP


def _axis_height(panel: Panel) -> float:
    return STRIP + ROW * (2 if panel.again else 1)


def _title(panel: Panel) -> list[str]:
    return textwrap.wrap(f'{panel.claim}: {panel.effect}', LETTERS)


def _draw(figure: Figure, panel: Panel, top: float) -> None:
    """Draws a panel whose upper edge is `top` inches above that of the figure."""
    title, height = _title(panel), _axis_height(panel)
    tall = figure.get_figheight()
    for index, line in enumerate(title):
        y = (top - (index + 0.75) * LINE) / tall
        figure.text(LEFT / 2 / WIDTH, y, drawing.plain(line), fontsize=9)
    bottom = top - len(title) * LINE - height
    axes = figure.add_axes((LEFT / WIDTH, bottom / tall, AXIS / WIDTH, height / tall))
    axes.set_xlim(*_range(panel))
    axes.set_ylim(height, 0)
    axes.set_yticks([])
    axes.spines['left'].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: number(x + 0.0)))
    axes.tick_params(labelsize=8)
    _draw_regions(axes, panel)
    _draw_bounds(axes, panel.bounds)
    _draw_interval(axes, panel, panel.measured, STRIP + 0.5 * ROW)
    if panel.again:
        _draw_interval(axes, panel, panel.again, STRIP + 1.5 * ROW, 'other seeds')


def _range(panel: Panel) -> tuple[float, float]:
    """The ends of the axis, which leave each outer part room for a word."""
    measured = [panel.measured, *([panel.again] if panel.again else [])]
    values = [x for m in measured for x in m.interval[:3] if math.isfinite(x)]
    low, high = min([*values, *panel.bounds]), max([*values, *panel.bounds])
    margin = MARGIN * (high - low or abs(high) or 1.0)
    return low - margin, high + margin


def _draw_regions(axes: Axes, panel: Panel) -> None:
    """Tints them; an outer one has its word at the edge, far from a bound's number."""
    left, right = axes.get_xlim()
    for low, high, verdict in regions(panel):
        start, end, colour = max(low, left), min(high, right), COLOURS[verdict]
        axes.axvspan(start, end, color=colour, alpha=0.08, lw=0, zorder=0)
        if end - start < NARROW * (right - left):
            continue
        x, side = (start + end) / 2, 'center'
        if math.isinf(low):
            x, side = start, 'left'
        elif math.isinf(high):
            x, side = end, 'right'
        word = f' {DOES[verdict]} '
        axes.text(x, STRIP / 2, word, color=colour, ha=side, **SMALL)


def _draw_bounds(axes: Axes, bounds: Sequence[float]) -> None:
    sides = ['right', 'left'] if len(bounds) == 2 else ['center'] * len(bounds)
    for bound, side in zip(sorted(bounds), sides, strict=True):
        axes.axvline(bound, color=DARK, lw=1, ls=(0, (4, 3)), zorder=1)
        box = {'facecolor': 'white', 'edgecolor': 'none', 'pad': 1}
        said = f' {number(bound, 3)} '
        axes.text(bound, STRIP / 2, said, color=DARK, bbox=box, ha=side, **SMALL)


def _draw_interval(
    axes: Axes, panel: Panel, measured: Measured, y: float, name: str = ''
) -> None:
    """A mean in its interval at height `y`, and beside the axis both as words."""
    verdict, interval = measured
    colour = GREY if name else COLOURS[verdict]
    axes.plot(
        [interval.low, interval.high], [y, y], color=colour, lw=2, solid_capstyle='butt'
    )
    axes.plot([interval.mean], [y], MARKERS[verdict], color=colour, ms=6.5)
    said = estimate(interval, panel.bounds)
    lines = [f'{name}: {verdict}' if name else verdict, f'{said}, n = {interval.n}']
    for line, shift, weight in zip(
        lines, (-0.08, 0.08), ('bold', 'normal'), strict=True
    ):
        axes.annotate(
            line,
            (1.03, y + shift),
            xycoords=('axes fraction', 'data'),
            color=colour,
            fontsize=8.5,
            fontweight=weight,
            va='center',
            annotation_clip=False,
        )
