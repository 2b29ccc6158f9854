"""The top of the page: what it is, how many of which verdict, how to read it."""

from collections import Counter
from collections.abc import Iterable

from bnjax.claims.page.documents import DOCUMENTS, is_error, link, of_document
from bnjax.claims.page.markdown import blocks, item, paragraph, table
from bnjax.claims.register import Claim
from bnjax.claims.settled import VERDICTS, Result, Settled

OPENING = """Five documents about batch normalization, named 000 to 004 here, make
{said} statements (S, M), and {wrong} entries look at what seems to be wrong in them
(E): there the document's own words are the claim, if it has any: refuted, it errs.
Each has a verdict by a rule in numbers, or the reason why it was not run. What settles
it is an exact check, which recomputes an identity or a fact in seconds, or a study,
which trains networks. {same} of them ask the same as another, and share its verdict."""

REPEAT = """```
python -m bnjax.claims check    # all exact checks
python -m bnjax.claims run S20  # the study that settles a claim, or one by its name
python -m bnjax.claims write    # this page and its pictures
```"""

READING = (
    """**confirmed**: what the claim says holds by its rule: for an exact check to the
    tolerance named there, for a study because the whole interval lies on the side of
    the bound that confirms.""",
    """**refuted**: it does not, by the same rule: the whole interval lies on the side
    that refutes. A refuted claim is as good a result as a confirmed one.""",
    """**undecided**: the interval meets neither the rule that confirms nor the one that
    refutes, or other seeds turned the verdict round. **not run**: [the
    reason](#what-was-not-run-and-why) is given.""",
    """**lost**: a trial that failed, diverged, or ended with losses worse than that of
    guessing; its accuracy counts as chance. **best rate**: of the highest mean accuracy
    on the validation images at the end, among rates that lose the fewest trials.
    **accuracy**: at the end of training, with batch norm's statistics estimated again
    from all training images where the study says so, and by its running averages
    elsewhere, which cost it some tenths of a point (study `batch_size`).""",
    """**effect**: what was measured. `0.81 [0.62, 1.00]` with n = 10 is a mean over 10
    seeds with its 95 % interval, by Student's t; another level is named. Arms are
    compared in pairs: the same seed gives them the same images in the same order, so n
    counts differences. Exact checks have no interval: their numbers are the effect.""",
    """**bounds**: the numbers that decide, in the unit of the effect: how large it must
    be to matter. A study's rule says what each means; L and U in it are the lower and
    the upper end of the interval.""",
    """A rule that asks for several cells (networks, activations, sizes) at once says
    how many must agree. Their intervals are widened by Bonferroni's method, which keeps
    the chance that any of them misses its effect to 5 % at most.""",
    """**pictures**: the marker is the mean, the bar its interval, dashed lines are the
    bounds; sides are tinted and named where this interval alone decides. Every claim
    has an axis of its own, and a circle, a cross and a diamond are confirmed, refuted
    and undecided. Below it, in grey, is what other seeds gave.""",
    """**rule**: the code of a study's config applies it. A digest of that code, without
    comments and docstrings, is recorded with its commit when a run begins; where the
    code is another now, the section of the study says so. What it calls
    of the library (an interval, what counts as lost) is not in the digest, and was
    partly committed after the runs. Rules of exact checks were written along with the
    checks; those of M4 and M6 were changed after a first result.""",
)


def top(settled: Settled) -> str:
    claims = settled.claims.values()
    wrong = sum(map(is_error, claims))
    counts = {
        'said': len(settled.claims) - wrong,
        'wrong': wrong,
        'same': sum(bool(claim.same) for claim in claims),
    }
    return blocks(
        (
            '# The claims of five documents, settled',
            paragraph(OPENING.format(**counts)),
            _counts(settled),
            _rules(settled),
            _again(settled),
            'To repeat it:',
            REPEAT,
            '## How to read it',
            '\n'.join(item(line) for line in READING),
        )
    )


def _counts(settled: Settled) -> str:
    """A row for each document, one for the errors, and one for all."""
    groups = {
        f'[document {key}](#document-{key})': of_document(settled.claims, key)
        for key in DOCUMENTS
        if of_document(settled.claims, key)
    }
    errors = [claim for claim in settled.claims.values() if is_error(claim)]
    groups['[errors](#errors-of-the-documents)'] = errors
    rows = [_row(settled, name, claims) for name, claims in groups.items()]
    rows.append(_row(settled, '**all**', settled.claims.values()))
    return table(['', *VERDICTS, 'in all'], rows)


def _row(settled: Settled, name: str, claims: Iterable[Claim]) -> list[str]:
    found = Counter(settled.verdicts[claim.id].verdict for claim in claims)
    return [name, *(str(found[word]) for word in VERDICTS), str(found.total())]


def _rules(settled: Settled) -> str:
    """For how many studies the rules are known to be older than the run."""
    by_study = {
        settled.claims[key].study: result
        for key, result in settled.verdicts.items()
        if result.rule
    }
    if not by_study:
        return ''
    changed = sum(result.rule_changed for result in by_study.values())
    unknown = sum(result.begun is None for result in by_study.values())
    parts = (
        f'{len(by_study) - changed - unknown} of the {len(by_study)} studies that gave '
        'verdicts applied the rules recorded when their runs began',
        f'in {changed} the rules changed after that' if changed else '',
        f'of {unknown} none were recorded' if unknown else '',
    )
    return paragraph('; '.join(part for part in parts if part) + '.')


def _again(settled: Settled) -> str:
    """How many verdicts other seeds gave, too, and which they did not."""
    repeated = {
        key: result
        for key, result in settled.verdicts.items()
        if result.again and not settled.claims[key].same
    }
    if not repeated:
        return ''
    moved = [_moved(k, r) for k, r in repeated.items() if r.alone != _other(r)]
    flipped = [
        k
        for k, r in repeated.items()
        if {r.alone, _other(r)} >= {'confirmed', 'refuted'}
    ]
    said = (
        f'Of {len(repeated)} verdicts of studies that were repeated with other seeds '
        f'{len(repeated) - len(moved)} came out the same, and {len(flipped) or "none"} '
        'went from confirmed to refuted or back, which makes it undecided. '
    )
    return paragraph(said + (f'Not the same: {"; ".join(moved)}.' if moved else ''))


def _other(result: Result) -> str:
    return result.again.verdict if result.again else ''


def _moved(key: str, result: Result) -> str:
    return f'{link(key)} from {result.alone} to {_other(result)}'
