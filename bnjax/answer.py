"""The answer of a sweep in sentences; they say too where an arm does not help."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from bnjax.records import Record
from bnjax.stats import (
    Comparison,
    Contrast,
    Interval,
    at_own_best,
    compare,
    mean_of,
    verdict,
)
from bnjax.wording import (
    PLACEMENTS,
    arm_name,
    count_status,
    estimate,
    names,
    place,
    plural,
    show,
    signed,
    tuned_names,
)

OUTCOMES = {
    'higher': 'helps',
    'lower': 'does not help (test accuracy is lower)',
    'no difference seen': 'does not help (no difference seen)',
    'one seed': 'cannot be judged from one seed',
    'missing': 'cannot be judged (no seed has both arms)',
}
RELATIONS = {
    'higher': 'is higher than',
    'lower': 'is lower than',
    'no difference seen': 'is not seen to differ from',
    'one seed': 'cannot be judged from one seed against',
    'missing': 'shares no seed with',
}
CRITERIA = {
    'validation_accuracy': 'highest mean validation accuracy',
    'train_loss': 'lowest mean train loss (there is no validation split)',
}


def headlines(records: Sequence[Record], swept: Sequence[str]) -> list[str]:
    """The answer of a sweep as sentences, most important first."""
    comparison = compare(records, swept)
    if comparison.field is None:
        answer = [_final(comparison)]
    else:
        contrasts = at_own_best(comparison)
        answer = _overview(comparison, contrasts)
        answer += [_sentence(comparison, contrast) for contrast in contrasts]
        answer += _left_out(comparison, contrasts)
        answer += _at_equal_settings(comparison) + _choice(comparison)
        answer += _at_the_edge(comparison, contrasts)
    return answer + _losses(comparison)


def _final(comparison: Comparison) -> str:
    accuracy = mean_of(comparison.records)
    seeds = '' if accuracy.n < 2 else f' over {accuracy.n} seeds'
    return f'Final test accuracy: {estimate(accuracy)}{seeds}.'


def _overview(comparison: Comparison, contrasts: Sequence[Contrast]) -> list[str]:
    """One sentence for each arm: in which groups it is higher, lower or neither."""
    if len(comparison.groups) < 2:
        return []
    sentences = []
    for arm in comparison.arms[1:]:
        groups: dict[str, list[tuple[Any, ...]]] = {}
        for contrast in contrasts:
            if contrast.arm == arm:
                word = verdict(contrast.difference)
                groups.setdefault(word, []).append(contrast.group)
        claims = [
            f'{_claim(comparison, word)} with {_places(comparison, groups[word])}'
            for word in OUTCOMES
            if word in groups
        ]
        if claims:
            sentences.append(f'{arm_name(comparison, arm)} {"; ".join(claims)}.')
    return sentences


def _places(comparison: Comparison, groups: Sequence[tuple[Any, ...]]) -> str:
    """Groups in words: 'activation relu, tanh'."""
    if len(comparison.group_fields) > 1:
        return '; '.join(place(comparison, group) for group in groups)
    name = names(comparison)[comparison.group_fields[0]]
    return f'{name} {", ".join(show(group[0]) for group in groups)}'


def _left_out(comparison: Comparison, contrasts: Sequence[Contrast]) -> list[str]:
    """Says which comparisons are wanting; empty where none is."""
    seen = {(contrast.group, contrast.arm) for contrast in contrasts}
    wanting = [
        f'{arm_name(comparison, arm)} ({place(comparison, group)})'
        for group in comparison.groups
        for arm in comparison.arms[1:]
        if (group, arm) not in seen
    ]
    base = arm_name(comparison, comparison.baseline)
    if not contrasts:
        return [f'Nothing can be compared with {base}: there are no finite values.']
    if not wanting:
        return []
    return [f'Not compared with {base}, for want of values: {"; ".join(wanting)}.']


def _at_the_edge(comparison: Comparison, contrasts: Sequence[Contrast]) -> list[str]:
    """Says which arms are best at the end of a tuned range; empty where none is."""
    skip = len(comparison.group_fields)
    ranges = list(zip(*comparison.settings, strict=True))[skip:]
    found: dict[str, None] = {}
    for contrast in contrasts:
        bests = {contrast.arm: contrast.setting}
        bests[comparison.baseline] = contrast.baseline_setting
        for arm, best in bests.items():
            ends = zip(best[skip:], ranges, strict=True)
            if any(len(set(r)) > 2 and v in (min(r), max(r)) for v, r in ends):
                found[f'{arm_name(comparison, arm)} ({place(comparison, best)})'] = None
    if not found:
        return []
    return [
        f'Best at the end of the range tried, a wider one may be better: '
        f'{"; ".join(found)}.'
    ]


def _claim(comparison: Comparison, word: str) -> str:
    base = arm_name(comparison, comparison.baseline)
    if base == PLACEMENTS['none']:
        return OUTCOMES[word]
    return f'{RELATIONS[word]} {base}'


def _sentence(comparison: Comparison, contrast: Contrast) -> str:
    where = place(comparison, contrast.group)
    arm = arm_name(comparison, contrast.arm)
    base = arm_name(comparison, comparison.baseline)
    claim = f'{arm} {_claim(comparison, verdict(contrast.difference))}'
    ours = _reached(comparison, contrast.mean, contrast.setting)
    theirs = _reached(comparison, contrast.baseline_mean, contrast.baseline_setting)
    numbers = f'{ours} against {theirs} for {base}'
    if contrast.difference.n:
        seeds = plural(contrast.difference.n, 'seed')
        numbers += f', {signed(contrast.difference)}'
        numbers += f' over {seeds}' if contrast.difference.n > 1 else ''
    return f'{where}: {claim}: {numbers}.' if where else f'{claim}: {numbers}.'


def _reached(comparison: Comparison, mean: Interval, setting: Sequence[Any]) -> str:
    at = place(comparison, setting, skip=len(comparison.group_fields))
    value = f'{mean.mean:.3f}' if mean.n else 'missing'
    return f'{value} (at {at})' if at else value


def _at_equal_settings(comparison: Comparison) -> list[str]:
    """For each arm, in how many settings it is higher, lower or neither."""
    if len(comparison.settings) < 2:
        return []
    sentences = []
    for arm in comparison.arms[1:]:
        found = Counter(
            verdict(comparison.difference(setting, arm))
            for setting in comparison.settings
        )
        counts = [f'{word} in {found[word]}' for word in OUTCOMES if found[word]]
        base = arm_name(comparison, comparison.baseline)
        total = plural(len(comparison.settings), 'setting')
        sentences.append(
            f'At equal settings, {arm_name(comparison, arm)} against {base}: '
            f'{", ".join(counts)} of {total}.'
        )
    return sentences


def _choice(comparison: Comparison) -> list[str]:
    if not comparison.tuned:
        return []
    return [
        f'Each arm is shown at its own best {tuned_names(comparison)}: that with the '
        f'{CRITERIA[comparison.criterion]}. The test set has no part in the choice.'
    ]


def _losses(comparison: Comparison) -> list[str]:
    """Which trials diverged or failed, by arm; empty where none did."""
    sentences = []
    ends = {
        'diverged': 'they count by their last finite values',
        'failed': 'they are missing',
    }
    for status, end in ends.items():
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
        sentences.append(f'{total} of {trials} {status}{detail}; {end}.')
    return sentences
