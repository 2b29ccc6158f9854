"""What the documents say of images, their pixels and their covariance, counted."""

import functools
import time

import jax.numpy as jnp
import numpy as np
import scipy.linalg
import threadpoolctl

import bnjax
from bnjax.claims.exact.reference import batch_norm
from bnjax.claims.finding import Finding, require
from bnjax.data import sources

# Products of so many bytes stay below 2**24, so that float32 sums them exactly.
_EXACT_ROWS = 256
# For features without variance: small beside that of a pixel lit in one image.
_EPSILON = 1e-8


@functools.cache
def train_pixels(name: str) -> np.ndarray:
    """The training images (n, height, width, channels), uint8, in their stored order.

    Raises:
      UserError: the data set is not on this machine.
    """
    return sources.prepared(name, None).x_train


def first_images(name: str, count: int = 10_000) -> np.ndarray:
    """The first training images as rows of pixels (count, features) in [0, 1]."""
    pixels = train_pixels(name)[:count].reshape(count, -1)
    return pixels.astype(np.float32) / np.float32(255)


def neighbours_of_a_dark_pixel() -> Finding:
    """How often the pixel to the right of one of 25 to 35 is above 100."""
    bright, correlation = _neighbours('cifar10')
    bright_digits, correlation_digits = _neighbours('mnist')
    require(bright_digits > 0.2, f'MNIST has sharp edges, found {bright_digits:.3f}')
    return Finding(
        bright < 0.05,
        f'P(neighbour > 100 given 25 to 35) {bright:.3f} on CIFAR-10 (correlation of '
        f'neighbours {correlation:.3f}); MNIST {bright_digits:.3f} '
        f'({correlation_digits:.3f}); first 10 000 training images',
    )


def _neighbours(name: str) -> tuple[float, float]:
    pixels = train_pixels(name)[:10_000]
    left, right = pixels[:, :, :-1].ravel(), pixels[:, :, 1:].ravel()
    pairs = np.bincount(left.astype(np.uint16) * 256 + right, minlength=256 * 256)
    return neighbour_statistics(pairs.reshape(256, 256))


def neighbour_statistics(pairs: np.ndarray) -> tuple[float, float]:
    """P(second > 100 given first 25 to 35), and the correlation of the two.

    Args:
      pairs: (256, 256) how often a pixel has one value and its neighbour another.
    """
    dark, share, values = pairs[25:36], pairs / pairs.sum(), np.arange(256.0)
    first, second = share.sum(1), share.sum(0)
    left, right = values - first @ values, values - second @ values
    variances = (first @ left**2) * (second @ right**2)
    correlation = left @ share @ right / np.sqrt(variances)
    return float(dark[:, 101:].sum() / dark.sum()), float(correlation)


def eigenvectors_cost_too_much() -> Finding:
    """Time for all eigenvectors of the covariance of MNIST's and CIFAR-10's pixels."""
    small = _seconds_of_eigenvectors(first_images('mnist', 2000))
    large = _seconds_of_eigenvectors(first_images('cifar10', 4000))
    size = 224 * 224 * 3
    return Finding(
        not (small < 1 and large < 60),
        f'{small:.2f} s of one core for 784 pixels (5 MB), {large:.1f} s for '
        f'3072 (75 MB), so cheap for these; for 224 x 224 x 3 pixels the covariance '
        f'alone is {8 * size**2 / 1e9:.0f} GB, and the statement holds',
    )


def _seconds_of_eigenvectors(x: np.ndarray) -> float:
    x = x - x.mean(0)
    covariance = (x.T @ x / np.float32(len(x))).astype(np.float64)
    # Beside other programs, two threads would spend their time waiting.
    with threadpoolctl.threadpool_limits(1):
        # Of the process: what other programs take does not count.
        begun = time.process_time()
        variance, axes = scipy.linalg.eigh(covariance, driver='evd')
        seconds = time.process_time() - begun
    error = np.abs(covariance @ axes[:, -1] - variance[-1] * axes[:, -1]).max()
    require(error < 1e-9 * variance[-1], f'an eigenvector is one, off by {error:.0e}')
    return seconds


@functools.cache
def second_moments() -> tuple[np.ndarray, np.ndarray]:
    """E[x x'] (784, 784) and E[x] of MNIST's training pixels, 0 to 255; exact sums."""
    pixels = train_pixels('mnist').reshape(-1, 784)
    products, total = np.zeros((784, 784)), np.zeros(784)
    with threadpoolctl.threadpool_limits(1):  # products too small for two
        for first in range(0, len(pixels), _EXACT_ROWS):
            rows = pixels[first : first + _EXACT_ROWS].astype(np.float32)
            products += rows.T @ rows
            total += rows.sum(0)
    return products / len(pixels), total / len(pixels)


