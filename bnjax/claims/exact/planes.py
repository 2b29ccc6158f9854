"""Random planes through the origin, as first layers begin: which divide the data.

A layer of a random plane w'x = 0 does something only where there is data on both of
its sides. The documents say that preprocessing makes such planes many times more.
"""

import functools
from typing import NamedTuple

import numpy as np
import threadpoolctl

from bnjax import stats
from bnjax.claims.exact.images import first_images, train_pixels
from bnjax.claims.finding import Finding, require
from bnjax.data import preprocessing

_USEFUL = (0.05, 0.95)  # a plane that leaves this share of the data on one side


class Splits(NamedTuple):
    """Shares of planes: that have data on both sides, and 5 % of it or more."""

    any: float
    useful: float


def planes_miss_the_images() -> Finding:
    """The share of random planes with less than 5 % of the images on one side."""
    found = {}
    for name in ('mnist', 'cifar10'):
        x = first_images(name, 5000)
        planes = _planes(x.shape[1], 2000)
        raw, centred = (splits(shares(v, planes)) for v in (x, x - x.mean(0)))
        require(centred.useful > 0.99, f'{name}, centred: all divide, found {centred}')
        found[name] = raw
    mnist, cifar = found['mnist'], found['cifar10']
    return Finding(
        max(mnist.useful, cifar.useful) < 0.5,
        'planes with less than 5 % of the images on one side: MNIST '
        f'{1 - mnist.useful:.3f}, CIFAR-10 {1 - cifar.useful:.3f}, none of them after '
        f'mean subtraction; with no image on one side: {1 - mnist.any:.3f} and '
        f'{1 - cifar.any:.3f}; first 5 000 training images, 2 000 planes, no bias',
    )


def mean_subtraction_gains_exponentially() -> Finding:
    """How the gain by mean subtraction grows with the dimensions n: 2^n, it is said."""
    dimensions = (2, 5, 10, 50, 200, 784)
    for n in (2, 5, 10):
        _require_orthant_is_met(n)
    with threadpoolctl.threadpool_limits(1):  # products too small for two
        gains = np.log2([_gains(n) for n in dimensions])  # (dimensions, clouds, 2)
    flat = gains.reshape(len(dimensions), -1)
    slopes = np.polyfit(dimensions, flat, 1)[0].reshape(gains.shape[1:])
    _, low, high, _ = stats.interval(slopes)
    any_, useful = np.exp2(gains.mean(1)).T
    return Finding(
        bool(high.max() >= 0.05),
        'log2 of the gain per dimension, where 1 is claimed: '
        f'[{low[0]:.4f}, {high[0]:.4f}] with any data on both sides, '
        f'[{low[1]:.4f}, {high[1]:.4f}] with 5 %; 10 narrow clouds; gain at n = 2, 10, '
        f'784: {any_[0]:.1f}, {any_[2]:.1f}, {any_[-1]:.1f} and {useful[0]:.0f}, '
        f'{useful[2]:.0f}, {useful[-1]:.0f}',
    )


def _require_orthant_is_met(n: int) -> None:
    """A plane meets the open orthant unless all weights have one sign: 1 - 2^(1-n)."""
    one_sided = np.abs(np.sign(_planes(n, 100_000)).sum(0)) == n
    found, expected = 1 - one_sided.mean(), 1 - 2.0 ** (1 - n)
    text = f'of planes in {n} dimensions {expected:.3f} meet the first orthant'
    require(abs(found - expected) < 0.005, f'{text}, found {found:.3f}')


def _gains(n: int) -> np.ndarray:
    """Factors (10 clouds, 2) by which mean subtraction multiplies its ``Splits``."""
    planes = _planes(n, 2000)
    clouds = [narrow_cloud(n, seed) for seed in range(10)]
    before = np.array([splits(shares(x, planes)) for x in clouds])
    after = np.array([splits(shares(x - x.mean(0), planes)) for x in clouds])
    # Half a plane, for where none of them divides the raw cloud.
    half = 0.5 / planes.shape[1]
    return (after + half) / (before + half)


def narrow_cloud(n: int, seed: int) -> np.ndarray:
    """500 points in [0, 255]^n about 120: a common deviation of 40, each own of 8."""
    rng = np.random.default_rng(seed)
    common = 40 * rng.standard_normal((500, 1))
    points = 120 + common + 8 * rng.standard_normal((500, n))
    return np.clip(points, 0, 255).astype(np.float32)


def whitening_balances_planes() -> Finding:
    """How far the two sides of a plane are from even: whitened against centred."""
    uneven = _unevenness()
    pca, zca = (difference(uneven[name] - uneven['center']) for name in ('pca', 'zca'))
    return Finding(
        pca.high < 0 and zca.high < 0,
        f'{_said(uneven, "center", "pca", "zca")}; less the centred: '
        f'PCA [{pca.low:.4f}, {pca.high:.4f}], ZCA [{zca.low:.4f}, {zca.high:.4f}]',
    )


def z_score_balances_planes() -> Finding:
    """How far the two sides of a plane are from even: z-scored against raw."""
    uneven = _unevenness()
    raw, centred = (
        difference(uneven['zscore'] - uneven[name]) for name in ('unit', 'center')
    )
    return Finding(
        raw.high < 0,
        f'{_said(uneven, "unit", "center", "zscore")}; z-scored less raw '
        f'[{raw.low:.3f}, {raw.high:.3f}], less centred [{centred.low:.4f}, '
        f'{centred.high:.4f}]: more even than raw, less than centred',
    )


@functools.cache
def _unevenness() -> dict[str, np.ndarray]:
    """|share above - 1/2| of 2000 planes, by preprocessing of MNIST."""
    pixels = train_pixels('mnist')[:10_000]
    planes = _planes(pixels[0].size, 2000)
    uneven = {}
    for name in ('unit', 'center', 'zscore', 'pca', 'zca'):
        transform = preprocessing.fit(name, pixels, 255)
        x = preprocessing.apply(transform, pixels).reshape(len(pixels), -1)
        uneven[name] = np.abs(shares(x, planes) - 0.5)
    return uneven


def _said(uneven: dict[str, np.ndarray], *names: str) -> str:
    words = {
        'unit': 'raw',
        'center': 'centred',
        'zscore': 'z-scored',
        'pca': 'PCA',
        'zca': 'ZCA',
    }
    means = ', '.join(f'{words[name]} {uneven[name].mean():.4f}' for name in names)
    return (
        f'mean |share of images above a random plane - 1/2|: {means}; first 10 000 '
        'training images of MNIST, 2 000 planes'
    )


def difference(values: np.ndarray) -> stats.Interval:
    """The mean of paired differences with its 95 % bootstrap interval."""
    draws = np.random.default_rng(0).integers(len(values), size=(1000, len(values)))
    low, high = np.quantile(values[draws].mean(1), (0.025, 0.975))
    return stats.Interval(float(values.mean()), float(low), float(high), len(values))


def shares(x: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """The share of points (n, features) above each plane (features, planes)."""
    return np.count_nonzero(x @ planes > 0, 0) / len(x)


def splits(above: np.ndarray) -> Splits:
    """``Splits`` of planes with these shares of the data above them."""
    low, high = _USEFUL
    useful = (above >= low) & (above <= high)
    return Splits(float(((above > 0) & (above < 1)).mean()), float(useful.mean()))


def _planes(features: int, count: int) -> np.ndarray:
    """Random normals (features, count) of planes through the origin."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((features, count), np.float32)
