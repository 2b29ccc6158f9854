"""The words for a comparison: names of its arms and settings, numbers, intervals."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from bnjax.comparison import Comparison, Contrast
from bnjax.records import Record
from bnjax.stats import LEVEL, Interval, alike

PLACEMENTS = {
    'none': 'no BN',
    'before': 'BN before the activation',
    'after': 'BN after the activation',
}
TRAIN = (
    'Train values are means over the steps of an epoch, in training mode, while the '
    'weights move; the others are of the weights at its end.'
)


def short_names(fields: Sequence[str]) -> dict[str, str]:
    """Field names without their section; 'model.name' becomes 'model'.

    A name that two of the fields would share keeps its section.
    """
    plain = {field: field.removesuffix('.name').rpartition('.')[2] for field in fields}
    count = Counter(plain.values())
    return {f: name if count[name] == 1 else f for f, name in plain.items()}


def show(value: Any) -> str:
    """A field's value as a person would write it."""
    return f'{value:g}' if isinstance(value, float) else str(value)


def estimate(mean: Interval) -> str:
    """A mean with the half width of its interval, '0.953 ± 0.004'."""
    if mean.n < 2:
        return f'{_fixed(mean.mean)} (n=1)' if mean.n else 'missing'
    return f'{_fixed(mean.mean)} ± {_fixed(mean.high - mean.mean)}'


def _fixed(value: float) -> str:
    """With three decimals, or with an exponent, as a loss that diverged needs."""
    return f'{value:.3f}' if value < 1e4 else f'{value:.1e}'


def signed(difference: Interval) -> str:
    """A difference with its interval, '+0.012 [+0.004, +0.020]'."""
    if difference.n < 2:
        return f'{difference.mean:+z.3f} (n=1)' if difference.n else 'missing'
    if alike(difference):
        return f'{difference.mean:+z.3f} ({difference.n} seeds alike)'
    digits = _digits(difference)
    mean, low, high = (f'{value:+z.{digits}f}' for value in difference[:3])
    return f'{mean} [{low}, {high}]'


def _digits(difference: Interval) -> int:
    """Three, or as many more as show on which side of 0 its nearer end lies."""
    nearest = min(abs(difference.low), abs(difference.high))
    if nearest == 0:
        return 3
    return next((d for d in (3, 4, 5) if round(nearest, d)), 6)


def probability(p: float) -> str:
    """A p-value, 'p = 0.012', with digits enough for the side of 0.05 it is on."""
    if p < 0.001:
        return 'p < 0.001'
    sides = (d for d in (2, 3, 4, 5) if (round(p, d) < LEVEL) == (p < LEVEL))
    digits = max(next(sides, 6), 2 if p > 0.1 else 3)
    return f'p = {p:.{digits}f}'


def tested(contrast: Contrast) -> str:
    """A difference with its interval and p-value, which one seed does not allow."""
    number = signed(contrast.difference)
    known = contrast.difference.n > 1
    return f'{number}, {probability(contrast.p)}' if known else number


def judged(contrast: Contrast) -> str:
    """A difference with its interval, verdict and p-value, as far as there are any."""
    number = signed(contrast.difference)
    known = contrast.difference.n > 1
    said = f'{contrast.verdict}, {probability(contrast.p)}'
    return f'{number} {said}' if known else number


def count_status(records: Sequence[Record], status: str) -> int:
    return sum(record.status == status for record in records)


def plural(count: int, noun: str) -> str:
    return f'{count} {noun}' if count == 1 else f'{count} {noun}s'


def arm_name(comparison: Comparison, arm: Any) -> str:
    """An arm in words: 'BN before the activation', or 'batch_size 64'."""
    if comparison.field == 'model.placement' and arm in PLACEMENTS:
        return PLACEMENTS[arm]
    if comparison.field is None:
        return 'all trials'
    return f'{compared_name(comparison)} {show(arm)}'


def pair_name(comparison: Comparison, arm: Any, against: Any) -> str:
    """A difference in words: 'BN after minus before', or 'batch_size 64 minus 32'."""
    placed = comparison.field == 'model.placement'
    field = 'BN' if placed else compared_name(comparison)
    return f'{field} {show(arm)} minus {show(against)}'


def names(comparison: Comparison) -> Mapping[str, str]:
    """Short names of all the swept fields of a comparison."""
    compared = [] if comparison.field is None else [comparison.field]
    return short_names([*compared, *comparison.fields])


def compared_name(comparison: Comparison) -> str:
    """Short name of the compared field; empty where nothing but the seed varies."""
    return '' if comparison.field is None else names(comparison)[comparison.field]


def place(comparison: Comparison, fields: Sequence[str], values: Sequence[Any]) -> str:
    """Values of some of its fields in words: 'activation relu, learning_rate 0.1'."""
    short = names(comparison)
    pairs = zip(fields, values, strict=True)
    return ', '.join(f'{short[field]} {show(value)}' for field, value in pairs)


def group_place(comparison: Comparison, group: Sequence[Any]) -> str:
    """A group in words; empty where there is but one."""
    return place(comparison, comparison.group_fields, group)


def tuned_names(comparison: Comparison) -> str:
    """The fields an arm may choose among, 'learning_rate'; empty where none is."""
    short = names(comparison)
    return ' and '.join(short[field] for field in comparison.tuned_fields)
