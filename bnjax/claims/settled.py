"""What came out for each claim, read from what is kept of checks and studies."""

import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from bnjax.claims.register import Claim
from bnjax.stats import Interval
from bnjax.verdict import CONFIRMED, NOT_RUN, REFUTED, UNDECIDED

VERDICTS = CONFIRMED, REFUTED, UNDECIDED, NOT_RUN


class Again(NamedTuple):
    """A study's verdict with other seeds, and the first of them."""

    verdict: str
    interval: Interval | None
    seeds: int


class Begun(NamedTuple):
    """The rule's digest, its commit if it had one, and the time, as a study began."""

    rule: str
    commit: str | None
    date: str


class Result(NamedTuple):
    """A claim's verdict and what it stands on.

    Attributes:
      verdict: one of ``VERDICTS``; undecided where other seeds turn it round.
      effect: what was measured; of an exact check with its numbers; or why it was not.
      interval: a study's effect with its 95 % interval, if it has one.
      bounds: the numbers that decide.
      rule: the digest of the code that applied the rule; empty for an exact check.
      begun: that of a study when it began, if it was recorded.
      again: the verdict with other seeds, if there is one.
      alone: a study's verdict without them.
    """

    verdict: str
    effect: str
    interval: Interval | None = None
    bounds: tuple[float, ...] = ()
    rule: str = ''
    begun: Begun | None = None
    again: Again | None = None
    alone: str = ''

    @property
    def rule_changed(self) -> bool:
        return self.begun is not None and self.begun.rule != self.rule


class Settled(NamedTuple):
    """What came out, by claim and by study.

    Attributes:
      claims: the register.
      verdicts: of every claim.
      exact: what exact checks found; of a claim that a study settles, its exact part.
      studies: the kept account of each study that was run, the first claim's first.
    """

    claims: Mapping[str, Claim]
    verdicts: Mapping[str, Result]
    exact: Mapping[str, Result]
    studies: Mapping[str, Mapping[str, Any]]

    def of_study(self, study: str) -> list[Claim]:
        """The claims that a study settles, each question once."""
        settled = (claim for claim in self.claims.values() if claim.study == study)
        return [claim for claim in settled if not claim.same]

    def same_as(self, claim: Claim) -> list[str]:
        """The claims that ask the same as this one."""
        return [other.id for other in self.claims.values() if other.same == claim.id]


def collect(claims: Mapping[str, Claim], kept: Mapping[str, Any]) -> Settled:
    """What came out for all `claims` by `kept`; what is not there was not run."""
    exact = {
        key: Result(entry['verdict'], entry['effect'])
        for key, entry in kept['exact'].items()
    }
    studied = {key: _studied(entry) for key, entry in kept['claims'].items()}
    every = dict.fromkeys([claim.study for claim in claims.values()])
    run = [name for name in every | kept['studies'] if name in kept['studies']]
    studies = {name: kept['studies'][name] for name in run}
    verdicts = {
        key: _verdict(claims.get(claim.same, claim), studied, exact, studies)
        for key, claim in claims.items()
    }
    return Settled(claims, verdicts, exact, studies)


def _verdict(
    claim: Claim,
    studied: Mapping[str, Result],
    exact: Mapping[str, Result],
    run: Collection[str],
) -> Result:
    if claim.study:
        lack = 'gave no verdict on it' if claim.study in run else 'has not been run'
        missing = Result(NOT_RUN, f'the study {claim.study} {lack}')
        return studied.get(claim.id, missing)
    if claim.check:
        missing = Result(NOT_RUN, f'the check {claim.check} has not been run')
        return exact.get(claim.id, missing)
    return Result(NOT_RUN, claim.reason)


def _studied(entry: Mapping[str, Any]) -> Result:
    begun, again = entry['begun'], entry['again']
    return Result(
        entry['verdict'],
        entry['effect'],
        _interval(entry['interval']),
        tuple(entry['bounds']),
        entry['rule'],
        begun and Begun(begun['rule'], begun['commit'], begun['date']),
        again and Again(again['verdict'], _interval(again['interval']), again['seeds']),
        entry['alone'],
    )


def _interval(numbers: list[float | None] | None) -> Interval | None:
    """JSON has no nan: null stands for it."""
    if numbers is None:
        return None
    mean, low, high = (math.nan if x is None else x for x in numbers[:3])
    return Interval(mean, low, high, numbers[3])
