"""What a run says of a claim, and the rules by which it says it."""

from collections.abc import Sequence
from typing import NamedTuple

from bnjax.stats import LEVEL, Interval, alike

CONFIRMED, REFUTED, UNDECIDED, NOT_RUN = 'confirmed', 'refuted', 'undecided', 'not run'


class Verdict(NamedTuple):
    """The verdict on one claim.

    Attributes:
      claim: its id.
      verdict: 'confirmed', 'refuted', 'undecided' or 'not run'.
      effect: what was measured, with its unit.
      interval: of the effect, or None where it is no mean over seeds.
      bounds: the values of the effect that decide.
    """

    claim: str
    verdict: str
    effect: str
    interval: Interval | None = None
    bounds: tuple[float, ...] = ()


def above(interval: Interval, bound: float) -> str:
    """'confirmed' where a whole interval is above a bound, 'refuted' where below it.

    Every rule is undecided where it is neither, as with fewer than two seeds, or where
    a few of them are all alike: those have no deviation to judge by.

    >>> above(Interval(2.0, 1.0, 3.0, 10), 0.5), above(Interval(2.0, 1.0, 3.0, 10), 2.5)
    ('confirmed', 'undecided')
    """
    return _by(interval, interval.low > bound, interval.high < bound)


def below(interval: Interval, bound: float) -> str:
    """'confirmed' where a whole interval is below a bound, 'refuted' where above it."""
    return _by(interval, interval.high < bound, interval.low > bound)


def within(interval: Interval, low: float, high: float) -> str:
    """'confirmed' where a whole interval is in [low, high], 'refuted' where outside."""
    inside = interval.low >= low and interval.high <= high
    return _by(interval, inside, interval.low > high or interval.high < low)


def every(verdicts: Sequence[str]) -> str:
    """Of a claim that asks for all of them: one that is refuted refutes it.

    >>> every(['confirmed', 'undecided']), every(['undecided', 'refuted'])
    ('undecided', 'refuted')
    """
    return at_least(len(verdicts), verdicts)


def at_least(wanted: int, verdicts: Sequence[str]) -> str:
    """Of a claim that asks for so many of them.

    Refuted where the others could not make up for those that are refuted.
    """
    possible = sum(verdict != REFUTED for verdict in verdicts)
    return decided(verdicts.count(CONFIRMED) >= wanted, possible < wanted)


def decided(confirms: bool, refutes: bool) -> str:
    """The verdict of a rule that is met, or whose opposite is, or neither."""
    return CONFIRMED if confirms else REFUTED if refutes else UNDECIDED


def _by(interval: Interval, confirms: bool, refutes: bool) -> str:
    few_alike = alike(interval) and 2.0 ** (1 - interval.n) >= LEVEL
    return UNDECIDED if few_alike else decided(confirms, refutes)
