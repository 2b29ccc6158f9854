"""A layer to and from the two APIs of Flax."""

import dataclasses
from typing import Any

import flax.linen
from flax import nnx

import bnjax.linen
import bnjax.nnx
from bnjax.interop.values import (
    NAMES,
    Fields,
    Variables,
    as_collections,
    check_one_axis,
    read,
)


def from_nnx(layer: nnx.BatchNorm) -> tuple[Fields, dict[str, Any]]:
    """A Linen layer from one of ``flax.nnx`` or `bnjax.nnx`.

    Whether it is in training or in evaluation is left out: Linen is told in the call.

    Raises:
      TypeError: it is no BatchNorm.
      ValueError: the layer has features on several axes, or is an ensemble.
    """
    if not isinstance(layer, nnx.BatchNorm):
        kind = type(layer).__name__
        raise TypeError(f'layer is a {kind}; give a BatchNorm of flax.nnx or bnjax.nnx')
    names = [field.name for field in dataclasses.fields(bnjax.linen.BatchNorm)]
    fields = {
        name: getattr(layer, name)
        for name in names
        if hasattr(layer, name) and name != 'use_running_average'
    }
    found = {name: getattr(layer, name, None) for name in NAMES}
    values = {name: v[...] for name, v in found.items() if v is not None}
    check_one_axis(values, layer.axis)
    return fields, as_collections(values)


def to_nnx(
    fields: Fields,
    variables: Variables,
    layer_type: type[nnx.BatchNorm] = bnjax.nnx.BatchNorm,
) -> nnx.BatchNorm:
    """An NNX layer from a Linen one; for Flax's::

        layer = to_nnx(*to_flax(fields, variables), flax.nnx.BatchNorm)

    Raises:
      TypeError: ``fields`` or ``variables`` is no dictionary of a layer's.
      ValueError: features on several axes, an ensemble, a field outside its bounds, or
        variables that are not those of one layer.

    >>> import jax.numpy as jnp
    >>> stats = {'mean': jnp.array([3.0]), 'var': jnp.array([4.0])}
    >>> layer = to_nnx({'momentum': 0.9}, {'batch_stats': stats})
    >>> layer.momentum, layer.mean[...]
    (0.9, Array([3.], dtype=float32))
    """
    layer, values = read(fields, variables)
    features = check_one_axis(values, layer.axis)
    given = {k: v for k, v in fields.items() if k != 'force_float32_reductions'}
    given |= {'use_scale': 'scale' in values, 'use_bias': 'bias' in values}
    made = layer_type(features, rngs=nnx.Rngs(0), **given)
    for name, value in values.items():
        getattr(made, name).set_value(value)  # [...] would keep the initial dtype
    return made


def to_flax(fields: Fields, variables: Variables) -> tuple[Fields, dict[str, Any]]:
    """The same for ``flax.linen.BatchNorm``: without what it has not.

    It evaluates the same; it does not train by the fields that are dropped. The other
    way there is nothing to do: bnjax's layer takes Flax's fields and variables.

    Raises:
      TypeError: ``fields`` or ``variables`` is no dictionary of a layer's.
      ValueError: momentum is None, a field is outside its bounds, or ``variables`` is
        not that of one layer.

    >>> import jax.numpy as jnp
    >>> one = jnp.ones(1)
    >>> variables = {'batch_stats': {'mean': one, 'var': one, 'count': one}}
    >>> to_flax({'momentum': 0.9, 'debias': True}, variables)[0]
    {'momentum': 0.9}
    """
    layer, values = read(fields, variables)
    if layer.momentum is None:
        raise ValueError(
            'momentum=None, the cumulative average, is not in Flax; '
            "pass fields | {'momentum': 0.99}, or another number"
        )
    names = {field.name for field in dataclasses.fields(flax.linen.BatchNorm)}
    values.pop('count', None)
    return {k: v for k, v in fields.items() if k in names}, as_collections(values)
