"""Batch norm in plain NumPy float64, written from the definition.

It is the yardstick of the tests, so it shares nothing with bnjax. Every
function is analytic in its real arguments: given complex128 input it returns
the complex extension, so that `derivative` can check (and differentiate) it to
the last bits by a complex step, without subtraction.
"""

from typing import Any, NamedTuple

import numpy as np

Axis = int | tuple[int, ...]


class Stats(NamedTuple):
    """Per-feature mean, biased variance and sum of weights."""

    mean: np.ndarray
    var: np.ndarray
    count: np.ndarray


class Gradients(NamedTuple):
    """Of <dy, y> + <dmean, mean> + <dvar, var>, with the size of its terms.

    `size` holds, per feature, the largest term before cancellation: rounding
    errors are relative to it, since a gradient itself may cancel to 0. A
    normalised value counts there as 1 at least.
    """

    x: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    epsilon: np.ndarray
    size: 'Gradients | None' = None


def widen(x: Any) -> np.ndarray:
    """`x` as float64, or complex128 where it is complex already."""
    x = np.asarray(x)
    return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)


def batch_axes(ndim: int, axis: Axis) -> tuple[int, ...]:
    """The axes that are summed over: all but the feature axes."""
    axes = (axis,) if isinstance(axis, int) else axis
    features = {a % ndim for a in axes}
    return tuple(a for a in range(ndim) if a not in features)


def spread(stat: Any, x: np.ndarray, axis: Axis) -> np.ndarray:
    """`stat` of the feature shape, reshaped to broadcast against `x`."""
    over = batch_axes(x.ndim, axis)
    shape = [1 if a in over else n for a, n in enumerate(x.shape)]
    return np.broadcast_to(widen(stat), feature_shape(x, axis)).reshape(shape)


def feature_shape(x: np.ndarray, axis: Axis) -> tuple[int, ...]:
    over = batch_axes(x.ndim, axis)
    return tuple(n for a, n in enumerate(x.shape) if a not in over)


def weights(x: np.ndarray, where: Any) -> np.ndarray:
    where = 1.0 if where is None else np.asarray(where, np.float64)
    return np.broadcast_to(where, x.shape)


def moments(x: Any, axis: Axis = -1, where: Any = None) -> Stats:
    """Weighted two-pass moments; values of weight 0 are never looked at."""
    x = widen(x)
    w, over = weights(x, where), batch_axes(x.ndim, axis)
    x = np.where(w > 0, x, 0)
    count = w.sum(over)
    share = w / spread(np.where(count > 0, count, 1), x, axis)
    mean = (share * x).sum(over)
    var = (share * (x - spread(mean, x, axis)) ** 2).sum(over)
    return Stats(mean, var, count)


def normalize(
    x: Any,
    stats: Any,
    scale: Any = None,
    bias: Any = None,
    axis: Axis = -1,
    epsilon: Any = 1e-5,
) -> np.ndarray:
    x = widen(x)
    scale = 1.0 if scale is None else scale
    bias = 0.0 if bias is None else bias
    x_hat = (x - spread(stats.mean, x, axis)) / np.sqrt(
        spread(stats.var, x, axis) + epsilon
    )
    return x_hat * spread(scale, x, axis) + spread(bias, x, axis)


def batch_norm(
    x: Any,
    scale: Any = None,
    bias: Any = None,
    axis: Axis = -1,
    epsilon: Any = 1e-5,
    where: Any = None,
) -> tuple[np.ndarray, Stats]:
    """A non-finite value of weight 0 counts as the mean."""
    x = widen(x)
    stats = moments(x, axis, where)
    ghost = (weights(x, where) == 0) & ~np.isfinite(x)
    x = np.where(ghost, spread(stats.mean, x, axis), x)
    return normalize(x, stats, scale, bias, axis, epsilon), stats


