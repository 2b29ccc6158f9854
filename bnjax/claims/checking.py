"""Runs the exact checks, each function once for all claims that name it."""

import importlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from threadpoolctl import threadpool_limits

from bnjax.claims.finding import BrokenError, Finding
from bnjax.claims.register import Claim
from bnjax.errors import UserError
from bnjax.verdict import CONFIRMED, NOT_RUN, REFUTED, UNDECIDED

VERDICTS = {True: CONFIRMED, False: REFUTED, None: UNDECIDED}


class Checked(NamedTuple):
    """What a check says of a claim.

    Attributes:
      claim: that names it.
      verdict: 'confirmed', 'refuted', 'undecided' or 'not run'.
      effect: what was measured, or why nothing was.
      broken: whether it is not what the register expects.
    """

    claim: Claim
    verdict: str
    effect: str
    broken: bool = False


def function_of(claim: Claim) -> Callable[[], Finding]:
    """The check that a claim names."""
    module, _, name = claim.check.partition('.')
    return getattr(importlib.import_module(f'bnjax.claims.exact.{module}'), name)


def checked(claims: Iterable[Claim]) -> Iterable[Checked]:
    """Runs the check of each claim that has one; yields as they come."""
    found: dict[tuple[str, str], Checked] = {}
    for claim in claims:
        if not claim.check:
            continue
        key = claim.check, claim.expected
        if key not in found:
            found[key] = _check(claim)
        yield found[key]._replace(claim=claim)


def _check(claim: Claim) -> Checked:
    try:
        # The products are small: threads that wait for each other take longer.
        with threadpool_limits(1):
            finding = function_of(claim)()
    except BrokenError as error:
        return Checked(claim, NOT_RUN, f'broken: {error}', broken=True)
    except UserError as error:  # the data is not there
        return Checked(claim, NOT_RUN, str(error))
    except Exception as error:
        said = f'broken: {type(error).__name__}: {error}'
        return Checked(claim, NOT_RUN, said, broken=True)
    verdict = VERDICTS[finding.holds]
    return Checked(claim, verdict, finding.effect, verdict != claim.expected)
