"""The records of a sweep, as a config file's ``refine`` and ``verdict`` see them.

A trial that measured ``reestimated_scores`` is judged by them, and by its running
statistics otherwise; by these alone whether it diverged.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from scipy.stats import f, norm, spearmanr

from bnjax.records import Record
from bnjax.stats import LEVEL, Interval, interval

Metric: TypeAlias = str | Callable[[Record], float]

_SETS = range, set, frozenset


@dataclasses.dataclass(frozen=True)
class Results:
    """Records, in the order of the sweep."""

    records: tuple[Record, ...]

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def where(self, **fields: Any) -> 'Results':
        """Those of the trials with these values, by dotted name as ``add`` has them.

        A range or a set stands for any of its members.

        Raises:
          ValueError: there is none.
        """
        found = tuple(r for r in self if all(_is(r, *f) for f in fields.items()))
        if not found:
            raise ValueError(f'results: no trial has {fields}; add one in sweep')
        return Results(found)

    def values_of(self, field: str) -> list[Any]:
        """The values of a field, each once, in the order first seen."""
        return list(dict.fromkeys(record.config[field] for record in self))

    def best(
        self,
        field: str = 'optimizer.learning_rate',
        metric: Metric = 'validation_accuracy',
    ) -> Any:
        """The value of a field with the highest mean metric over seeds.

        Only values with the fewest lost trials can be it, for a mean over the others
        is of what they reached before they were lost. The first of equals.

        Raises:
          ValueError: no trial has a finite metric.
        """
        ranks = {}
        for value in self.values_of(field):
            arm = self.where(**{field: value})
            mean = arm.mean(metric).mean
            if math.isfinite(mean):
                ranks[value] = -sum(map(lost, arm)), mean
        if not ranks:
            raise ValueError(f'results: no {field} has a finite {metric}')
        return max(ranks, key=ranks.__getitem__)

    def by_seed(self, metric: Metric) -> dict[int, float]:
        """A metric of each trial; failed ones are nan.

        Raises:
          ValueError: two trials have one seed, so that they are not one arm.
        """
        found: dict[int, float] = {}
        for record in self:
            seed = record.config['seed']
            if seed in found:
                raise ValueError(
                    f'results: two trials of one arm have seed {seed}; '
                    'choose one arm with where(...)'
                )
            found[seed] = _value(record, metric)
        return found

    def mean(self, metric: Metric) -> Interval:
        """The mean of a metric over the seeds with its 95 % t-interval."""
        return interval(list(self.by_seed(metric).values()))

    def minus(self, other: 'Results', metric: Metric) -> dict[int, float]:
        """The metric's differences to another arm, by seed, of the seeds both have."""
        ours, theirs = self.by_seed(metric), other.by_seed(metric)
        return {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}

    def difference(self, other: 'Results', metric: Metric, cells: int = 1) -> Interval:
        """The mean difference to another arm, paired by seed, with its t-interval.

        Args:
          other: the arm that is subtracted.
          metric: its name, or a function of a record.
          cells: intervals that are to hold together: each has the level 1 - .05/cells
            (Bonferroni), so that all of them hold with 95 %.
        """
        differences = list(self.minus(other, metric).values())
        if all(map(lost, (*self, *other))):
            differences = []  # nothing was learned, so nothing was seen to differ
        return interval(differences, level=LEVEL / cells)


def lost(record: Record) -> bool:
    """Whether a trial failed, diverged, or ended worse than by guessing.

    That is with losses worse than of guessing, both of the training images, over the
    last epoch, and of the test images.
    """
    worst = math.log(_classes(record)) + 0.1
    losses = [_final(record, name) for name in ('train_loss', 'test_loss')]
    bad = math.isnan(losses[-1]) or not any(loss <= worst for loss in losses)
    return record.status != 'done' or bad


def accuracy(record: Record) -> float:
    """The share of test images that is right in the end; of chance for a lost trial.

    It is nan for one that failed, which says nothing of its arm.
    """
    if record.status == 'failed':
        return math.nan
    return 1 / _classes(record) if lost(record) else _final(record, 'test_accuracy')


