"""The pair of fields and variables that all conversions meet in."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np

import bnjax.linen
from bnjax.checks import check_epsilon, check_momentum, check_tree

Fields: TypeAlias = dict[str, Any]
Variables: TypeAlias = Mapping[str, Any]

NAMES = 'scale', 'bias', 'mean', 'var', 'count'


def read(
    fields: Fields, variables: Variables
) -> tuple[bnjax.linen.BatchNorm, dict[str, jax.Array]]:
    """The layer, for its defaults and to refuse unknown fields; its values by name."""
    check_tree(fields=fields, variables=variables)
    layer = bnjax.linen.BatchNorm(**fields)
    check_momentum(layer.momentum)
    check_epsilon(layer.epsilon)
    variables = flax.linen.unbox(variables)
    stats, params = (variables.get(name, {}) for name in ('batch_stats', 'params'))
    check_tree(batch_stats=stats, params=params)
    found = {**params, **stats}
    needed, known = {'mean', 'var'}, set(NAMES)
    if layer.debias or layer.momentum is None:
        needed.add('count')
    if not needed <= set(stats) or not set(found) <= known:
        raise ValueError(
            f'variables hold {sorted(found)}, not one layer: batch_stats needs '
            f'{sorted(needed)}; of a network pass one layer as '
            "{'params': params[name], 'batch_stats': batch_stats[name]}"
        )
    if 'count' not in needed:
        found.pop('count', None)
    return layer, {name: jnp.asarray(value) for name, value in found.items()}


def as_collections(values: Mapping[str, Any]) -> dict[str, Any]:
    """As Linen has them, in memory of their own: torch changes its own in place."""
    statistics = {
        name: jnp.array(values[name], jnp.float32)
        for name in ('mean', 'var', 'count')
        if name in values
    }
    parameters = {k: jnp.array(v) for k, v in values.items() if k not in statistics}
    return ({'params': parameters} if parameters else {}) | {'batch_stats': statistics}


def check_one_axis(values: Mapping[str, Any], axis: Any = -1) -> int:
    """The number of features, which must all be on one axis."""
    shapes = {name: np.shape(value) for name, value in values.items()}
    several = np.ndim(axis) > 0 and len(axis) > 1
    shape, *others = set(shapes.values())
    if several or others or len(shape) != 1:
        raise ValueError(
            f'axis={axis} with values of shapes {shapes}; only features on one axis '
            'are converted; of an ensemble pass one: jax.tree.map(lambda v: v[0], ...)'
        )
    return shape[0]
