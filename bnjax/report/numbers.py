"""Measured numbers in words: means with intervals of any size, counts, times."""

import math
from collections.abc import Sequence

from bnjax.stats import Interval

LARGEST, SMALLEST = 1e5, 1e-3  # beyond these a number has an exponent
MOST_DECIMALS = 6


def estimate(mean: Interval, bounds: Sequence[float] = ()) -> str:
    """A mean with its interval, '1.32 [1.10, 1.54]'; a bare mean where n is 1.

    It has two digits of the interval's half width, and more where an end would else
    be written as one of the `bounds`, or as a number on the other side of it.
    """
    if not math.isfinite(mean.mean):
        return 'unknown'
    if not (math.isfinite(mean.low) and math.isfinite(mean.high)):
        return number(mean.mean)
    ends = mean.low, mean.high
    exponent = _exponent(max(map(abs, ends)))
    decimals = _decimals(ends, bounds, exponent)
    middle, low, high = (
        _written(value, exponent, decimals) for value in (mean.mean, *ends)
    )
    return f'{middle} [{low}, {high}]'


def plus_minus(mean: Interval, decimals: int = 2, factor: float = 1) -> str:
    """A mean with half the width of its interval, '95.13 ± 0.24', both times a factor.

    >>> plus_minus(Interval(0.951, 0.949, 0.953, 10), factor=100)
    '95.10 ± 0.20'
    """
    half = (mean.high - mean.low) / 2
    return f'{factor * mean.mean:.{decimals}f} ± {factor * half:.{decimals}f}'


def _exponent(size: float) -> int:
    """The power of ten that numbers of this size are written with; 0 for none."""
    if size == 0 or SMALLEST <= size < LARGEST:
        return 0
    return math.floor(math.log10(size))


def _decimals(ends: tuple[float, float], bounds: Sequence[float], exponent: int) -> int:
    low, high = (end / 10.0**exponent for end in ends)
    half = (high - low) / 2 or max(abs(low) / 100, 1e-3)
    least = min(max(0, 1 - math.floor(math.log10(half))), MOST_DECIMALS)
    scaled = [bound / 10.0**exponent for bound in bounds]

    def apart(decimals: int) -> bool:
        return all(
            _side(end, bound) == _side(round(end, decimals), bound)
            for end in (low, high)
            for bound in scaled
        )

    return next(filter(apart, range(least, MOST_DECIMALS)), MOST_DECIMALS)


def _side(value: float, bound: float) -> int:
    return (value > bound) - (value < bound)


def _written(value: float, exponent: int, decimals: int) -> str:
    suffix = f'e{exponent}' if exponent else ''
    return f'{value / 10.0**exponent:z.{decimals}f}{suffix}'


def number(value: float, digits: int = 5) -> str:
    """A number with at most so many digits, '0.22' or '1.5e6'."""
    exponent = _exponent(abs(value)) if math.isfinite(value) else 0
    suffix = f'e{exponent}' if exponent else ''
    return f'{value / 10.0**exponent:.{digits}g}{suffix}'


def thousands(count: int) -> str:
    """A count with its digits in groups, '1 000 000'."""
    return f'{count:,}'.replace(',', ' ')


def duration(seconds: float) -> str:
    """A time, '48 s', '13 min 32 s' or '1 h 5 min'."""
    whole = round(seconds)
    if whole < 60:
        return f'{whole} s'
    if whole < 3600:
        return f'{whole // 60} min {whole % 60} s'
    minutes = round(seconds / 60)
    return f'{minutes // 60} h {minutes % 60} min'
