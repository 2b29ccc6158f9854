"""Ghost batches: each group of a few examples is normalised by its own moments."""

import jax
import jax.numpy as jnp
from jax import lax

from bnjax.checks import (
    Scalar,
    as_floats,
    check_epsilon,
    check_features,
    check_size,
    check_weights,
)
from bnjax.functional import batch_norm, moments
from bnjax.moments import Moments
from bnjax.reduction import Axis, reduction


def ghost_batch_norm(
    x: jax.Array,
    size: int,
    scale: jax.Array | None = None,
    bias: jax.Array | None = None,
    *,
    axis: Axis = -1,
    epsilon: Scalar = 1e-5,
    where: jax.Array | None = None,
) -> tuple[jax.Array, Moments]:
    """``batch_norm`` of each ``size`` consecutive examples (Hoffer et al. 2017).

    The group becomes one more feature axis, so nothing is merged over it, and under
    ``jit`` with the examples sharded in such groups devices share only a flag.

    Args:
      x: an array of floats with the examples on its first axis that is no feature
        axis; the last group may be smaller.
      size: examples in a group, at least 1.
      scale, bias, axis, epsilon, where: as for ``batch_norm``.

    Returns:
      ``y`` of the shape and dtype of ``x``, and the ``Moments`` of the whole batch.

    Raises:
      TypeError, ValueError: as ``batch_norm``, or ``size`` is below 1.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[1.0], [3.0], [10.0], [30.0]])
    >>> y, batch = ghost_batch_norm(x, 2)
    >>> print(y.ravel().round(2), batch.mean)
    [-1.  1. -1.  1.] [11.]
    """
    check_size('size', size)
    check_epsilon(epsilon)
    x = as_floats(x)
    layout = reduction(x, axis)
    if not layout.reduced:
        raise ValueError(f'x of shape {x.shape} has feature axes only; add examples')
    check_features(x, layout.features, scale=scale, bias=bias)
    examples = layout.reduced[0]
    n = x.shape[examples]
    counted = check_weights(where, x)
    if counted is None:
        counted = jnp.ones((1,) * x.ndim, bool)
    # A weight for each example, so that the last group's padding can have none.
    counted = jnp.broadcast_to(
        counted, [n if a == examples else s for a, s in enumerate(counted.shape)]
    )

    def grouped(values: jax.Array) -> jax.Array:
        pad = [(0, -n % size if a == examples else 0) for a in range(x.ndim)]
        shape = list(values.shape)
        shape[examples : examples + 1] = [-(-n // size), size]
        return jnp.pad(values, pad).reshape(shape)

    features = [a + (a > examples) for a in layout.features]
    axes = sorted([examples, *features])
    at = axes.index(examples)

    def for_each_group(value: jax.Array | None) -> jax.Array | None:
        if value is None:
            return None
        value = jnp.expand_dims(jnp.asarray(value), at)
        return jnp.repeat(value, -(-n // size), at)

    y, _ = batch_norm(
        grouped(x),
        for_each_group(scale),
        for_each_group(bias),
        axis=axes,
        epsilon=epsilon,
        where=grouped(counted),
    )
    shape = list(x.shape)
    shape[examples] += -n % size
    y = y.reshape(shape)
    # Not the groups' moments pooled: far from 0 their means are rounded.
    whole = moments(x, axis=axis, where=where)
    return lax.slice_in_dim(y, 0, n, axis=examples), whole