def first_layer_has_unit_variance() -> Finding:
    """The variance of Wx for W from the standard normal law, x MNIST's pixels."""
    raw, mean = second_moments()
    varying = int((np.diag(raw) > mean**2).sum())
    norm = _mean_square_of_scored()
    require(abs(norm / varying - 1) < 1e-3, f'|x|^2 is {varying}, found {norm:.1f}')
    scored, bounded = _scored(raw, mean), raw / 255**2
    ratios = [_variance_of_products(m) / np.trace(m) for m in (scored, bounded)]
    for ratio in ratios:
        require(0.97 <= ratio <= 1.03, f'var(Wx) is mean |x|^2, times {ratio:.3f}')
    variance = float(ratios[0] * norm)
    return Finding(
        0.5 <= variance <= 2,
        f'variance {variance:.0f} on z-scored MNIST, where mean |x|^2 is {norm:.1f}, '
        f'its pixels that vary; {np.trace(bounded):.1f} in [0, 1]; with weights of '
        f'variance 1 / 784: {variance / 784:.2f} and {np.trace(bounded) / 784:.2f}',
    )


def _mean_square_of_scored() -> float:
    """Mean |y|^2 of batch norm's output y, all training images as one batch."""
    pixels = train_pixels('mnist').reshape(-1, 784)
    y, _ = bnjax.batch_norm(jnp.asarray(pixels, jnp.float32), epsilon=_EPSILON)
    return float(jnp.vdot(y, y)) / len(pixels)


def _scored(second: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Second moments of the features minus their mean over their deviation."""
    covariance = second - np.outer(mean, mean)
    varies = np.diag(second) > mean**2
    deviation = np.sqrt(np.where(varies, np.diag(covariance), 1))
    return covariance / np.outer(deviation, deviation)


def _variance_of_products(second: np.ndarray) -> float:
    """Variance of w'x over 2000 random w and all x, from E[x x']."""
    weights = np.random.default_rng(0).standard_normal((2000, len(second)))
    return float(((weights @ second) * weights).sum(1).mean())


def scales_condition_the_error() -> Finding:
    """Steps of gradient descent by the scale of one of two features."""
    scales = (1, 3, 10, 30, 100)
    x = np.random.default_rng(0).standard_normal((1000, 2))
    kappa, steps = np.transpose([_descent(x * (1, scale)) for scale in scales])
    slope = np.polyfit(np.log(kappa), np.log(steps), 1)[0]
    round_, equal = np.transpose(
        [_descent(_normalised(x * (1, scale))) for scale in scales]
    )
    ratios = spectrum_ratios(*second_moments())
    for name, found, expected in zip(
        ('raw', 'centred', 'z-scored', 'whitened'),
        ratios,
        (2540, 341, 53.5, 1.34),
        strict=True,
    ):
        text = f'MNIST {name}: eigenvalue 1 / 200 is {expected}, found {found:.4g}'
        require(abs(found / expected - 1) < 0.02, text)
    holds = 0.9 <= slope <= 1.1 and max(round_) < 1.5
    raw, centred, scored, _ = ratios
    return Finding(
        bool(holds),
        f'steps grow as condition number to the {slope:.2f} ({steps[0]:.0f} to '
        f'{steps[-1]:.0f} for scales 1 to 100), {max(equal):.0f} after batch norm; '
        f'eigenvalue 1 / 200 of MNIST: raw {raw:.0f}, centred {centred:.0f}, z-scored '
        f'{scored:.1f}, so rounder, not round',
    )


def _normalised(x: np.ndarray) -> np.ndarray:
    return batch_norm(x.astype(np.float32))[0].astype(np.float64)


def _descent(x: np.ndarray) -> tuple[float, int]:
    """Condition number, and steps at 1 / largest eigenvalue to 1e-6 of the error."""
    curvature = np.linalg.eigvalsh(x.T @ x / len(x))
    # Along the eigenvectors, where each axis has half of the error to begin with.
    away, kept, steps = 1 / np.sqrt(curvature), 1 - curvature / curvature[-1], 0
    while curvature @ away**2 > 1e-6 * len(away):
        away, steps = away * kept, steps + 1
    return curvature[-1] / curvature[0], steps


def spectrum_ratios(second: np.ndarray, mean: np.ndarray) -> tuple[float, ...]:
    """Eigenvalue 1 / 200 of the raw, centred, z-scored and whitened second moments.

    Whitened is divided by variance + 1e-3 of the largest: the smallest are rounding.
    """
    covariance = second - np.outer(mean, mean)
    matrices = second, covariance, _scored(second, mean)
    with threadpoolctl.threadpool_limits(1):
        raw, centred, scored = (np.linalg.eigvalsh(m)[::-1] for m in matrices)
    whitened = centred / (centred + 1e-3 * centred[0])
    return tuple(float(v[0] / v[199]) for v in (raw, centred, scored, whitened))
