"""The tables of the page; its script lets them be sorted and filtered."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from bnjax.comparison import Comparison, Contrast, at_equal_settings, mean_of
from bnjax.records import METRICS
from bnjax.report.targets import epochs_to_target
from bnjax.report.wording import (
    TRAIN,
    compared_name,
    count_status,
    estimate,
    names,
    pair_name,
    probability,
    show,
    signed,
)

MOST_PRINTED = 200  # rows of a table, as page.css has it


class Cell(NamedTuple):
    """The text of a table cell, its CSS class, and a small line below the text."""

    text: str
    kind: str = ''
    note: str = ''


def section(
    title: str,
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[Cell]],
) -> str:
    """A table under its title and caption, in a box that scrolls."""
    heads = ''.join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = '\n'.join('<tr>' + ''.join(map(_td, row)) + '</tr>' for row in rows)
    cut = f'Only the first {MOST_PRINTED} of {len(rows)} rows are printed.'
    printed = f'<p class="note printed">{cut}</p>\n' if len(rows) > MOST_PRINTED else ''
    return (
        f'<section><h2>{escape(title)}</h2>\n'
        f'<p class="note">{escape(caption)}</p>\n{printed}'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">'
        f'<table><thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table></div>'
        '</section>'
    )


def _td(cell: Cell) -> str:
    kind = f' class="{cell.kind}"' if cell.kind else ''
    note = f'<small>{escape(cell.note)}</small>' if cell.note else ''
    return f'<td{kind}>{escape(cell.text)}{note}</td>'


def differences(comparison: Comparison) -> str:
    """The table of paired differences, a row for each setting."""
    if not comparison.pairs:
        return ''
    short = names(comparison)
    head = [short[field] for field in comparison.fields]
    head += [pair_name(comparison, *pair) for pair in comparison.pairs]
    contrasts = iter(at_equal_settings(comparison))
    rows = [
        [Cell(show(value)) for value in setting]
        + [_difference(next(contrasts)) for _ in comparison.pairs]
        for setting in comparison.settings
    ]
    caption = (
        'Final test accuracy of one arm minus that of another: mean and 95 % '
        't-interval over the n seeds that both have, higher or lower where p < 0.05; '
        'p of a paired t-test, Holm-adjusted over all differences of the table.'
    )
    return section('Paired differences at equal settings', caption, head, rows)


def _difference(contrast: Contrast) -> Cell:
    word, n = contrast.verdict, contrast.difference.n
    kind = word if word in ('higher', 'lower') else ''
    note = f'{word}, {probability(contrast.p)}, n = {n}' if n > 1 else ''
    return Cell(signed(contrast.difference), kind, note)


def settings(comparison: Comparison) -> str:
    """The table of all settings, a row for each arm of each."""
    short = names(comparison)
    head = [short[field] for field in comparison.fields] + [compared_name(comparison)]
    metrics = ['test_accuracy', 'validation_accuracy', 'train_loss']
    head += [metric.replace('_', ' ') for metric in metrics]
    head += ['seeds', 'diverged', 'failed']
    rows = []
    for setting in comparison.settings:
        for arm in comparison.arms:
            cell = comparison.cell(setting, arm)
            texts = [show(value) for value in (*setting, arm)]
            texts += [estimate(mean_of(cell, metric)) for metric in metrics]
            texts += [str(len(cell))]
            texts += [str(count_status(cell, s)) for s in ('diverged', 'failed')]
            rows.append([Cell(text) for text in texts])
    caption = (
        f'Means over seeds ± half of the 95 % t-interval, for the last epoch. {TRAIN} '
        'Diverged trials count by their last finite values, failed ones are missing.'
    )
    return section('All settings', caption, head, rows)


def targets(comparison: Comparison) -> str:
    """The table of epochs to a target; empty where no trial has a curve."""
    found = epochs_to_target(comparison)
    if found is None:
        return ''
    rows = [[Cell(text) for text in row] for row in found.rows]
    return section(found.title, found.caption, found.head, rows)


def metrics(comparison: Comparison) -> str:
    """The table of final metrics, where only the seed varies."""
    rows = []
    for metric in METRICS:
        mean = mean_of(comparison.records, metric)
        texts = metric.replace('_', ' '), estimate(mean), str(mean.n)
        rows.append([Cell(text) for text in texts])
    caption = (
        f'Means over seeds ± half of the 95 % t-interval, for the last epoch. {TRAIN}'
    )
    return section('Final metrics', caption, ['metric', 'mean', 'seeds'], rows)
