"""What can be read off the documents' own words, or off the paper they cite.

These are no experiments: the effect says "in the text" or "a citation".
"""

import re

import numpy as np

from bnjax.claims.exact.reference import batch_norm
from bnjax.claims.finding import Finding, require
from bnjax.claims.register import CLAIMS

# Ioffe & Szegedy 2015, arXiv:1502.03167, by section.
_PAPER = {
    'the place': (
        '3.2',
        'the shape of its distribution is likely to change during training',
        'more likely to have a symmetric, non-sparse distribution',
    ),
    'scale and shift': ('3', 'can represent the identity transform'),
    'epsilon': ('3.1', 'added to the mini-batch variance for numerical stability'),
    'the nonlinearity': ('3.2', 'is the nonlinearity such as sigmoid or ReLU'),
}
_BEFORE, _AFTER, _OUTPUT = 'before the activation', 'after it', "a layer's output"
_PLACES = {
    '激活函数之前': _BEFORE,
    'Wx+b之后': _BEFORE,
    '激活函数之后': _AFTER,
    '激活输出上': _AFTER,
    '每一层输出': _OUTPUT,
}
_LEAKY_SLOPE = 0.1  # darknet-53's unit, Redmon & Farhadi 2018: its activation is leaky


def reason_for_the_place() -> Finding:
    """Why the paper normalises Wu + b: unstable statistics early on, it is said."""
    section, *quotes = _PAPER['the place']
    (words,) = CLAIMS['E10'].words
    require(
        '训练初期' in words and '不稳定' in words, f'a reason is cited, in: {words}'
    )
    return Finding(
        any(term in quote for quote in quotes for term in ('early', 'unstable')),
        f'a citation, section {section}, of what follows an activation: "{quotes[0]}"; '
        f'of Wu + b: "{quotes[1]}"',
    )


def reason_for_scale_and_shift() -> Finding:
    """Why the paper has gamma and beta: for numerical stability, it is said."""
    section, quote = _PAPER['scale and shift']
    other, stability = _PAPER['epsilon']
    (words,) = CLAIMS['E17'].words
    require('数值稳定性' in words, f'numerical stability is named, in: {words}')
    return Finding(
        'numerical stability' in quote,
        f'a citation, section {section}: so that the transformation "{quote}"; epsilon '
        f'is "{stability}" (section {other})',
    )


def relu_is_not_discussed() -> Finding:
    """Whether the paper says what gamma and beta do for relu."""
    relu = [subject for subject, said in _PAPER.items() if 'ReLU' in ' '.join(said[1:])]
    section, quote = _PAPER['the nonlinearity']
    return Finding(
        relu == ['the nonlinearity'],
        f'a citation: section 3 names relu once, as an example ("{quote}", section '
        f'{section}), and of gamma and beta says "{_PAPER["scale and shift"][1]}"',
    )


def statistics_of_scale_and_shift() -> Finding:
    """Which statistics document 004's code reads when it tests."""
    words, *code = CLAIMS['E13'].words
    require('gamma和beta' in words, f'gamma and beta are named, in: {words}')
    read = [re.sub(r'nn\.|\{.*', '', name) for name in code]
    return Finding(
        any('gamma' in name or 'beta' in name for name in read),
        'in the text: statistics of gamma and beta are to be taken, and the code reads '
        f'{" and ".join(read)}',
    )


def points_announced() -> Finding:
    """How many points document 000 announces and numbers; what it calls sigma."""
    announced, numbered, called = CLAIMS['E19'].words
    count = '一二三四五'.index(_first('([一二三四五])点', announced)) + 1
    last = int(_first(r'(\d+)\.', numbered))
    variance = '方差σ' in called and 'σ^2' not in called
    return Finding(
        last > count and variance,
        f'in the text: {count} points announced, {last} numbered; sigma is '
        + ('called the variance' if variance else 'not called the variance'),
    )


