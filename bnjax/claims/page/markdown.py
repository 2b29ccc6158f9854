"""Markdown as GitHub reads it: text that stays text, paragraphs, lists, tables."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from bnjax.report.numbers import number

WIDTH = 88
_SPECIAL = re.compile(
    r'[\\*~|`]|<(?=[A-Za-z/!?])|&(?=#?\w+;)|\](?=[(:\[])'
    r'|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])'
)
_OPENING = re.compile(r'(?m)^( *)([-+](?= )|#+(?= )|>|[-=]+(?= *$)|\d+(?=[.)] ))')


def text(plain: str) -> str:
    """Plain text on one line; what `backticks` enclose stays code.

    A dollar sign, which GitHub takes for a formula, can only be an entity.
    """
    parts = re.split(r'(`[^`]+`)', ' '.join(plain.split()))
    return ''.join(
        part.replace('|', r'\|') if index % 2 else _escaped(part)
        for index, part in enumerate(parts)
    )


def _escaped(plain: str) -> str:
    return _SPECIAL.sub(r'\\\g<0>', plain).replace('$', '&#36;')


def paragraph(markdown: str, first: str = '') -> str:
    """Breaks a paragraph into lines, none of which opens a list or a heading.

    `first` opens the paragraph itself; the other lines are indented as far.
    """
    rest = ' ' * len(first)
    filled = textwrap.fill(
        ' '.join(markdown.split()).replace('<a id', '<a\0id'),
        WIDTH,
        initial_indent=rest,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    whole = filled.replace('\0', ' ')  # an anchor is not broken
    return first + _OPENING.sub(_closed, whole)[len(rest) :]


def _closed(match: re.Match[str]) -> str:
    indent, opening = match.groups()
    return f'{indent}{opening}\\' if opening.isdigit() else f'{indent}\\{opening}'


def item(markdown: str, level: int = 0) -> str:
    """An item of a list; `level` 1 is in one of level 0."""
    return paragraph(markdown, '  ' * level + '- ')


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown."""
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in lines)


def cell(value: Any) -> str:
    """A value of a study's table as a cell: a number with at most five digits."""
    if value is None:
        return ''
    return number(value) if isinstance(value, float) else text(str(value))


def anchor(name: str) -> str:
    """A place that a link to '#name' leads to."""
    return f'<a id="{name}"></a>'


def blocks(parts: Iterable[str]) -> str:
    """Parts with an empty line between any two; empty ones are left out."""
    return '\n\n'.join(part for part in parts if part)
