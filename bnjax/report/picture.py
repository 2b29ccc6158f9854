"""A picture of the report, and the words and legends that pictures share."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from bnjax.comparison import Comparison
from bnjax.report import drawing
from bnjax.report.wording import arm_name, pair_name, tuned_names

MOST_PANELS = 12
MOST_ROWS = 40
BAND = '95 % t-interval over seeds'


class Picture(NamedTuple):
    """A figure, its file name without suffix, its title, caption and alt text."""

    name: str
    title: str
    figure: Figure
    caption: str
    alt: str


def arm_legend(figure: Figure, comparison: Comparison, **kind: bool) -> None:
    labels = [arm_name(comparison, arm) for arm in comparison.arms]
    drawing.legend(figure, labels, **kind)


def pair_legend(figure: Figure, comparison: Comparison) -> None:
    """An arm's difference to the baseline has the colour of the arm."""
    labels = [pair_name(comparison, *pair) for pair in comparison.pairs[:MOST_ROWS]]
    drawing.legend(figure, labels, first=1, lines=False)


def each_at_best(comparison: Comparison) -> str:
    tuned = tuned_names(comparison)
    return f', each arm at its own best {tuned}' if tuned else ''


def subset(keys: Sequence[Any], most: int = MOST_PANELS) -> str:
    """Says that not all of `keys` are drawn; empty where they are."""
    total = len(keys)
    return f' Only the first {most} of {total} are drawn.' if total > most else ''
