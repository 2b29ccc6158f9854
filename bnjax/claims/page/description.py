"""A config's docstring as Markdown: its question, and what was done."""

import inspect
import re
import textwrap
from typing import NamedTuple

from bnjax.claims.page.markdown import blocks, item, paragraph, text

_LABEL = re.compile(r'([A-Z][a-z]+(?: [a-z]+)?): (.*)', re.DOTALL)
_LABELLED = re.compile(r'(?m)^(?=[A-Z][a-z]+(?: [a-z]+)?: )')
_DASHED = re.compile(r'(?m)^(?=[A-Z][a-z]+(?: [a-z]+)?: |[-*] )')
_LIST = re.compile(r'(?:\A|:\n)[-*] ')
_INDENT = ' ' * 2
LEFT_OUT = 'Settles', 'Command'  # the section itself says both
RENAMED = {'Shows': 'Setup', 'Expect': 'In short'}  # as a reader of results asks


class Description(NamedTuple):
    """Both as Markdown: a line; paragraphs and lists."""

    question: str
    done: str


def describe(docstring: str) -> Description:
    """Reads the docstring of a config file.

    Its first paragraph is the question. Lines that open with a label, as 'Shows: ',
    become items of a list, and so do those that open with a dash where a paragraph
    begins with one, or they follow a colon. Indented paragraphs stay as they are;
    what is `LEFT_OUT` goes.
    """
    question, *rest = re.split(r'\n\s*\n', inspect.cleandoc(docstring))
    return Description(text(question), blocks(map(_paragraph, rest)))


def _paragraph(plain: str) -> str:
    if all(line.startswith(_INDENT) for line in plain.splitlines()):
        return f'```\n{textwrap.dedent(plain)}\n```'
    opening = _DASHED if _LIST.search(plain) else _LABELLED
    parts = [part for part in opening.split(plain) if part]
    before = [paragraph(text(part)) for part in parts if not opening.match(part)]
    items = [_item(part) for part in parts if opening.match(part)]
    return blocks([*before, '\n'.join(item for item in items if item)])


def _item(plain: str) -> str:
    labelled = _LABEL.match(plain)
    if labelled is None:
        return item(text(plain[1:]))
    label, said = labelled.groups()
    label = RENAMED.get(label, label)
    return '' if label in LEFT_OUT else item(f'**{label}:** {text(said)}')
