"""The report as one HTML file, without scripts, that opens offline, light or dark."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

from bnjax.records import METRICS
from bnjax.report.answer import Answer
from bnjax.report.picture import Picture
from bnjax.report.wording import (
    TRAIN,
    compared_name,
    count_status,
    estimate,
    names,
    pair_name,
    show,
    signed,
)
from bnjax.stats import Comparison, Interval, mean_of, verdict

CSS = """
:root { color-scheme: light dark; --ink: #1d1f23; --soft: #5d636d; --rule: #d9dce1;
  --paper: #fff; --tint: #f4f5f7; --higher: #00664a; --lower: #a33c00; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e6e7ea;
  --soft: #a2a8b3; --rule: #3a3f48; --paper: #16181c; --tint: #20232a;
  --higher: #4ccfa5; --lower: #ff9a5c; } }
body { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.5 system-ui, sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.8rem 0 .5rem; }
.question { color: var(--soft); font-size: 1.1rem; margin: 0; }
.answer { background: var(--tint); border-left: .25rem solid #0072b2; margin: 1.5rem 0;
  padding: .8rem 1rem; }
.answer h2 { margin: 0 0 .4rem; }
.answer ul { margin: 0; padding-left: 1.2rem; font-size: 1.06rem; }
.answer li { margin: .35rem 0; }
.answer ul + ul { margin-top: .8rem; font-size: .925rem; }
figure { margin: 0 0 1rem; }
.card { background: #fff; border: 1px solid var(--rule); overflow-x: auto; }
.card img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption, .note { color: var(--soft); font-size: .875rem; margin: 0;
  padding: .4rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem .25rem 0; text-align: left; vertical-align: baseline;
  border-bottom: 1px solid var(--rule); }
thead th { border-bottom: 2px solid var(--soft); vertical-align: bottom; }
.higher { color: var(--higher); }
.lower { color: var(--lower); }
td small { display: block; font-size: .8rem; }
.higher small, .lower small { font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { color: var(--soft); }
dd { margin: 0; min-width: 0; }
pre { white-space: pre-wrap; background: var(--tint); padding: .8rem 1rem;
  font-size: .85rem; }
@media (max-width: 40rem) { .card img { max-width: 38rem; } }
@media print { :root { color-scheme: light; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  table { font-size: 7.5pt; }
  .picture, h2, tr { break-inside: avoid; } .card, .scroll { overflow: visible; }
  h2, h3 { break-after: avoid; } }
"""


class Cell(NamedTuple):
    """The text of a table cell, its CSS class, and a small line below the text."""

    text: str
    kind: str = ''
    note: str = ''


def render(
    comparison: Comparison,
    drawn: Sequence[tuple[Picture, bytes]],
    *,
    title: str,
    description: str,
    answer: Answer,
    notes: Mapping[str, str],
) -> str:
    """The page; `drawn` are the figures with their PNG files, the main one first."""
    question, _, _ = description.strip().partition('\n')
    figures = [_figure(picture, png) for picture, png in drawn]
    parts = [
        f'<header><h1>{escape(title)}</h1>'
        f'<p class="question">{escape(question)}</p></header>',
        _answer(answer),
        *figures[:1],
        _differences(comparison),
        *figures[1:],
        _settings(comparison) if comparison.field else _metrics(comparison),
        _provenance(notes, description),
    ]
    body = '\n'.join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n'
        f'<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n'
    )


def _answer(answer: Answer) -> str:
    notes = escape(' '.join(answer.notes))
    return (
        f'<section class="answer"><h2>Answer</h2>{_list(answer.overview)}'
        f'{_list(answer.details)}<p class="note">{notes}</p></section>'
    )


def _list(sentences: Sequence[str]) -> str:
    if not sentences:
        return ''
    return '<ul>' + ''.join(f'<li>{escape(s)}</li>' for s in sentences) + '</ul>'


def _figure(picture: Picture, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    width = round(100 * picture.figure.get_figwidth())
    return (
        f'<section class="picture"><h2>{escape(picture.title)}</h2>\n'
        '<figure><div class="card" tabindex="0">'
        f'<img width="{width}" src="data:image/png;base64,{data}"'
        f' alt="{escape(picture.alt)}"></div>'
        f'<figcaption>{escape(picture.caption)}</figcaption></figure></section>'
    )


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    heads = ''.join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = '\n'.join('<tr>' + ''.join(map(_td, row)) + '</tr>' for row in rows)
    return (
        f'<p class="note">{escape(caption)}</p>\n'
        '<div class="scroll" tabindex="0"><table>'
        f'<thead><tr>{heads}</tr></thead>\n<tbody>{body}</tbody></table></div>'
    )


def _td(cell: Cell) -> str:
    kind = f' class="{cell.kind}"' if cell.kind else ''
    note = f'<small>{escape(cell.note)}</small>' if cell.note else ''
    return f'<td{kind}>{escape(cell.text)}{note}</td>'


def _differences(comparison: Comparison) -> str:
    """The table of paired differences, a row for each setting."""
    if not comparison.pairs:
        return ''
    short = names(comparison)
    head = [short[field] for field in comparison.fields]
    head += [pair_name(comparison, *pair) for pair in comparison.pairs]
    rows = [
        [Cell(show(value)) for value in setting]
        + [_difference(comparison.difference(setting, *p)) for p in comparison.pairs]
        for setting in comparison.settings
    ]
    caption = (
        'Final test accuracy of one arm minus that of another: mean and 95 % '
        't-interval over the n seeds that both have.'
    )
    return (
        '<section><h2>Paired differences at equal settings</h2>\n'
        f'{_table(caption, head, rows)}</section>'
    )


def _difference(difference: Interval) -> Cell:
    word = verdict(difference)
    kind = word if word in ('higher', 'lower') else ''
    note = f'{word}, n = {difference.n}' if difference.n > 1 else ''
    return Cell(signed(difference), kind, note)


def _settings(comparison: Comparison) -> str:
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
    return f'<section><h2>All settings</h2>\n{_table(caption, head, rows)}</section>'


def _metrics(comparison: Comparison) -> str:
    """The table of final metrics, where only the seed varies."""
    rows = []
    for metric in METRICS:
        mean = mean_of(comparison.records, metric)
        texts = metric.replace('_', ' '), estimate(mean), str(mean.n)
        rows.append([Cell(text) for text in texts])
    caption = (
        f'Means over seeds ± half of the 95 % t-interval, for the last epoch. {TRAIN}'
    )
    head = ['metric', 'mean', 'seeds']
    return f'<section><h2>Final metrics</h2>\n{_table(caption, head, rows)}</section>'


def _provenance(notes: Mapping[str, str], description: str) -> str:
    items = ''.join(
        f'<dt>{escape(str(name))}</dt><dd>{escape(str(text))}</dd>'
        for name, text in notes.items()
    )
    return (
        f'<section><h2>How it was run</h2>\n<dl>{items}</dl>\n'
        f'<pre>{escape(description.strip())}</pre></section>'
    )
