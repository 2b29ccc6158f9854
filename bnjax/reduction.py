"""What is summed: axes within an array, weights, and devices by the name of an axis."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Axis: TypeAlias = int | Sequence[int]
AxisName: TypeAlias = str | tuple[str, ...]
Groups: TypeAlias = Sequence[Sequence[int]]


class Reduction(NamedTuple):
    """Static: the feature axes, all others, and the devices that share statistics."""

    features: tuple[int, ...]
    reduced: tuple[int, ...]
    axis_name: AxisName | None
    groups: tuple[tuple[int, ...], ...] | None

    def expand(self, per_feature: jax.Array) -> jax.Array:
        """Shapes a per-feature array so that it broadcasts against ``x``."""
        return jnp.expand_dims(per_feature, self.reduced)

    def total(self, *parts: jax.Array) -> jax.Array:
        """Sums arrays shaped like ``x`` to ``(len(parts), *features)``."""
        return self.own(self.over_devices(*[p.sum(self.reduced) for p in parts]))

    def over_devices(self, *sums: jax.Array) -> jax.Array:
        """Adds up what devices hold: ``(len(sums), groups, *features)``.

        Every device knows all groups, so that they can branch together.
        """
        rows = jnp.stack(sums)[:, None]
        if self.groups is not None:
            # psum takes no groups under shard_map's check_vma; a row per group does.
            row = _group_of_this_device(self.axis_name, self.groups)
            mine = jnp.arange(len(self.groups)) == row
            rows = jnp.where(jnp.expand_dims(mine, range(1, rows.ndim - 1)), rows, 0)
        return rows if self.axis_name is None else lax.psum(rows, self.axis_name)

    def own(self, rows: jax.Array) -> jax.Array:
        """Those of this device's group among the sums of all."""
        if self.groups is None:
            return rows[:, 0]
        return rows[:, _group_of_this_device(self.axis_name, self.groups)]


def reduction(
    x: jax.Array,
    axis: Axis,
    axis_name: AxisName | None = None,
    groups: Groups | None = None,
) -> Reduction:
    """Checks the axes against ``x`` and says what is summed."""
    if x.ndim == 0:
        raise ValueError('x is a scalar; batch norm needs an array with a feature axis')
    axes = _whole_numbers(axis)
    if any(not -x.ndim <= a < x.ndim for a in axes):
        raise ValueError(
            f'axis={axis} is outside x of shape {x.shape}; '
            f'give feature axes from {-x.ndim} to {x.ndim - 1}'
        )
    features = tuple(sorted({a % x.ndim for a in axes}))
    if len(features) < len(axes):
        raise ValueError(f'axis={axis} names an axis of x twice; name each once')
    reduced = tuple(a for a in range(x.ndim) if a not in features)
    check_axis_name(axis_name, groups)
    name = tuple(axis_name) if isinstance(axis_name, list) else axis_name
    return Reduction(features, reduced, name, _partition(groups, name))


def check_axis_name(axis_name: Any, groups: Any) -> None:
    """Refuses what names no axis, or one twice; whether it is bound is not asked."""
    if axis_name is None:
        if groups is not None:
            raise ValueError(f'axis_index_groups={groups} needs axis_name; give both')
        return
    names = axis_name if isinstance(axis_name, tuple | list) else (axis_name,)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f'axis_name={axis_name!r} must be a string, or a tuple of some')
    if len(set(names)) < len(names):
        raise ValueError(f'axis_name={axis_name!r} names an axis twice; name each once')


def _whole_numbers(axis: Any) -> tuple[int, ...]:
    axes = tuple(axis) if isinstance(axis, Sequence) else (axis,)
    if any(isinstance(a, bool) or not isinstance(a, int | np.integer) for a in axes):
        raise TypeError(f'axis={axis!r} must be a whole number or a tuple of them')
    return axes


