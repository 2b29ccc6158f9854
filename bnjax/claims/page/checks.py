"""The exact checks with their rules, and the claims that rest on them."""

from collections import defaultdict

from bnjax.claims.page.documents import link, study_link
from bnjax.claims.page.markdown import anchor, blocks, item, paragraph, text
from bnjax.claims.register import Claim
from bnjax.claims.settled import Settled

OPENING = """A check recomputes its claim each time, with the library's own functions
where these are what it is about. `python -m bnjax.claims check` fails where one comes
out other than it must, or where what is true whatever the claim says does not hold; the
tests break the library on purpose to see that it does."""


def section(settled: Settled) -> str:
    """A line for each claim that a check settles, or a part of it, by check."""
    by_check: dict[str, list[Claim]] = defaultdict(list)
    for claim in settled.claims.values():
        if claim.check and not claim.same:
            by_check[claim.check].append(claim)
    if not by_check:
        return ''
    lines = [_lines(settled, check, claims) for check, claims in by_check.items()]
    return blocks(('## Exact checks', paragraph(OPENING), '\n'.join(lines)))


def _lines(settled: Settled, check: str, claims: list[Claim]) -> str:
    """The check, and in it each of its claims; or both on one line."""
    rules = [_rule(settled, claim) for claim in claims]
    module = check.partition('.')[0]
    code = f'{anchor(check)}[`{check}`](../bnjax/claims/exact/{module}.py)'
    if len(rules) == 1:
        return item(f'{code}, {rules[0]}')
    return '\n'.join([item(code), *(item(rule, 1) for rule in rules)])


def _rule(settled: Settled, claim: Claim) -> str:
    """Its rule; that of a study is the study's."""
    if claim.study:
        return f'{link(claim.id)}: the exact part of {study_link(claim.study, settled)}'
    return f'{link(claim.id)}: {text(claim.rule)}'
