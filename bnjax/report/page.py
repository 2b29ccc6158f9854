"""The report as one HTML file that opens offline, light or dark, and in print."""

import base64
import hashlib
import importlib.resources
from collections.abc import Mapping, Sequence
from html import escape

from bnjax.comparison import Comparison
from bnjax.report import tables, trials, verdicts
from bnjax.report.answer import Answer
from bnjax.report.picture import Picture
from bnjax.verdict import Verdict


def render(
    comparison: Comparison,
    drawn: Sequence[tuple[Picture, bytes]],
    *,
    title: str,
    description: str,
    answer: Answer,
    notes: Mapping[str, str],
    settled: Sequence[Verdict] = (),
) -> str:
    """The page; `drawn` are the figures with their PNG files, the main one first."""
    question, _, _ = description.strip().partition('\n')
    figures = [_figure(picture, png) for picture, png in drawn]
    all_settings = tables.settings if comparison.field else tables.metrics
    parts = [
        f'<header><h1>{escape(title)}</h1>'
        f'<p class="question">{escape(question)}</p></header>',
        verdicts.section(settled),
        _answer(answer),
        *figures[:1],
        tables.differences(comparison),
        all_settings(comparison),
        tables.targets(comparison),
        *figures[1:],
        trials.section(comparison),
        _provenance(notes, description),
    ]
    return _document(title, '\n'.join(part for part in parts if part))


def _document(title: str, body: str) -> str:
    """The whole file, which may load nothing and run no script but its own."""
    style, script = _resource('page.css'), _resource('page.js')
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n'
        f'<body>\n<main>\n{body}\n</main>\n<script>{script}</script>\n'
        '</body>\n</html>\n'
    )


def _resource(name: str) -> str:
    file = importlib.resources.files('bnjax.report').joinpath(name)
    return file.read_text(encoding='utf-8')


def _digest(content: str) -> str:
    """By which a policy knows an inline script or style."""
    digest = hashlib.sha256(content.encode()).digest()
    return f'sha256-{base64.b64encode(digest).decode()}'


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


def _provenance(notes: Mapping[str, str], description: str) -> str:
    items = ''.join(
        f'<dt>{escape(str(name))}</dt><dd>{escape(str(text))}</dd>'
        for name, text in notes.items()
    )
    return (
        f'<section><h2>How it was run</h2>\n<dl>{items}</dl>\n'
        f'<pre>{escape(description.strip())}</pre></section>'
    )
