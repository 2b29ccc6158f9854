"""Text stays text on GitHub, and numbers read well."""

import html
import math
import re

import pytest

from bnjax.claims.page import markdown
from bnjax.claims.page.description import describe
from bnjax.report.numbers import duration, estimate, number, thousands
from bnjax.stats import Interval


@pytest.mark.parametrize(
    'plain',
    [
        'a * b * c',
        'x < y > [-1, 1] & z',
        '<b>',
        '_x_ and batch_size',
        '~~x~~',
        'a | b',
        '[x](y)',
        '&lt;',
        '\\',
    ],
)
def test_text_stays_text(plain):
    written = markdown.text(plain)
    assert re.sub(r'\\([_\W])', r'\1', written) == plain
    assert written == plain or '\\' in written
    assert not re.search(r'(?<!\\)([*~|]|<b|&lt|\]\(|\b_|_\b)', written)


def test_dollars_make_no_formula_and_code_stays_code():
    assert html.unescape(markdown.text('$x$')) == '$x$'
    assert '$' not in markdown.text('$x$')
    assert markdown.text('see `a*b|c`, a*b') == 'see `a*b\\|c`, a\\*b'


def test_a_wrapped_line_opens_no_list_or_heading():
    words = ['- none', '# 1', '1. first', '+ 2', '> 3', '=', 'end']
    filled = markdown.paragraph(' '.join(f'{word} {"y" * 85}' for word in words))
    assert not re.search(r'(?m)^\s*([-+#=>]|\d+[.)] )', filled)
    assert re.search(r'(?m)^\\- none', filled) and '\n1\\. first' in filled


def test_the_docstring_of_a_config_becomes_question_and_list():
    question, done = describe(
        """Is it
    so?

    Some prose.
    Shows: this
    and that.
    Command: python x

        a  table

    - one
    - two: 2
    """
    )
    assert question == 'Is it so?'
    assert done == (
        'Some prose.\n\n- **Setup:** this and that.\n\n```\na  table\n```\n\n'
        '- one\n- two: 2'
    )


@pytest.mark.parametrize(
    ('mean', 'bounds', 'said'),
    [
        (Interval(1.32, 1.1, 1.54, 10), (), '1.32 [1.10, 1.54]'),
        (Interval(0.2231, 0.22003, 0.2262, 10), (0.22,), '0.22310 [0.22003, 0.22620]'),
        (Interval(5e5, 4.1e5, 6.2e5, 5), (), '5.0e5 [4.1e5, 6.2e5]'),
        (Interval(-3.2e-7, -4e-7, 1e-7, 5), (0,), '-3.2e-7 [-4.0e-7, 1.0e-7]'),
        (Interval(1523.2, 1400, 1646, 9), (), '1523 [1400, 1646]'),
        (Interval(0.5, 0.5, 0.5, 4), (), '0.5000 [0.5000, 0.5000]'),
        (Interval(0.0, 0.0, 0.0, 4), (0,), '0.0000 [0.0000, 0.0000]'),
        (Interval(3.0, math.nan, math.nan, 1), (), '3'),
        (Interval(math.nan, math.nan, math.nan, 0), (), 'unknown'),
    ],
)
def test_an_interval_is_written_with_the_digits_it_needs(mean, bounds, said):
    assert estimate(mean, bounds) == said


def test_numbers_counts_and_times_read_well():
    assert [number(x) for x in (0.22, 1.5e6, 1e-10, 12345.0)] == [
        '0.22',
        '1.5e6',
        '1e-10',
        '12345',
    ]
    assert thousands(1_000_000) == '1 000 000'
    assert [duration(s) for s in (4.6, 812, 3599.9, 7325)] == [
        '5 s',
        '13 min 32 s',
        '1 h 0 min',
        '2 h 2 min',
    ]
