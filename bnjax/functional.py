"""Batch norm as functions of arrays: moments, the training form, and the one after."""

import jax
import jax.numpy as jnp

from bnjax.checks import (
    Scalar,
    as_floats,
    check_epsilon,
    check_features,
    check_moments,
    check_weights,
)
from bnjax.kernel import normalized, normalized_by_own, weighted_moments
from bnjax.moments import Moments
from bnjax.reduction import Axis, AxisName, Groups, reduction, stats_dtype, widest


def moments(
    x: jax.Array,
    *,
    axis: Axis = -1,
    where: jax.Array | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: Groups | None = None,
) -> Moments:
    r"""Moments of each feature of ``x``.

    .. math:: n = \sum_i w_i, \quad \mu = \frac1n \sum_i w_i x_i, \quad
              \sigma^2 = \frac1n \sum_i w_i (x_i - \mu)^2

    (Ioffe & Szegedy 2015, algorithm 1, lines 1 and 2, with weights.) One pass
    suffices unless the mean dwarfs the deviation; then a second, centred one
    keeps the variance within 1e-5 for mean/deviation up to 1e4 in float32.

    Args:
      x: an array of floats, any rank.
      axis: the feature axis or axes, as in Flax; all others are reduced.
      where: a boolean mask, or weights >= 0, broadcastable to ``x``. What stands
        at weight 0 does not matter, NaN included. A constant to differentiation.
      axis_name: the mapped axis or axes over which devices share statistics.
        Each device counts by its weights, so uneven masks are right.
      axis_index_groups: the indices along ``axis_name`` that share statistics;
        all of them when left out.

    Returns:
      ``Moments`` of the features' shape.

    Raises:
      TypeError: ``x`` does not hold floats, or ``where`` neither booleans nor floats.
      ValueError: ``axis`` or ``where`` does not fit ``x``, or ``axis_name`` is unbound.

    >>> import bnjax, jax.numpy as jnp
    >>> m = bnjax.moments(jnp.array([[1.0, 10.0], [3.0, 10.0]]))
    >>> print(m.mean, m.var, m.count)
    [ 2. 10.] [1. 0.] [2. 2.]
    """
    x = as_floats(x)
    layout = reduction(x, axis, axis_name, axis_index_groups)
    return weighted_moments(x, check_weights(where, x), layout)


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
      x, axis, axis_name, axis_index_groups: as for ``moments``.
      scale, bias: gamma and beta, of the features' shape; 1 and 0 when left out.
      epsilon: added to the variance, > 0; may be traced.
      where: as for ``moments``. Positions of weight 0 are normalised like the rest,
        but a non-finite value there counts as the mean.

    Returns:
      ``y`` of the shape and dtype of ``x``, computed in float32 or better, and the
      batch's ``Moments``.

    Raises:
      TypeError, ValueError: as ``moments``, or ``scale``, ``bias`` or ``epsilon``
        does not fit.

    >>> import bnjax, jax.numpy as jnp
    >>> y, batch = bnjax.batch_norm(jnp.array([[1.0], [3.0], [9.0]]),
    ...                             where=jnp.array([[True], [True], [False]]))
    >>> print(y.ravel().round(2), batch.mean)
    [-1.  1.  7.] [2.]
    """
    x = as_floats(x)
    layout = reduction(x, axis, axis_name, axis_index_groups)
    weights = check_weights(where, x)
    check_epsilon(epsilon)
    check_features(x, layout.features, scale=scale, bias=bias)
    dtype = stats_dtype(x)
    scale, bias = (None if p is None else jnp.asarray(p, dtype) for p in (scale, bias))
    epsilon = jnp.asarray(epsilon, dtype)
    return normalized_by_own(x, scale, bias, epsilon, weights, layout)


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
      x, scale, bias, axis, epsilon: as for ``batch_norm``.
      moments: mean and variance of the features' shape; the count does not matter.

    Returns:
      An array of the shape and dtype of ``x``, computed in float32 or better.

    Raises:
      TypeError, ValueError: an argument does not fit ``x``, or ``epsilon`` <= 0.

    >>> import bnjax, jax.numpy as jnp
    >>> x = jnp.array([[1.0], [3.0]])
    >>> print(bnjax.normalize(x, bnjax.moments(x), epsilon=1e-9))
    [[-1.]
     [ 1.]]
    """
    x = as_floats(x)
    layout = reduction(x, axis)
    check_epsilon(epsilon)
    check_moments(moments=moments)
    values = {'mean': moments.mean, 'var': moments.var, 'scale': scale, 'bias': bias}
    check_features(x, layout.features, **values)
    # Cast here, for JAX may be told to refuse to promote.
    dtype = widest(x, moments.mean, moments.var)
    mean, var = (jnp.asarray(m, dtype) for m in (moments.mean, moments.var))
    moments = Moments(mean, var, moments.count)
    scale, bias = (None if p is None else jnp.asarray(p, dtype) for p in (scale, bias))
    return normalized(x, moments, scale, bias, jnp.asarray(epsilon, dtype), layout)