def gradients(
    x: Any,
    scale: Any,
    dy: Any,
    dmean: Any = 0.0,
    dvar: Any = 0.0,
    axis: Axis = -1,
    epsilon: Any = 1e-5,
    where: Any = None,
) -> Gradients:
    """The chain rule through mean and variance, written out as sums."""
    x, dy = widen(x), widen(dy)
    over, w = batch_axes(x.ndim, axis), weights(x, where)
    stats = moments(x, axis, where)
    ghost = (w == 0) & ~np.isfinite(x)
    mean, var = (spread(s, x, axis) for s in stats[:2])
    centred = np.where(ghost, mean, x) - mean
    gamma, r = spread(scale, x, axis), 1 / np.sqrt(var + epsilon)
    share = w / spread(np.where(stats.count > 0, stats.count, 1), x, axis)

    def add(terms: np.ndarray) -> np.ndarray:
        return terms.sum(over, keepdims=True)

    alive = np.where(ghost, 0, dy)
    by_inverse = -0.5 * gamma * r**3 * dy * centred
    to_mean = spread(dmean, x, axis) - add(gamma * r * alive)
    to_var = spread(dvar, x, axis) + add(by_inverse)
    largest = np.abs(gamma * r * alive) + np.abs(share * spread(dmean, x, axis))
    largest = largest + np.abs(2 * share * to_var) * np.maximum(np.abs(centred), 1 / r)
    size = Gradients(
        largest.max(over, initial=0.0),
        (np.abs(dy) * np.maximum(np.abs(centred * r), 1)).sum(over),
        np.abs(dy).sum(over),
        np.abs(0.5 * gamma * r**2 * dy * np.maximum(np.abs(centred * r), 1)).sum(),
    )
    return Gradients(
        gamma * r * alive + share * to_mean + 2 * share * centred * to_var,
        (dy * centred * r).sum(over),
        dy.sum(over),
        by_inverse.sum(),
        size,
    )


def merge(a: Any, b: Any) -> Stats:
    """Moments of the union, by sums of powers about the mean of the union."""
    count = widen(a.count) + widen(b.count)
    p, q = (widen(s.count) / np.where(count > 0, count, 1) for s in (a, b))
    mean = p * a.mean + q * b.mean
    var = p * (a.var + (a.mean - mean) ** 2) + q * (b.var + (b.mean - mean) ** 2)
    return Stats(mean, var, count)


def update(
    running: Any,
    batch: Any,
    momentum: float | None,
    unbiased: bool = False,
    skip_nonfinite: bool = False,
) -> Stats:
    """`momentum` is the fraction kept; None averages all batches alike."""
    old = Stats(*map(widen, running))
    keep, take = (1.0, 1.0) if momentum is None else (momentum, 1 - momentum)
    count = keep * old.count + take
    seen = (widen(batch.count) > 0) & (count > 0)
    if skip_nonfinite:
        seen = seen & np.isfinite(batch.mean) & np.isfinite(batch.var)
    n, batch_mean, batch_var = (
        np.where(seen, s, 0) for s in (batch.count, batch.mean, batch.var)
    )
    batch_var = batch_var * (n / np.maximum(n - 1, 1) if unbiased else 1)
    divisor = np.where(seen, count, 1)
    mean = (keep * old.count * old.mean + take * batch_mean) / divisor
    var = (keep * old.count * old.var + take * batch_var) / divisor
    new = (mean, var, count)
    return Stats(*(np.where(seen, n, o) for n, o in zip(new, old, strict=True)))


def derivative(f: Any, x: Any, step: float = 1e-30) -> np.ndarray:
    """d f / d x of an analytic `f`: f's shape followed by x's, exact."""
    x = np.asarray(x, np.float64)
    columns = []
    for index in np.ndindex(x.shape):
        bumped = x.astype(np.complex128)
        bumped[index] += 1j * step
        columns.append(np.imag(f(bumped)) / step)
    return np.stack(columns, -1).reshape(np.shape(columns[0]) + x.shape)
