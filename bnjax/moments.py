"""Mean, variance and count of each feature; how two of them merge, and how they age.

Batch norm is a choice of what to merge: the batch, the unmasked positions, the
devices, the micro-batches, the whole data set. Everything here is that one idea.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bnjax.checks import Scalar, check_momentum, check_same_features
from bnjax.reduction import per_count, placed_like


class Moments(NamedTuple):
    """Statistics of a set of values, feature by feature.

    Attributes:
      mean: the weighted mean, of the features' shape.
      var: the biased variance (divided by ``count``), of the same shape.
      count: how many values, or the sum of their weights, of the same shape.

    All three are float32, or float64 for float64 input. The moments of nothing
    are zeros.
    """

    mean: jax.Array
    var: jax.Array
    count: jax.Array  # type: ignore[assignment]  # tuple has a count, too


def merge(a: Moments, b: Moments) -> Moments:
    r"""Moments of the union of two sets: associative and commutative.

    .. math:: n = n_a + n_b, \quad p = n_a / n, \quad q = n_b / n, \quad
              \mu = p \mu_a + q \mu_b, \quad
              \sigma^2 = p \sigma_a^2 + q \sigma_b^2 + p q (\mu_b - \mu_a)^2

    (Chan, Golub & LeVeque 1979.) The moments of nothing change nothing.

    Raises:
      TypeError, ValueError: they do not hold floats, or their shapes differ.

    >>> import bnjax, jax.numpy as jnp
    >>> x = jnp.array([[1.0], [2.0], [6.0]])
    >>> print(bnjax.merge(bnjax.moments(x[:1]), bnjax.moments(x[1:])).mean)
    [3.]
    """
    check_same_features(a=a, b=b)
    count = a.count + b.count
    p, q = per_count(a.count, count), per_count(b.count, count)
    delta = b.mean - a.mean
    # From the larger set: 1 - f would be rounded where f is small.
    mean = jnp.where(p > q, a.mean + q * delta, b.mean - p * delta)
    return Moments(mean, p * a.var + q * b.var + p * q * delta * delta, count)


def pool(parts: Moments, axis: int = 0) -> Moments:
    """Moments of the union of many sets, stacked along an axis: ``merge`` of them all.

    Args:
      parts: moments with one more axis than the features have.
      axis: that axis; the result lacks it.

    >>> import bnjax, jax, jax.numpy as jnp
    >>> halves = jax.vmap(bnjax.moments)(jnp.arange(8.0).reshape(2, 4, 1))
    >>> mean, var, count = pool(halves)
    >>> print(mean, var, count)
    [3.5] [5.25] [8.]
    """
    count = parts.count.sum(axis)
    share = per_count(parts.count, jnp.expand_dims(count, axis))
    mean = (share * parts.mean).sum(axis)
    apart = parts.mean - jnp.expand_dims(mean, axis)
    return Moments(mean, (share * (parts.var + apart * apart)).sum(axis), count)


def update(
    running: Moments,
    batch: Moments,
    momentum: Scalar | None = 0.99,
    *,
    unbiased: bool = False,
    skip_nonfinite: bool = False,
) -> Moments:
    r"""Running statistics after one more batch.

    .. math:: c' = m c + (1 - m), \qquad
              \text{new} = \frac{m c \, \text{old} + (1 - m) \, \text{batch}}{c'}

    for the mean and the variance alike, where c is ``running.count``. Starting at
    c = 1 this is Flax's exponential average; starting at c = 0 it is exact from
    the first step. A batch of nothing (count 0) changes nothing.

    Args:
      running: the statistics so far.
      batch: the moments of a batch, as ``batch_norm`` returns them.
      momentum: the fraction of ``running`` that is kept, in [0, 1] (torch's
        momentum is the fraction replaced); may be traced. ``None`` gives every
        batch the same weight: c' = c + 1.
      unbiased: let the batch's variance count as n / max(n - 1, 1) times itself, as
        torch and Ioffe & Szegedy 2015, algorithm 2, have it.
      skip_nonfinite: leave as they were the features of which the batch's mean or
        variance is not finite. Devices that share statistics agree.

    Returns:
      ``Moments`` with the shapes and dtypes of ``running`` and count c'.

    Raises:
      ValueError: ``momentum`` is outside [0, 1], or the shapes differ.

    >>> import bnjax, jax.numpy as jnp
    >>> running = bnjax.Moments(jnp.zeros(1), jnp.ones(1), jnp.ones(1))
    >>> batch = bnjax.moments(jnp.array([[4.0], [8.0]]))
    >>> mean, var, count = bnjax.update(running, batch, momentum=0.5)
    >>> print(mean, var, count)
    [3.] [2.5] [1.]
    """
    check_momentum(momentum)
    check_same_features(running=running, batch=batch)
    kept, added = (1.0, 1.0) if momentum is None else (momentum, 1 - momentum)
    count = kept * running.count + added
    # Nothing seen before and nothing to add (momentum 1) is nothing, not 0 / 0.
    seen = (batch.count > 0) & (count > 0)
    var = batch.var
    if unbiased:
        var = var * (batch.count / jnp.maximum(batch.count - 1, 1))
    if skip_nonfinite:
        seen &= jnp.isfinite(batch.mean) & jnp.isfinite(var)
    count, old_count = (placed_like(n, seen) for n in (count, running.count))
    total = jnp.where(seen, count, 1)

    def average(old: jax.Array, new: jax.Array) -> jax.Array:
        weight = kept * running.count
        # Selected, for what has no weight may be infinite.
        mixed = (jnp.where(weight > 0, weight * old, 0) + added * new) / total
        return jnp.where(seen, mixed, placed_like(old, seen)).astype(old.dtype)

    return Moments(
        average(running.mean, batch.mean),
        average(running.var, var),
        jnp.where(seen, count, old_count).astype(running.count.dtype),
    )