def symbols_reused() -> Finding:
    """Symbols of document 003 that stand for two things."""
    equation, number, column, size, batch = CLAIMS['E20'].words
    left, right = equation.split('=')
    last = _first(r'x\^\{\((\w)\)\}\\rbrace', batch)
    both_sides = left.strip('$ ') in right
    columns = '$M$' in number and '$M$ 的一列' in column
    sizes = '$m$' in size and last != 'm'
    return Finding(
        both_sides and columns and sizes,
        'in the text: Z_hat on both sides of an equation, M the number of samples and '
        f'a matrix with columns, m and {last} the size of a mini-batch',
    )


def places_disagree() -> Finding:
    """The places of batch norm that the documents name."""
    words = CLAIMS['E21'].words
    named = [place for word in words for key, place in _PLACES.items() if key in word]
    return Finding(
        {_BEFORE, _AFTER} <= set(named),
        f'in the text, in {len(CLAIMS["E21"].documents)} documents: '
        + ', '.join(
            f'{place} ({named.count(place)})' for place in dict.fromkeys(named)
        ),
    )


def garbled() -> Finding:
    """Document 002: a title that means nothing, shapes run together, no formulas."""
    title, shape, announced = CLAIMS['E22'].words
    price = '多少钱' in title
    together = re.fullmatch('[a-z]+', shape) is not None and shape.count('times') > 1
    lost = announced.endswith(':')
    return Finding(
        price and together and lost,
        f'in the text: the title asks for a price, a shape reads "{shape}", and an '
        'equation is announced where none follows',
    )


def darknet_activation() -> Finding:
    """Share of N(0, 1) that darknet-53's activation sets to zero, and relu."""
    (words,) = CLAIMS['E24'].words
    require('BN+relu' in words, f'relu is named, in: {words}')
    z = np.random.default_rng(0).standard_normal((10_000, 1)).astype(np.float32)
    y, _ = batch_norm(z)
    relu, leaky = (float((np.maximum(y, a * y) == 0).mean()) for a in (0, _LEAKY_SLOPE))
    return Finding(
        leaky > 0.25,
        f'a citation: leaky relu of slope {_LEAKY_SLOPE}, which sets {leaky:.2f} of '
        f'normalised values to 0 (relu {relu:.2f})',
    )


def scale_is_called_variance() -> Finding:
    """The variance of batch norm's output by its scale gamma."""
    x = np.random.default_rng(0).standard_normal((1000, 2)).astype(np.float32)
    scale = np.array([0.5, 2], np.float32)
    y, _ = batch_norm(x, scale)
    variance, deviation = y.var(0), y.std(0)
    off = np.abs(deviation / scale - 1).max()
    require(off < 1e-4, f'gamma is the deviation of the output, off by {off:.0e}')
    return Finding(
        bool(np.allclose(variance, scale, rtol=0.01)),
        f'for gamma 0.5 and 2 the output has the variance {variance[0]:.2f} and '
        f'{variance[1]:.2f}: its square',
    )


def mean_is_divided() -> Finding:
    """What document 002 divides by the deviation, and what it calls the variance."""
    divided, called = CLAIMS['E29'].words
    return Finding(
        '将平均值除以标准差' in divided and '方差) sigma' in called,
        'in the text: "divides the mean by the standard deviation", and sigma after '
        'the word for variance',
    )


def solved_and_alleviated() -> Finding:
    """What document 003 says batch norm does to internal covariate shift."""
    words = CLAIMS['E30'].words
    solved, alleviated = (sum(w in text for text in words) for w in ('解决', '缓解'))
    column = any('$M$ 的一列是一个样本' in text for text in words)
    return Finding(
        solved == 2 and alleviated == 1 and column,
        f'in the text: "solved" {solved} times, "alleviated" {alleviated}; a sample is '
        'a column of M, the number of samples',
    )


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    require(found is not None, f'{pattern} stands in: {text}')
    return found[1] if found else ''
