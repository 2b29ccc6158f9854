"""What normalisation does to the shape of a distribution, and what that is to sigmoid.

Two moments are fixed, no more.
"""

import re
from typing import NamedTuple

import numpy as np
import threadpoolctl
from scipy import integrate, special, stats

from bnjax.claims.exact import digits
from bnjax.claims.exact.images import first_images
from bnjax.claims.exact.reference import batch_norm
from bnjax.claims.finding import Finding, require
from bnjax.claims.register import CLAIMS

_WIDTH = 100
_MOMENTS = 1e-3  # of a normalised feature, with the library's epsilon


class Shape(NamedTuple):
    """Of each feature: the distance to the normal law with its moments, and kurtosis.

    Attributes:
      distance: Kolmogorov and Smirnov's, the largest difference of the distributions.
      kurtosis: the excess over the normal law's.
    """

    distance: np.ndarray
    kurtosis: np.ndarray


def shape(x: np.ndarray) -> Shape:
    """The ``Shape`` of the features (n, features), none of them constant."""
    z = np.sort((x - x.mean(0)) / x.std(0), 0)
    below = stats.norm.cdf(z)
    rank = np.arange(len(z))[:, np.newaxis]
    distance = np.maximum((rank + 1) / len(z) - below, below - rank / len(z)).max(0)
    return Shape(distance, (z**4).mean(0) - 3)


def standardised_is_normal() -> Finding:
    """Batch norm's output in a trained network, and of four laws, against N(0, 1)."""
    laws = {name: shape(_normalised(x)).distance[0] for name, x in _four_laws().items()}
    require(laws['normal'] < 0.01, f'the normal law stays, off by {laws["normal"]:.3f}')
    units = shape(
        np.concatenate([_normalised(z) for z in digits.trained_preactivations()], 1)
    )
    other = (units.distance > 0.05) | (np.abs(units.kurtosis) > 0.5)
    return Finding(
        bool(other.mean() < 0.1),
        f'{other.mean():.0%} of the {len(other)} hidden units of a network trained on '
        'digits are not normal (KS distance > 0.05 or |excess kurtosis| > 0.5); KS '
        'distance of normalised draws: '
        + ', '.join(f'{name} {distance:.3f}' for name, distance in laws.items()),
    )


def _four_laws() -> dict[str, np.ndarray]:
    rng, size = np.random.default_rng(0), (20_000, 1)
    return {
        'normal': rng.normal(3, 2, size),
        'uniform': rng.uniform(0, 5, size),
        'exponential': rng.exponential(2, size),
        'Bernoulli': rng.binomial(1, 0.3, size).astype(float),
        'relu of normal': np.maximum(rng.normal(size=size), 0),
    }


def _normalised(x: np.ndarray) -> np.ndarray:
    """Batch norm's output; what it must be, whatever its shape, is made sure of."""
    y, _ = batch_norm(np.asarray(x, np.float32))
    y = np.asarray(y, np.float64)
    off = max(np.abs(y.mean(0)).max(), np.abs(y.var(0) - 1).max())
    require(off < _MOMENTS, f'mean 0 and variance 1, off by {off:.1e}')
    return y


def preactivations_are_gaussian() -> Finding:
    """The first layer's pre-activations on MNIST, each unit against its normal law."""
    x = first_images('mnist')
    weights = np.random.default_rng(0).standard_normal((784, 500), np.float32)
    close = shape(x @ weights).distance < 0.03
    deeper = [
        (shape(z).distance < 0.03).mean() for z in digits.trained_preactivations()
    ]
    return Finding(
        bool(close.mean() >= 0.5),
        f'KS distance to a normal law below 0.03 in {close.mean():.0%} of 500 units '
        'with random weights on the first 10 000 training images of MNIST; in the two '
        'hidden layers of a network trained on digits in '
        f'{deeper[0]:.0%} and {deeper[1]:.0%}',
    )


def sigmoid_stays_linear() -> Finding:
    """How much of sigmoid(N(0, 1)) is in [0.1, 0.9], and how well a line fits it."""
    within = _mass(0.1)
    require(
        abs(within - 0.972) < 5e-4, f'share in [0.1, 0.9] 0.972, found {within:.4f}'
    )
    drawn = _normalised(np.random.default_rng(0).exponential(3, (200_000, 1)))
    fits = [line_fit(gain) for gain in (1, 2, 4)]
    for found, expected in zip(fits, (0.984, 0.930, 0.838), strict=True):
        require(abs(found - expected) < 1e-3, f'R^2 {expected}, found {found:.4f}')
    skewed = special.expit(drawn)
    return Finding(
        within > 0.95 and fits[0] > 0.95,
        f'{within:.1%} of sigmoid(N(0, 1)) in [0.1, 0.9], R^2 of a line {fits[0]:.3f} '
        f'(gain 2 and 4: {fits[1]:.3f}, {fits[2]:.3f}); of a normalised exponential '
        f'law {np.mean((skewed > 0.1) & (skewed < 0.9)):.1%}',
    )


def _mass(low: float) -> float:
    """P(low < sigmoid(x) < 1 - low) for x of N(0, 1)."""
    return float(1 - 2 * stats.norm.cdf(special.logit(low)))


