"""Preprocessing by name, fitted on training pixels and applied to any."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Added to the variances of pixels in [0, 1]. One grey level of 255, squared, is
# 1.5e-5: less variance than that is rounding, not signal. Absolute, so that it means
# the same for every data set; it bounds the gain of an axis by 316.
_EPSILON = 1e-5
# A variance below this fraction of the largest is a zero with a rounding error.
_ZERO = 1e-10
_CHUNK = 4096  # images at a time, to bound the temporary copies


class Transform(NamedTuple):
    """``(pixels - mean) / scale @ matrix``, of rows of pixels as they are stored."""

    mean: np.ndarray | float
    scale: np.ndarray | float
    matrix: np.ndarray | None = None


def fit(preprocess: str, pixels: np.ndarray, white: int) -> Transform:
    """The transform that ``preprocess`` names, from uint8 pixels (n, ...).

    ``white`` is the pixel value that becomes 1 before anything else, but for ``raw``.
    """
    if preprocess == 'raw':
        return Transform(0.0, 1.0)
    if preprocess == 'unit':
        return Transform(0.0, float(white))
    mean = (_sum_over(pixels, lambda x: x.sum(0)) / len(pixels)).astype(np.float32)
    if preprocess == 'center':
        return Transform(mean, float(white))
    if preprocess == 'zscore':
        return Transform(mean, _deviation(pixels, white))
    matrix = _whitening(pixels, white, rotate_back=preprocess == 'zca')
    return Transform(mean, float(white), matrix)


def apply(transform: Transform, pixels: np.ndarray) -> np.ndarray:
    """Float32 images of the shape of ``pixels``."""
    mean, scale, matrix = transform
    result = np.empty(pixels.shape, np.float32)
    for first in range(0, len(pixels), _CHUNK):
        chunk = pixels[first : first + _CHUNK].reshape(-1, pixels[0].size)
        rows = result[first : first + _CHUNK].reshape(chunk.shape)
        # In place, for page faults of temporaries would cost most of the time.
        np.subtract(chunk, mean, out=rows)
        np.divide(rows, scale, out=rows)
        if matrix is not None:
            rows[:] = rows @ matrix
    return result


def _sum_over(pixels: np.ndarray, f: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Sums ``f`` of chunks. Exact, for float64 holds integers up to 2**53."""
    flat = pixels.reshape(len(pixels), -1)
    chunks = (flat[first : first + _CHUNK] for first in range(0, len(flat), _CHUNK))
    return sum((f(chunk.astype(np.float64)) for chunk in chunks), start=np.zeros(()))


def _deviation(pixels: np.ndarray, white: int) -> np.ndarray:
    """The standard deviation of each feature; ``white`` where there is none."""
    n = len(pixels)
    total = _sum_over(pixels, lambda x: x.sum(0))
    squares = _sum_over(pixels, lambda x: (x * x).sum(0))
    # Whole numbers until the root: a constant feature gives 0, not 1e-9.
    deviation = np.sqrt(n * squares - total**2) / n
    return np.where(deviation > 0, deviation, white).astype(np.float32)


def _whitening(pixels: np.ndarray, white: int, *, rotate_back: bool) -> np.ndarray:
    """The matrix (features, features) that whitens centred rows in [-1, 1]."""
    n = len(pixels)
    total = _sum_over(pixels, lambda x: x.sum(0))
    products = _sum_over(pixels, lambda x: x.T @ x)
    covariance = (n * products - np.outer(total, total)) / (n * white) ** 2
    variance, axes = np.linalg.eigh(covariance)
    variance, axes = variance[::-1], axes[:, ::-1]
    # The sign of an axis is an accident of LAPACK: make its largest entry positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(len(axes))])
    varies = variance > _ZERO * variance[0]
    deviation = np.sqrt(np.where(varies, variance + _EPSILON, 1))
    matrix = axes / deviation
    return (matrix @ axes.T if rotate_back else matrix).astype(np.float32)
