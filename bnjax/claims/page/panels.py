"""What the picture of a study shows of its claims."""

import math
import re

from bnjax.claims.figures import ABOVE, BELOW, Measured, Panel
from bnjax.claims.register import Claim
from bnjax.claims.settled import Again, Result, Settled
from bnjax.verdict import CONFIRMED, REFUTED

_CLAUSE = re.compile(
    r'(confirmed|refuted):(.*?)(?=confirmed:|refuted:|\Z)', re.I | re.S
)
_LOWER_END_OVER = re.compile(r'\bL >')
_UPPER_END_UNDER = re.compile(r'\bU <')


def picture(study: str) -> str:
    """The file of a study's picture of intervals."""
    return f'{study}_intervals.png'


def panels(study: str, settled: Settled) -> list[Panel]:
    """What that picture shows: the claims whose verdict rests on an interval."""
    found = (_panel(claim, settled) for claim in settled.of_study(study))
    return [panel for panel in found if panel]


def _panel(claim: Claim, settled: Settled) -> Panel | None:
    result = settled.verdicts[claim.id]
    shown = _shown(result)
    if shown is None:
        return None
    again = _shown(result.again) if result.again else None
    same = ', '.join(settled.same_as(claim))
    title = f'{claim.id} (= {same})' if same else claim.id
    confirms = confirming_side(claim.rule)
    return Panel(title, result.effect, shown, result.bounds, again, confirms)


def _shown(result: Result | Again) -> Measured | None:
    interval = result.interval
    if interval is None or not math.isfinite(interval.mean):
        return None
    return Measured(result.verdict, interval)


def confirming_side(rule: str) -> str:
    """On which side of its bounds a rule confirms: ABOVE, BELOW, or nothing.

    Rules name the ends of an interval L and U: 'Confirmed: L > .3. Refuted: U < .3.'
    One that asks for more than one thing in one clause may not say.

    >>> confirming_side('Confirmed: U < .1 in every layer. Refuted: L > .1 in one.')
    'below'
    """
    clauses = {verdict.lower(): said for verdict, said in _CLAUSE.findall(rule)}
    confirms, refutes = (_side(clauses.get(v, '')) for v in (CONFIRMED, REFUTED))
    return confirms if {confirms, refutes} == {ABOVE, BELOW} else ''


def _side(clause: str) -> str:
    over, under = (len(e.findall(clause)) for e in (_LOWER_END_OVER, _UPPER_END_UNDER))
    if over + under != 1 or 'within' in clause:
        return ''
    return ABOVE if over else BELOW