def curve(record: Record, name: str) -> np.ndarray:
    """A loss or an accuracy (epochs + 1,): before training, and after each epoch.

    It is empty for a trial that failed.
    """
    running = record.curves.get(name, np.zeros(0))
    return record.curves.get(f'reestimated_{name}', running)


def steps_to(
    target: float, metric: str = 'validation_accuracy'
) -> Callable[[Record], float]:
    """A metric: the steps until an accuracy reached a target, or a loss fell to it.

    Between two evaluations the way is taken as straight. A trial that never reached
    it counts with all its steps, which is too few: it is censored.
    """

    def steps(record: Record) -> float:
        values = curve(record, metric)
        if not len(values):
            return math.nan
        sign = -1 if metric.endswith('loss') else 1
        beyond = sign * (values - target) >= 0
        if not beyond.any():
            return float(record.steps)
        at = int(beyond.argmax())
        if at == 0:
            return 0.0
        before, after = values[at - 1], values[at]
        share = (target - before) / (after - before) if np.isfinite(before) else 1.0
        return float((at - 1 + share) * record.steps / (len(values) - 1))

    return steps


def log_steps_to(
    target: float, metric: str = 'validation_accuracy'
) -> Callable[[Record], float]:
    """A metric: the natural logarithm of ``steps_to``, at least of one step."""
    steps = steps_to(target, metric)
    return lambda record: math.log(max(steps(record), 1.0))


def correlation(x: Sequence[float], y: Sequence[float]) -> Interval:
    """Spearman's rank correlation (N,), (N,) with its 95 % interval by Fisher's z.

    It is nan where one of the two does not vary, the interval where N < 4.
    """
    n = len(x)
    if min(len(set(x)), len(set(y))) < 2:
        return Interval(math.nan, math.nan, math.nan, n)
    rho = float(np.clip(spearmanr(x, y).statistic, -1, 1))
    half = norm.isf(LEVEL / 2) * math.sqrt(1.06 / (n - 3)) if n > 3 else math.nan
    with np.errstate(divide='ignore'):  # of 1, whose z is infinite
        low, high = np.tanh(np.arctanh(rho) + half * np.array([-1, 1])).tolist()
    return Interval(rho, low, high, n)


def ratio_of_deviations(x: Sequence[float], y: Sequence[float]) -> Interval:
    """The standard deviation of x (N,) over that of y (N,), with its 95 % F-interval.

    For independent normal values.
    """
    n = len(x)
    ratio = float(np.std(x, ddof=1) / np.std(y, ddof=1))
    factor = math.sqrt(f.isf(LEVEL / 2, n - 1, n - 1))
    return Interval(ratio, ratio / factor, ratio * factor, n)


def probe(record: Record, name: str) -> np.ndarray:
    """What a probe measured: (samples, layers), the layers in the order of depth.

    It is nan for a trial that failed; of an MLP, for the other networks name more
    layers than they have features.
    """
    found = record.curves.get(f'probe/{name}')
    if found is not None:
        return found
    fields = record.config
    samples = len(range(0, fields['steps'], fields['probes.every']))
    layers = len(fields['model.features']) + name.startswith('gradient')
    return np.full((samples, layers), np.nan)


def _is(record: Record, field: str, value: Any) -> bool:
    own = record.config[field]
    return own in value if isinstance(value, _SETS) else own == value


def _value(record: Record, metric: Metric) -> float:
    return metric(record) if callable(metric) else _final(record, metric)


def _final(record: Record, name: str) -> float:
    again = record.curves.get(f'reestimated_{name}')
    if again is None:
        return record.metrics[name]
    known = again[np.isfinite(again)] if record.status == 'diverged' else again
    return float(known[-1]) if len(known) else math.nan


def _classes(record: Record) -> int:
    return 100 if record.config['data.name'] == 'cifar100' else 10
