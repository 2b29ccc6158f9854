"""How many epochs it took to reach an accuracy, counting trials that never did."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bnjax.comparison import Comparison, mean_of
from bnjax.records import Record
from bnjax.report.wording import compared_name, names, show
from bnjax.stats import median_time

SHARE = 0.9  # of the best mean accuracy: the target


class Arrival(NamedTuple):
    """When a trial reached a target, in epochs, or how long it was watched in vain."""

    epoch: float
    reached: bool


class Targets(NamedTuple):
    """A table of texts: its title and caption, the names of its columns, its rows."""

    title: str
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def steps_to(record: Record, metric: str, target: float) -> Arrival | None:
    """The first epoch at whose end a metric of a trial is at its target or beyond.

    That is at most `target` for a loss, at least `target` for an accuracy. A trial
    that does not reach it is censored at its last epoch: one that diverged, too, for
    it would not have reached it later. None for a trial without the curve, which
    failed.
    """
    values = record.curves.get(metric, np.zeros(0))
    if not len(values):
        return None
    there = values <= target if metric.endswith('loss') else values >= target
    hits = np.flatnonzero(there)
    at = hits[0] if len(hits) else -1
    return Arrival(float(record.curves['epoch'][at]), bool(len(hits)))


def target_of(comparison: Comparison) -> tuple[str, float]:
    """The metric and the accuracy that the trials of a sweep are to reach.

    It is 0.9 of the best mean accuracy at the end of training that any arm has at any
    setting, to two digits; of the training images where there is no validation split,
    never of the test set. It is nan where no trial has a finite one.
    """
    validated = comparison.criterion.startswith('validation')
    metric = 'validation_accuracy' if validated else 'train_accuracy'
    means = [mean_of(cell, metric).mean for cell in comparison.cells.values()]
    best = max(filter(math.isfinite, means), default=math.nan)
    return metric, float(f'{SHARE * best:.2g}')


def epochs_to_target(comparison: Comparison) -> Targets | None:
    """The table of epochs to the target, a row for each arm at each setting.

    None where no trial has a curve, or no finite accuracy.
    """
    metric, target = target_of(comparison)
    heads = [names(comparison)[field] for field in comparison.fields]
    rows = []
    for setting in comparison.settings:
        for arm in comparison.arms:
            cell = comparison.cell(setting, arm)
            arrivals = [a for r in cell if (a := steps_to(r, metric, target))]
            named = [*setting, arm] if comparison.field else setting
            if arrivals:
                rows.append([*map(show, named), *_summary(arrivals)])
    if not rows or math.isnan(target):
        return None
    compared = [compared_name(comparison)] if comparison.field else []
    name = metric.replace('_', ' ')
    return Targets(
        f'Epochs to {target:g} {name}',
        f'The first epoch at whose end the {name} is {target:g} or more: {SHARE:g} of '
        'the best mean of any setting, to two digits. Trials that never reach it, '
        'diverged ones too, count as censored at their last epoch (Kaplan and Meier).',
        [*heads, *compared, 'median', 'first', 'last', 'reached', 'trials'],
        rows,
    )


def _summary(arrivals: Sequence[Arrival]) -> list[str]:
    """Median, first and last epoch, how many reached it, and of how many trials."""
    median = median_time(*zip(*arrivals, strict=True))
    there = [arrival.epoch for arrival in arrivals if arrival.reached]
    return [
        show(median) if math.isfinite(median) else 'not reached by half',
        *([show(min(there)), show(max(there))] if there else ['', '']),
        str(len(there)),
        str(len(arrivals)),
    ]
