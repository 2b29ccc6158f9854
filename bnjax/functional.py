"""Batch norm as functions of arrays: normalise, the training form, the update."""

import functools
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from bnjax.moments import (
    Axis,
    AxisName,
    Groups,
    Moments,
    Reduction,
    check_same_features,
    check_weights,
    moments_tangent,
    reduction,
    stats_dtype,
    vary_like,
    weighted_moments,
)

Scalar: TypeAlias = float | jax.Array


def normalize(
    x: jax.Array,
    moments: Moments,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    axis: Axis = -1,
    epsilon: Scalar = 1e-5,
) -> jax.Array:
    r"""Normalises ``x`` by given moments: the form used after training.

    .. math:: y = \gamma \, \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta

    (Ioffe & Szegedy 2015, algorithm 1, lines 3 and 4.)

    Args:
      x: an array of floats, any rank.
      moments: mean and variance of the features' shape.
      scale: gamma, of the features' shape; 1 when left out.
      bias: beta, of the features' shape; 0 when left out.
      axis: the feature axis or axes; all others were reduced.
      epsilon: added to the variance, > 0; may be traced.

    Returns:
      An array of the shape and dtype of ``x``, computed in float32 or better.

    Raises:
      TypeError: ``x`` is not an array of floats.
      ValueError: ``axis``, ``epsilon`` or a per-feature shape does not fit.

    >>> import bnjax, jax.numpy as jnp
    >>> x = jnp.array([[1.0], [3.0]])
    >>> print(bnjax.normalize(x, bnjax.moments(x), epsilon=1e-9))
    [[-1.]
     [ 1.]]
    """
    x = jnp.asarray(x)
    layout = reduction(x, axis)
    check_epsilon(epsilon)
    _check_features(
        x, layout, mean=moments.mean, var=moments.var, scale=scale, bias=bias
    )
    return _affine(x, moments.mean, moments.var, scale, bias, epsilon, layout)


def batch_norm(
    x: jax.Array,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    axis: Axis = -1,
    epsilon: Scalar = 1e-5,
    where: jax.Array | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: Groups | None = None,
) -> tuple[jax.Array, Moments]:
    r"""Normalises ``x`` by its own moments: the training form.

    .. math:: y = \gamma \, \frac{x - \mu_B}{\sqrt{\sigma_B^2 + \epsilon}} + \beta

    (Ioffe & Szegedy 2015, algorithm 1.) One closed-form rule gives every kind of
    derivative, through :math:`\mu_B` and :math:`\sigma_B^2` as section 3 has it.

    Args:
      x: an array of floats, any rank.
      scale: gamma, of the features' shape; 1 when left out.
      bias: beta, of the features' shape; 0 when left out.
      axis: the feature axis or axes, as in Flax; all others are reduced.
      epsilon: added to the variance, > 0; may be traced.
      where: a boolean mask, or weights >= 0, broadcastable to ``x``. Positions of
        weight 0 take no part in the statistics or their gradient; they are
        normalised like the rest, but a non-finite value there counts as the mean.
        A constant to differentiation.
      axis_name: the mapped axis or axes over which devices share statistics.
      axis_index_groups: the indices along ``axis_name`` that share statistics.

    Returns:
      ``y`` of the shape and dtype of ``x``, and the batch's ``Moments``.

    Raises:
      TypeError: ``x`` is not an array of floats.
      ValueError: another argument does not fit ``x``, or ``epsilon`` <= 0.

    >>> import bnjax, jax.numpy as jnp
    >>> y, batch = bnjax.batch_norm(jnp.array([[1.0], [3.0], [9.0]]),
    ...                             where=jnp.array([[True], [True], [False]]))
    >>> print(y.ravel().round(2), batch.mean)
    [-1.  1.  7.] [2.]
    """
    x = jnp.asarray(x)
    layout = reduction(x, axis, axis_name, axis_index_groups)
    check_epsilon(epsilon)
    _check_features(x, layout, scale=scale, bias=bias)
    dtype = stats_dtype(x)
    return _batch_norm(
        layout,
        x,
        None if scale is None else jnp.asarray(scale, dtype),
        None if bias is None else jnp.asarray(bias, dtype),
        jnp.asarray(epsilon, dtype),
        check_weights(where, x),
    )


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
        variance is not finite. The batch's moments are those of all devices that
        share statistics, so these agree.

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
    check_same_features(running, batch)
    kept, added = (1.0, 1.0) if momentum is None else (momentum, 1 - momentum)
    count = kept * running.count + added
    # Nothing seen before and nothing to add (momentum 1) is nothing, not 0 / 0.
    seen = (batch.count > 0) & (count > 0)
    var = batch.var
    if unbiased:
        var = var * (batch.count / jnp.maximum(batch.count - 1, 1))
    if skip_nonfinite:
        seen &= jnp.isfinite(batch.mean) & jnp.isfinite(var)
    total = jnp.where(seen, count, 1)

    def average(old: jax.Array, new: jax.Array) -> jax.Array:
        mixed = (kept * running.count * old + added * new) / total
        return jnp.where(seen, mixed, old).astype(old.dtype)

    return Moments(
        average(running.mean, batch.mean),
        average(running.var, var),
        jnp.where(seen, count, running.count).astype(running.count.dtype),
    )


