"""Means over seeds: intervals, tests of differences, their number, their power."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special, stats

LEVEL = 0.05  # of a test; an interval covers the rest
POWER = 0.8
ALIKE = 1e-6  # accuracies are float32: a smaller deviation is but rounding
MOST_SEEDS = 1_000_000


class Interval(NamedTuple):
    """A mean, its 95 % t-interval, and the number of finite values behind it.

    `low` and `high` are nan where `n < 2`, `mean` is nan where `n == 0`. The fields
    are floats (`n` an int), or arrays of one shape.
    """

    mean: Any
    low: Any
    high: Any
    n: Any


def interval(values: Any, level: float = LEVEL) -> Interval:
    """The mean of `values` (N, ...) over their first axis with its t-interval.

    It covers `1 - level`. Non-finite values are missing. Equal values give an
    interval of width 0.
    """
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    n = known.sum(0)
    filled = np.where(known, values, 0.0)
    mean = filled.sum(0) / np.where(n > 0, n, np.nan)
    squares = np.where(known, (filled - mean) ** 2, 0.0).sum(0)
    variance = squares / np.where(n > 1, n - 1, np.nan)
    half = _quantile(n, level) * np.sqrt(variance / np.maximum(n, 1))
    found = Interval(mean, mean - half, mean + half, n)
    return found if values.ndim > 1 else Interval(*(v.item() for v in found))


def deviation(mean: Interval) -> Any:
    """The standard deviation of the values behind a 95 % interval; nan if `n < 2`."""
    return (mean.high - mean.low) / 2 / _quantile(mean.n) * np.sqrt(mean.n)


def alike(mean: Interval) -> Any:
    """Whether two values or more are behind an interval, equal but for rounding."""
    return deviation(mean) < ALIKE


def p_value(difference: Interval) -> Any:
    """The two-sided p-value of the t-test that a mean difference is 0.

    Of paired differences it is that of the paired t-test, which is below 0.05 where
    the interval excludes 0. Differences that are alike have no deviation to judge
    them by, as a few small counts of images often are: their signs alone speak, and p
    is 2 / 2^n, or 1 where they are 0. It is nan where `n < 2`. A float, or an array
    of the shape of the fields.
    """
    mean, n = np.asarray(difference.mean), np.asarray(difference.n)
    same = alike(difference)
    error = np.where(same, 1.0, deviation(difference)) / np.sqrt(np.maximum(n, 1))
    p = 2 * special.stdtr(np.maximum(n - 1, 1), -np.abs(mean) / error)
    signs = np.where(np.abs(mean) < ALIKE, 1.0, 2.0 ** (1.0 - n))
    p = np.where(same, signs, p)
    return p if p.ndim else p.item()


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """The p-values (N,) of a family of tests, adjusted by Holm's method.

    Where those below 0.05 are called differences, the chance of calling any that is
    none is at most 5 %, whatever the dependence between the tests. nan is no test: it
    stays nan and does not count.
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p)[: np.isfinite(p).sum()]  # nan sorts last
    weighted = p[order] * np.arange(len(order), 0, -1)
    adjusted = np.full_like(p, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(weighted), 1.0)
    return adjusted


def verdict(difference: Interval, p: float) -> str:
    """What a difference with its (adjusted) p-value says, in words.

    'higher' or 'lower' where p is below 0.05, else 'no difference seen'; 'one seed'
    where one pair gives no test, 'missing' where there is no pair.
    """
    if difference.n < 2:
        return 'one seed' if difference.n else 'missing'
    if p < LEVEL:
        return 'higher' if difference.mean > 0 else 'lower'
    return 'no difference seen'


def power(difference: float, deviation: float, n: int) -> float:
    """The chance that the paired t-test of `n` seeds sees a true difference.

    Two-sided at 5 %, for normal differences of this mean and standard deviation.
    """
    shift = abs(difference) / deviation * math.sqrt(n)
    bound = _quantile(n)
    seen = stats.nct.sf(bound, n - 1, shift) + stats.nct.cdf(-bound, n - 1, shift)
    return float(seen)


def seeds_needed(difference: float, deviation: float) -> int | None:
    """The fewest seeds with which the paired t-test sees a difference.

    That is with a power of 80 %, two-sided at 5 %, where paired differences have the
    standard deviation `deviation`. None where that cannot be said: either is 0 (or
    but rounding), unknown, or a million seeds would not do.
    """
    if not (abs(difference) > 0 and deviation >= ALIKE):
        return None
    enough = 2
    while power(difference, deviation, enough) < POWER:
        enough *= 2
        if enough > MOST_SEEDS:
            return None
    few = enough // 2  # too few, but for enough == 2
    while enough - few > 1:
        middle = (few + enough) // 2
        if power(difference, deviation, middle) < POWER:
            few = middle
        else:
            enough = middle
    return enough


def median_time(times: Sequence[float], reached: Sequence[bool]) -> float:
    """The time by which half have reached an event, by Kaplan and Meier's estimate.

    Args:
      times: (N,) when each reached it, or until when it was watched in vain.
      reached: (N,) which did; the others are censored.

    Returns:
      inf where less than half did as long as they were watched, nan for N = 0.
    """
    if not len(times):
        return math.nan
    at, did = np.asarray(times, np.float64), np.asarray(reached, bool)
    if not did.any():
        return math.inf
    left = stats.ecdf(stats.CensoredData(uncensored=at[did], right=at[~did])).sf
    halved = left.quantiles[left.probabilities < 0.5 + 1e-9]
    return float(halved.min(initial=math.inf))


def _quantile(n: Any, level: float = LEVEL) -> Any:
    """Half the width of a t-interval of `n` values, in standard errors."""
    return special.stdtrit(np.maximum(n - 1, 1), 1 - level / 2)