def line_fit(gain: float) -> float:
    """R^2 of the best line through sigmoid(gain x), x of N(0, 1)."""

    def mean(f):
        return integrate.quad(lambda x: f(x) * stats.norm.pdf(x), -12, 12)[0]

    variance = mean(lambda x: (special.expit(gain * x) - 0.5) ** 2)
    return mean(lambda x: x * special.expit(gain * x)) ** 2 / variance


def sigmoid_range_is_linear() -> Finding:
    """The least-squares line to sigmoid where its values are in a range."""
    narrow, wide = line_to_sigmoid(0.2), line_to_sigmoid(0.1)
    for found, expected in zip(
        narrow + wide, (0.0172, 0.64, 0.0500, 0.36), strict=True
    ):
        require(abs(found - expected) < 5e-4, f'{expected} known, found {found:.4f}')
    return Finding(
        narrow[0] <= 0.02 and wide[0] <= 0.02,
        f'largest deviation from the line {narrow[0]:.4f} over [0.2, 0.8], where the '
        f'slope falls to {narrow[1]:.0%} of its height, {wide[0]:.4f} over [0.1, 0.9] '
        f'({wide[1]:.0%}); mass of N(0, 1) there {_mass(0.2):.1%} and {_mass(0.1):.1%}',
    )


def line_to_sigmoid(low: float) -> tuple[float, float]:
    """Largest deviation from the line over [low, 1 - low], and slope there / at 0."""
    x = np.linspace(-special.logit(low), special.logit(low), 200_001)
    y = special.expit(x)
    line = np.polynomial.Polynomial.fit(x, y, 1)
    return float(np.abs(y - line(x)).max()), 4 * low * (1 - low)


def worked_example() -> Finding:
    """The list of normalised values that document 003 prints for eight samples."""
    printed = numbers_in(CLAIMS['S51'].words[0])
    row = np.array([1.0, 1.5, 1.2, 0.9, 1.7, 2.1, 3.1, 1.7])
    y, batch = batch_norm(row[:, np.newaxis].astype(np.float32), epsilon=1e-8)
    off = float(max(abs(batch.mean[0] - 1.65), abs(batch.var[0] - 0.44)))
    require(off < 1e-6, f'the row has mean 1.65 and variance 0.44, off by {off:.1e}')
    x_hat = [round(float(v), 2) for v in y[:, 0]]
    require(set(printed) <= set(x_hat), f'what is printed is among {x_hat}')
    missing = [v for v in x_hat if v not in printed]
    mean, variance = np.mean(printed), np.var(printed)
    return Finding(
        bool(len(printed) == 8 and abs(mean) <= 0.01 and abs(variance - 1) <= 0.01),
        f'in the text: {len(printed)} values for 8 samples, sum {sum(printed):.2f}, '
        f'variance {variance:.3f}; with the missing {missing} they are batch norm of '
        f'{row.tolist()}',
    )


def numbers_in(text: str) -> list[float]:
    """The decimal numbers of a text, in order."""
    return [float(number) for number in re.findall(r'-?\d+\.\d+', text)]


def earlier_weights_move_moments() -> Finding:
    """Moments of what goes into layers 2 to 11 when all weights before move by 10 %."""
    x = digits.images()[0][:500]
    with threadpoolctl.threadpool_limits(1):  # products too small for two
        changes = np.array([_moved(x, seed) for seed in range(10)])
    mean, variance = np.median(changes, (0, 3))
    depth = np.arange(1, len(mean) + 1)
    trends = [stats.spearmanr(depth, change)[0] for change in (mean, variance)]
    kept = _moved(x, 0, normalised=True).max()
    return Finding(
        bool(kept <= 1e-5 and min(trends) > 0.9),
        f'median change of a mean {mean[0]:.2f} to {mean[-1]:.2f} deviations at depth '
        f'1 to 10 (rank correlation {trends[0]:.2f}), of a variance {variance[0]:.0%} '
        f'to {variance[-1]:.0%} ({trends[1]:.2f}); of x_hat at most {kept:.0e}',
    )


def _moved(x: np.ndarray, seed: int, normalised: bool = False) -> np.ndarray:
    """Changes (2, 10, units): of the mean in deviations, of the variance in itself."""
    rng = np.random.default_rng(seed)
    sizes = [x.shape[1]] + 10 * [_WIDTH]
    weights = [_weights(rng, a, _WIDTH) for a in sizes]
    moved = [w + 0.1 * _weights(rng, *w.shape) for w in weights]
    layer = _normalised if normalised else np.asarray
    before, after = x, x
    changes = []
    for w, v in zip(weights, moved, strict=True):
        # A layer's own weights are as they were: only what is before it moved.
        z, other = layer(before @ w), layer(after @ w)
        of_mean = np.abs(other.mean(0) - z.mean(0)) / z.std(0)
        changes.append((of_mean, np.abs(other.var(0) / z.var(0) - 1)))
        before, after = np.maximum(z, 0), np.maximum(layer(after @ v), 0)
    return np.moveaxis(np.array(changes[1:]), 0, 1)


def _weights(rng: np.random.Generator, inputs: int, outputs: int) -> np.ndarray:
    return rng.standard_normal((inputs, outputs)) * np.sqrt(2 / inputs)
