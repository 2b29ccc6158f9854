"""One call of a batch norm layer, whichever library keeps its state.

The ``layer`` here is a ``BatchNorm`` of Linen or NNX: their fields have the same names.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from bnjax.checks import (
    as_floats,
    check_dtype,
    check_epsilon,
    check_flag,
    check_momentum,
    check_size,
    check_weights,
)
from bnjax.functional import batch_norm, moments, normalize
from bnjax.ghost import ghost_batch_norm
from bnjax.moments import Moments, update
from bnjax.reduction import check_axis_name, reduction

FLAGS = 'use_bias', 'use_scale', 'debias', 'unbiased', 'skip_nonfinite'


def check(layer: Any, x: Any, mask: Any) -> tuple[jax.Array, tuple[int, ...]]:
    """``x`` as an array and the shape of its features, if layer and mask fit it."""
    for name in FLAGS:
        check_flag(name, getattr(layer, name))
    if layer.update_running_average is not None:
        check_flag('update_running_average', layer.update_running_average)
    for name in ('dtype', 'param_dtype'):
        check_dtype(name, getattr(layer, name))
    check_axis_name(layer.axis_name, layer.axis_index_groups)
    check_momentum(layer.momentum)
    check_epsilon(layer.epsilon)
    if layer.ghost_batch_size is not None:
        check_size('ghost_batch_size', layer.ghost_batch_size)
    x = as_floats(x)
    check_weights(_booleans(mask), x, 'mask')
    return x, tuple(x.shape[a] for a in reduction(x, layer.axis).features)


def _booleans(mask: Any) -> Any:
    """A mask of numbers counts where it is not 0, as in Flax."""
    kinds = (jnp.integer, jnp.floating)
    numbers = any(jnp.issubdtype(getattr(mask, 'dtype', bool), k) for k in kinds)
    return jnp.asarray(mask, bool) if numbers else mask


def call(
    layer: Any,
    x: jax.Array,
    statistics: Mapping[str, jax.Array],
    scale: jax.Array | None,
    bias: jax.Array | None,
    mask: Any,
    *,
    use_running: bool,
    dtype: Any,
    synced: bool = True,
) -> tuple[jax.Array, Moments | None, dict[str, jax.Array]]:
    """Output, the batch's moments if they were looked at, and what is new of
    ``statistics``: mean, var and, where it is kept, count.

    Which statistics normalise and whether the running ones move are two choices.
    """
    axis, size = layer.axis, layer.ghost_batch_size
    x = x.astype(jnp.promote_types(x.dtype, dtype))
    running = Moments(**{'count': jnp.ones_like(statistics['mean']), **statistics})
    to_update = layer.update_running_average
    to_update = not use_running if to_update is None else to_update
    form: dict[str, Any] = {'axis': axis, 'epsilon': layer.epsilon}
    over: dict[str, Any] = {'where': _booleans(mask)}
    if synced:
        over['axis_name'] = layer.axis_name
        over['axis_index_groups'] = layer.axis_index_groups

    batch = None
    if use_running:
        y = normalize(x, running, scale, bias, **form)
    elif size is None:
        y, batch = batch_norm(x, scale, bias, **form, **over)
    else:
        y, batch = ghost_batch_norm(x, size, scale, bias, where=over['where'], **form)
        if over.get('axis_name') is not None:
            # Ghost batches are of a device; what is kept is of all.
            batch = moments(x, axis=axis, **over)
    y = y.astype(dtype)
    if not to_update:
        return y, batch, {}
    if (layer.debias or layer.momentum is None) and 'count' not in statistics:
        raise ValueError(
            'debias and momentum=None need the count of the running statistics; '
            'give these fields when the layer is made'
        )
    if batch is None:
        batch = moments(x, axis=axis, **over)
    new = update(
        running,
        batch,
        layer.momentum,
        unbiased=layer.unbiased,
        skip_nonfinite=layer.skip_nonfinite,
    )
    return y, batch, {name: getattr(new, name) for name in statistics}
