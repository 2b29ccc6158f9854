"""What is refused of the arguments, before anything is compiled or computed."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Scalar: TypeAlias = float | jax.Array


def as_floats(x: Any) -> jax.Array:
    """``x`` as an array of floats, or why it is none."""
    try:
        x = jnp.asarray(x)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f'x is a {type(x).__name__}; give an array of floats'
        ) from error
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f'x has dtype {x.dtype}; batch norm takes floats: '
            'cast it first, for example x.astype(jnp.float32)'
        )
    return x


def check_weights(where: Any, x: jax.Array, name: str = 'where') -> jax.Array | None:
    """Returns ``where`` with the rank of ``x``, or says why it does not fit."""
    if where is None:
        return None
    try:
        where = jnp.asarray(where)
    except (TypeError, ValueError) as error:
        kind = type(where).__name__
        raise TypeError(f'{name} is a {kind}; give an array of booleans') from error
    if not (where.dtype == bool or jnp.issubdtype(where.dtype, jnp.floating)):
        raise TypeError(
            f'{name} has dtype {where.dtype}; '
            'give a mask of booleans or weights of floats'
        )
    try:
        fits = jnp.broadcast_shapes(where.shape, x.shape) == x.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f'{name} of shape {where.shape} does not broadcast to x of shape '
            f'{x.shape}; give one entry, or 1, along each axis'
        )
    return where.reshape((1,) * (x.ndim - where.ndim) + where.shape)


def check_features(
    x: jax.Array, features: tuple[int, ...], **values: jax.Array | None
) -> None:
    """Refuses values that are not one for each feature; they would broadcast unseen."""
    expected = tuple(x.shape[a] for a in features)
    for name, value in values.items():
        if value is not None and jnp.shape(value) != expected:
            raise ValueError(
                f'{name} has shape {jnp.shape(value)}, but x of shape {x.shape} has '
                f'features of shape {expected} on axis {features}; '
                'pass one value per feature'
            )


def check_momentum(momentum: Scalar | None) -> None:
    """Refuses a momentum that is neither None nor, if known, in [0, 1]."""
    if momentum is not None:
        meaning = 'in [0, 1], the fraction of the running statistics that is kept'
        _check_number('momentum', momentum, lambda m: 0 <= m <= 1, meaning)


def check_epsilon(epsilon: Scalar) -> None:
    """Refuses an epsilon that is not, if known, finite and above 0."""
    meaning = 'above 0, for example 1e-5'
    _check_number('epsilon', epsilon, lambda e: 0 < e < float('inf'), meaning)


def check_size(name: str, size: int) -> None:
    """Refuses a group of less than one example."""
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
        raise TypeError(f'{name}={size!r} must be a whole number of examples')
    if size < 1:
        raise ValueError(f'{name}={size} examples make no group; give at least 1')


def _check_number(
    name: str, value: Any, fits: Callable[[Any], bool], meaning: str
) -> None:
    numbers = (int, float, np.number, np.ndarray, jax.Array)
    if not isinstance(value, numbers) or isinstance(value, bool):
        raise TypeError(f'{name}={value!r} must be a number {meaning}')
    if jnp.shape(value):
        raise ValueError(f'{name} of shape {jnp.shape(value)} must be one number')
    if not isinstance(value, jax.core.Tracer) and not fits(value):
        raise ValueError(f'{name}={value} must be a number {meaning}')
