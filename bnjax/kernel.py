"""The arithmetic of batch norm and its derivative, on checked arguments.

Both derivatives are rules that are linear in the tangents, feature by feature, so XLA
transposes them into the closed form of the gradient and keeps no array but x.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from bnjax.checks import Scalar
from bnjax.moments import Moments
from bnjax.reduction import (
    Reduction,
    count,
    counted,
    per_count,
    placed_like,
    select,
    stats_dtype,
    vary_like,
    weigh,
)

# mean^2 / var above which E[x^2] - E[x]^2 may have lost 1e-5 of a float32 variance
# to cancellation, and a second, centred pass is worth its cost.
CANCELLATION_BOUND = 10.0


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def weighted_moments(
    x: jax.Array, weights: jax.Array | None, layout: Reduction
) -> Moments:
    """Moments of the features of ``x``; ``weights`` have its rank."""
    wide = x.astype(stats_dtype(x))
    parts = [weigh(v, weights).sum(layout.reduced) for v in (wide, wide * wide)]
    number = placed_like(count(wide, weights, layout), parts[0])
    sums = layout.over_devices(number, *parts)
    # Of all groups, for they branch together; nan, the inf - inf of squares beyond
    # the dtype, counts as lost.
    every = _uncentred(sums)
    lost = jnp.any(~(every.mean**2 <= CANCELLATION_BOUND * every.var))
    rough = _uncentred(layout.own(sums))
    return lax.cond(lost, _centred(layout), _as_they_are, x, weights, rough)


def _uncentred(sums: jax.Array) -> Moments:
    """Moments by E[x^2] - E[x]^2 of stacked counts, sums and sums of squares."""
    # Unstacked, not unpacked: that would lose how an explicit mesh divides them.
    number, total, total_of_squares = jnp.unstack(sums)
    mean = per_count(total, number)
    var = per_count(total_of_squares, number) - mean * mean
    return Moments(mean, jnp.maximum(var, 0), number)


@functools.cache
def _centred(layout: Reduction) -> Callable[..., Moments]:
    """The second pass, about the mean of the first.

    Cached, for JAX would compile a function it has not seen anew at each call.
    """

    def centred(x: jax.Array, weights: jax.Array | None, rough: Moments) -> Moments:
        d = x.astype(rough.mean.dtype) - layout.expand(rough.mean)
        sums = layout.total(weigh(d, weights), weigh(d * d, weights))
        shift, square = jnp.unstack(per_count(sums, rough.count))
        var = jnp.maximum(square - shift * shift, 0)
        # A variance beyond the dtype is inf; inf - inf would make it nan.
        var = jnp.where(jnp.isfinite(square), var, square)
        return Moments(rough.mean + shift, var, rough.count)

    return centred


def _as_they_are(x: jax.Array, weights: jax.Array | None, rough: Moments) -> Moments:
    return rough


@weighted_moments.defjvp
def _weighted_moments_jvp(layout, primals, tangents):
    (x, weights), (dx, _) = primals, tangents
    batch = weighted_moments(x, weights, layout)
    return batch, _moments_tangent(x, dx, weights, batch, layout)


def _moments_tangent(
    x: jax.Array,
    dx: jax.Array,
    weights: jax.Array | None,
    batch: Moments,
    layout: Reduction,
) -> Moments:
    r"""How the moments of ``x`` move with ``x``; the weights are constants.

    .. math:: d\mu = \overline{dx}, \quad d\sigma^2 = 2\,\overline{(x - \mu)\,dx}
    """
    # Centred: transposed, this is no sum, and exact where a feature is constant.
    d = x.astype(batch.mean.dtype) - vary_like(layout.expand(batch.mean), x)
    # Selected before they are multiplied: a transposed 0 * nan would be nan.
    d, dx = (select(v, weights) for v in (d, dx.astype(d.dtype)))
    sums = layout.total(weigh(dx, weights), weigh(2 * d * dx, weights))
    dmean, dvar = jnp.unstack(per_count(sums, batch.count))
    return Moments(dmean, dvar, jnp.zeros_like(batch.count))


def normalized(
    x: jax.Array,
    moments: Moments,
    scale: jax.Array | None,
    bias: jax.Array | None,
    epsilon: Scalar,
    layout: Reduction,
) -> jax.Array:
    """``x`` normalised by given moments, in its own dtype."""
    gain = lax.rsqrt(moments.var + epsilon)
    if scale is not None:
        gain = gain * scale
    # (x - mean) * gain, not x * gain - mean * gain, which cancels for large means.
    y = x.astype(moments.mean.dtype) - layout.expand(moments.mean)
    y = y * layout.expand(gain)
    return (y if bias is None else y + layout.expand(bias)).astype(x.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(5,))
def normalized_by_own(
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    epsilon: jax.Array,
    weights: jax.Array | None,
    layout: Reduction,
) -> tuple[jax.Array, Moments]:
    """``x`` normalised by its own moments, and these."""
    batch = weighted_moments(x, weights, layout)
    mean = layout.expand(batch.mean)
    filled = jnp.where(_void(x, weights), mean, x.astype(stats_dtype(x)))
    y = normalized(filled, batch, scale, bias, epsilon, layout)
    return y.astype(x.dtype), batch


def _void(x: jax.Array, weights: jax.Array | None) -> jax.Array | bool:
    """Where a non-finite value stands at weight 0."""
    return False if weights is None else ~counted(weights) & ~jnp.isfinite(x)


@normalized_by_own.defjvp
def _normalized_by_own_jvp(layout, primals, tangents):
    """With mean and variance moving along, ``dy = k dx + x a + c``.

    k, a and c hold one number a feature.
    """
    x, scale, bias, epsilon, weights = primals
    dx, dscale, dbias, depsilon, _ = tangents
    y, batch = normalized_by_own(*primals, layout)
    # Cast once, here: transposed, each cast rounds what flows back through it.
    x, dx = x.astype(stats_dtype(x)), dx.astype(stats_dtype(x))
    dbatch = _moments_tangent(x, dx, weights, batch, layout)

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
    a, c, dmean = jnp.unstack(vary_like(jnp.stack([a, c, dbatch.mean]), dx))
    void = _void(x, weights)
    x = jnp.where(void, layout.expand(batch.mean), x)
    dx = jnp.where(void, layout.expand(dmean), dx)
    k, a, c = map(layout.expand, (k, a, c))
    dy = k * dx + x * a + c
    return (y, batch), (dy.astype(y.dtype), dbatch)
