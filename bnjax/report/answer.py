"""The answer of a sweep in sentences; they say too where an arm does not help."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from bnjax.comparison import (
    Comparison,
    Contrast,
    at_equal_settings,
    at_own_best,
    compare,
    mean_of,
)
from bnjax.records import Record
from bnjax.report.wording import (
    arm_name,
    count_status,
    estimate,
    group_place,
    pair_name,
    place,
    plural,
    show,
    tested,
    tuned_names,
)
from bnjax.stats import deviation, seeds_needed

# What a verdict says of an arm against no BN, and against any other arm.
CLAIMS = {
    'higher': ('helps', 'is higher than'),
    'lower': ('does not help but hurts', 'is lower than'),
    'no difference seen': ('is not seen to help', 'is not seen to differ from'),
    'one seed': (
        'cannot be judged from one seed',
        'cannot be judged from one seed against',
    ),
    'missing': (
        'cannot be judged, no seed has both arms,',
        'shares no seed with',
    ),
}
WORTH = 0.01  # a difference of accuracy that one would want to see
CRITERIA = {
    'validation_accuracy': 'highest mean validation accuracy',
    'train_loss': 'lowest mean train loss (there is no validation split)',
}


class Answer(NamedTuple):
    """Sentences: how far the arms differ, what they reach, and how that was found."""

    overview: Sequence[str]
    details: Sequence[str]
    notes: Sequence[str]


def headlines(records: Sequence[Record], swept: Sequence[str]) -> list[str]:
    """The answer of a sweep, most important first; the notes are one paragraph."""
    answer = conclude(compare(records, swept))
    notes = ' '.join(answer.notes)
    return [*answer.overview, *answer.details, *([notes] if notes else [])]


def conclude(comparison: Comparison) -> Answer:
    """What a comparison says."""
    if comparison.field is None:
        return Answer([_final(comparison)], [], _losses(comparison))
    contrasts = at_own_best(comparison)
    if not contrasts:
        nothing = 'Nothing can be compared: there are no finite values.'
        return Answer([nothing], [], _losses(comparison))
    notes = _method(comparison, contrasts) + _unseen(contrasts)
    notes += _at_the_edge(comparison) + _at_equal_settings(comparison)
    notes += _losses(comparison)
    details = [_reached(comparison, group) for group in comparison.groups]
    details += _left_out(comparison, contrasts)
    return Answer(_overview(comparison, contrasts), details, notes)


def _final(comparison: Comparison) -> str:
    accuracy = mean_of(comparison.records)
    seeds = '' if accuracy.n < 2 else f' over {accuracy.n} seeds'
    return f'Test accuracy: {estimate(accuracy)}{seeds}.'


def _overview(comparison: Comparison, contrasts: Sequence[Contrast]) -> list[str]:
    """A sentence for each pair: in which groups it is higher, lower or neither."""
    sentences = []
    for arm, against in comparison.pairs:
        ours = [c for c in contrasts if (c.arm, c.against) == (arm, against)]
        claims = []
        for word in CLAIMS:
            said = [c for c in ours if c.verdict == word]
            if said:
                found = _found(comparison, said)
                claims.append(_claim(comparison, word, against) + found)
        if claims:
            sentences.append(f'{arm_name(comparison, arm)} {"; ".join(claims)}.')
    return sentences


def _claim(comparison: Comparison, word: str, against: Any) -> str:
    alone, relation = CLAIMS[word]
    if (comparison.field, against) == ('model.placement', 'none'):
        return alone
    return f'{relation} {arm_name(comparison, against)}'


def _found(comparison: Comparison, contrasts: Sequence[Contrast]) -> str:
    """Where, and how much: ' with activation relu: +0.01 [-0.01, +0.03], p = 0.2'."""
    alone = len(comparison.group_fields) == 1  # its name need not be said again
    said: list[str] = []
    for contrast in contrasts:
        again = alone and said
        where = (
            show(contrast.where[0])
            if again
            else group_place(comparison, contrast.where)
        )
        said.append(f'{where}: {tested(contrast)}')
    return (' with ' if comparison.group_fields else '') + '; '.join(said)


def _reached(comparison: Comparison, group: tuple[Any, ...]) -> str:
    """The accuracy of every arm in a group, and the setting it is best at."""
    parts = []
    for arm in comparison.arms:
        best = comparison.best(group, arm) or ()
        at = ', '.join(show(value) for value in comparison.point_of(best))
        mean = estimate(mean_of(comparison.best_cell(group, arm)))
        parts.append(
            f'{arm_name(comparison, arm)} {mean}' + (f' (at {at})' if at else '')
        )
    tuned = tuned_names(comparison)
    where = group_place(comparison, group)
    head = 'Test accuracy' + (f' at the best {tuned}' if tuned else '')
    return head + (f' with {where}' if where else '') + f': {", ".join(parts)}.'


def _left_out(comparison: Comparison, contrasts: Sequence[Contrast]) -> list[str]:
    """Says which comparisons are wanting; empty where none is."""
    seen = {(c.where, c.arm, c.against) for c in contrasts}
    wanting = [
        pair_name(comparison, *pair) + (f' ({where})' if where else '')
        for group in comparison.groups
        for where in [group_place(comparison, group)]
        for pair in comparison.pairs
        if (group, *pair) not in seen
    ]
    return [f'Missing, for want of values: {"; ".join(wanting)}.'] if wanting else []


def _method(comparison: Comparison, contrasts: Sequence[Contrast]) -> list[str]:
    """How the differences were found, chosen and judged."""
    said = 'Differences are of final test accuracy, paired by seed'
    if comparison.tuned:
        said += (
            f', each arm at the {tuned_names(comparison)} of its '
            f'{CRITERIA[comparison.criterion]}{_spared(comparison)}; the test set has '
            'no part in the choice'
        )
    counts = [contrast.difference.n for contrast in contrasts]
    if max(counts) < 2:
        return [f'{said}.', 'For want of seeds there are no intervals.']
    family = _tests(contrasts)
    needs = (
        f'a Holm-adjusted p < 0.05 ({family} paired t-tests)'
        if family > 1
        else 'p < 0.05 in a paired t-test'
    )
    return [
        f'{said}.',
        f'95 % t-intervals are over {_range(counts)} seeds (initial weights and order '
        'of images, not other test images), not adjusted for their number; a claim '
        f'needs {needs}.',
    ]


def _tests(contrasts: Sequence[Contrast]) -> int:
    return sum(contrast.difference.n > 1 for contrast in contrasts)


def _range(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return f'{most}' if least == most else f'{least} to {most}'


def _unseen(contrasts: Sequence[Contrast]) -> list[str]:
    """How many seeds would show what was not seen; empty where that cannot be said."""
    unseen = [c for c in contrasts if c.verdict == 'no difference seen']
    needed = [seeds_needed(WORTH, deviation(c.difference)) for c in unseen]
    known = [n for n in needed if n is not None]
    if not known:
        return []
    return [
        f'Where no difference was seen, one of {WORTH:g} would take {_range(known)} '
        'seeds (80 % power, in a test by itself).'
    ]


def _spared(comparison: Comparison) -> str:
    """Says that settings which lose trials come last; empty where none does."""
    lost = any(record.status != 'done' for record in comparison.records)
    return ', among those with the fewest trials diverged or failed' if lost else ''


def _at_the_edge(comparison: Comparison) -> list[str]:
    """Says which arms are best at the end of a tuned range; empty where none is."""
    points = [comparison.point_of(setting) for setting in comparison.settings]
    ranges = map(set, zip(*points, strict=True))
    edges = [{min(r), max(r)} if len(r) > 2 else set() for r in ranges]
    found = []
    for group in comparison.groups:
        for arm in comparison.arms:
            best = comparison.best(group, arm)
            if best is None:
                continue
            at = zip(comparison.point_of(best), edges, strict=True)
            if any(value in edge for value, edge in at):
                where = place(comparison, comparison.fields, best)
                found.append(f'{arm_name(comparison, arm)} ({where})')
    if not found:
        return []
    return [f'Best at the end of the range tried: {"; ".join(found)}.']


def _at_equal_settings(comparison: Comparison) -> list[str]:
    """For each pair, in how many settings it is higher, lower or neither."""
    if len(comparison.settings) < 2:
        return []
    counts = []
    contrasts = at_equal_settings(comparison)
    for pair in comparison.pairs:
        found = Counter(c.verdict for c in contrasts if (c.arm, c.against) == pair)
        words = ', '.join(f'{word} in {found[word]}' for word in CLAIMS if found[word])
        counts.append(f'{pair_name(comparison, *pair)} {words}')
    total = len(comparison.settings)
    family = _tests(contrasts)
    adjusted = f' ({family} tests)' if family > 1 else ''
    return [f'At {total} equal settings{adjusted}: {"; ".join(counts)}.']


def _losses(comparison: Comparison) -> list[str]:
    """Which trials diverged or failed, by arm; empty where none did."""
    sentences = []
    ends = {
        'diverged': (
            'it counts by its last finite values',
            'they count by their last finite values',
        ),
        'failed': ('it is missing', 'they are missing'),
    }
    for status, (one, many) in ends.items():
        total = count_status(comparison.records, status)
        if not total:
            continue
        by_arm = Counter(
            arm
            for (_, arm), cell in comparison.cells.items()
            for record in cell
            if record.status == status
        )
        arms = ', '.join(f'{arm_name(comparison, a)} {n}' for a, n in by_arm.items())
        detail = f' ({arms})' if comparison.field else ''
        trials = plural(len(comparison.records), 'trial')
        sentences.append(
            f'{total} of {trials} {status}{detail}; {one if total == 1 else many}.'
        )
    return sentences