def check_momentum(momentum: Scalar | None) -> None:
    """Refuses a momentum, where its value is known, outside [0, 1]."""
    if not _traced(momentum) and momentum is not None and not 0 <= momentum <= 1:
        raise ValueError(
            f'momentum={momentum} is outside [0, 1]; '
            'it is the fraction of the running statistics that is kept'
        )


def check_epsilon(epsilon: Scalar) -> None:
    """Refuses an epsilon, where its value is known, that is not above 0."""
    if not _traced(epsilon) and not epsilon > 0:
        raise ValueError(f'epsilon={epsilon} must be above 0, for example 1e-5')


def _traced(value: Scalar | None) -> bool:
    return isinstance(value, jax.core.Tracer)


def _check_features(
    x: jax.Array, layout: Reduction, **values: jax.Array | None
) -> None:
    """Refuses values that are not one for each feature."""
    expected = tuple(x.shape[a] for a in layout.features)
    for name, value in values.items():
        if value is not None and jnp.shape(value) != expected:
            raise ValueError(
                f'{name} has shape {jnp.shape(value)}, but x of shape {x.shape} has '
                f'features of shape {expected} on axis {layout.features}; '
                'pass one value per feature'
            )


def _affine(
    x: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    epsilon: Scalar,
    layout: Reduction,
) -> jax.Array:
    gain = lax.rsqrt(var + epsilon)
    if scale is not None:
        gain = gain * scale
    # (x - mean) * gain, not x * gain - mean * gain, which cancels for large means.
    y = (x.astype(stats_dtype(x)) - layout.expand(mean)) * layout.expand(gain)
    return (y if bias is None else y + layout.expand(bias)).astype(x.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _batch_norm(
    layout: Reduction,
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    epsilon: jax.Array,
    weights: jax.Array | None,
) -> tuple[jax.Array, Moments]:
    batch = weighted_moments(x, weights, layout)
    mean = layout.expand(batch.mean)
    filled = jnp.where(_void(x, weights), mean, x.astype(stats_dtype(x)))
    y = _affine(filled, batch.mean, batch.var, scale, bias, epsilon, layout)
    return y.astype(x.dtype), batch


def _void(x: jax.Array, weights: jax.Array | None) -> jax.Array | bool:
    """Where a non-finite value stands at weight 0."""
    return False if weights is None else ~(weights > 0) & ~jnp.isfinite(x)


@_batch_norm.defjvp
def _batch_norm_jvp(layout, primals, tangents):
    """With mean and variance moving along, ``dy = k dx + x a + c``.

    k, a and c hold one number a feature, so XLA transposes this into the closed
    form of the gradient and keeps no array but x.
    """
    x, scale, bias, epsilon, weights = primals
    dx, dscale, dbias, depsilon, _ = tangents
    y, batch = _batch_norm(layout, *primals)
    # Cast once, here: transposed, each cast rounds what flows back through it.
    x, dx = x.astype(stats_dtype(x)), dx.astype(stats_dtype(x))
    dbatch = moments_tangent(x, dx, weights, batch, layout)

    rstd = lax.rsqrt(batch.var + epsilon)
    k = rstd if scale is None else rstd * scale
    # Factor by factor: the cube of rstd leaves the range of float32 too early.
    a = -k * (rstd * (rstd * (0.5 * (dbatch.var + depsilon))))
    if scale is not None:
        a = a + dscale * rstd
    c = -k * dbatch.mean - batch.mean * a
    if bias is not None:
        c = c + dbias

    # Spread over devices as one array, for its transpose is one sum over them.
    a, c, dmean = vary_like(jnp.stack([a, c, dbatch.mean]), dx)
    void = _void(x, weights)
    x = jnp.where(void, layout.expand(batch.mean), x)
    dx = jnp.where(void, layout.expand(dmean), dx)
    k, a, c = map(layout.expand, (k, a, c))
    dy = k * dx + x * a + c
    return (y, batch), (dy.astype(y.dtype), dbatch)