def _partition(
    groups: Groups | None, axis_name: AxisName | None
) -> tuple[tuple[int, ...], ...] | None:
    """The groups as tuples, checked to hold each index along the named axis once."""
    size = _number_of_devices(axis_name)
    if groups is None:
        return None
    expected = (
        f'each index along axis_name={axis_name!r}, of size {size}, once, '
        'for example [[0, 1], [2, 3]] for 4'
    )
    try:
        rows = tuple(tuple(map(int, group)) for group in groups)
    except TypeError as error:
        message = f'axis_index_groups={groups} must be lists that hold {expected}'
        raise TypeError(message) from error
    if sorted(i for row in rows for i in row) != list(range(size)):
        raise ValueError(f'axis_index_groups={groups} must hold {expected}')
    return rows


def _number_of_devices(axis_name: AxisName | None) -> int:
    if axis_name is None:
        return 1
    try:
        return lax.axis_size(axis_name)
    except NameError as error:
        raise ValueError(
            f'axis_name={axis_name!r} is not bound here; call this inside jax.vmap, '
            'jax.pmap or jax.shard_map over an axis of that name, or give none'
        ) from error


def _group_of_this_device(axis_name: Any, groups: Groups) -> jax.Array:
    members = {i: row for row, group in enumerate(groups) for i in group}
    table = jnp.array([members[i] for i in range(len(members))])
    return table[lax.axis_index(axis_name)]


def counted(weights: jax.Array) -> jax.Array:
    """Where a position counts: a mask is true there, a weight positive."""
    return weights if weights.dtype == bool else weights > 0


def select(values: jax.Array, weights: jax.Array | None) -> jax.Array:
    """0 where the weight is 0, whatever stands there."""
    return values if weights is None else jnp.where(counted(weights), values, 0)


def weigh(values: jax.Array, weights: jax.Array | None) -> jax.Array:
    """Values times weights; a mask of booleans only selects."""
    values = select(values, weights)
    if weights is None or weights.dtype == bool:
        return values
    return values * weights.astype(values.dtype)


def count(x: jax.Array, weights: jax.Array | None, layout: Reduction) -> jax.Array:
    """Sum of the weights of each feature, without spreading them over ``x``."""
    if weights is None:
        weights = jnp.ones((1,) * x.ndim, x.dtype)
    repeats = math.prod(x.shape[i] for i in layout.reduced if weights.shape[i] == 1)
    axes = tuple(i for i in layout.reduced if weights.shape[i] != 1)
    # Not by weigh: XLA on CPU would add up the product one by one, and lose digits.
    held = select(weights.astype(x.dtype), weights)
    total = held.sum(axes, keepdims=True) * repeats
    shape = [x.shape[i] for i in layout.features]
    return jnp.broadcast_to(total.squeeze(layout.reduced), shape)


def per_count(total: jax.Array, number: jax.Array) -> jax.Array:
    """Means from sums, which may have axes in front; those of nothing are 0."""
    number = jnp.expand_dims(number, range(total.ndim - number.ndim))
    return total / jnp.where(number > 0, number, 1)


def stats_dtype(x: jax.Array) -> jnp.dtype:
    """float32, or float64 for float64 input."""
    # Not by promotion, which JAX may be told to refuse.
    return jnp.dtype(jnp.float64 if x.dtype == jnp.float64 else jnp.float32)


def widest(*values: Any) -> jnp.dtype:
    """That of the widest, float32 or better, where JAX is told to promote nothing."""
    dtypes = [jnp.dtype(jnp.float32), *(value.dtype for value in values)]
    return max(dtypes, key=lambda dtype: dtype.itemsize)


def placed_like(values: jax.Array, others: jax.Array) -> jax.Array:
    """Values, divided over an explicit mesh as others of their shape are."""
    return values + jnp.zeros_like(others, values.dtype)


def vary_like(values: jax.Array, x: jax.Array) -> jax.Array:
    """Values, held by each device for itself where ``x`` differs between devices."""
    return values * jnp.ones_like(x, shape=())
