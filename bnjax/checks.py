"""What is refused of the arguments, before anything is compiled or computed."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Scalar: TypeAlias = float | jax.Array


@contextlib.contextmanager
def named(layer: str) -> Iterator[None]:
    """Puts the name of the layer before what is wrong with its arguments."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if type(error) not in (TypeError, ValueError):
            raise
        raise type(error)(f'{layer}: {error}') from error


def as_floats(value: Any, name: str = 'x') -> jax.Array:
    """The value as an array, which must hold floats."""
    dtype = _dtype(name, value)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f'{name} has dtype {dtype}; batch norm takes floats: '
            'cast it first, for example to jnp.float32'
        )
    return jnp.asarray(value)


def check_weights(where: Any, x: jax.Array, name: str = 'where') -> jax.Array | None:
    """Returns ``where`` with the rank of ``x``, or says why it does not fit."""
    if where is None:
        return None
    where = np.asarray(where) if isinstance(where, bool) else where
    dtype = _dtype(name, where)
    if not any(jnp.issubdtype(dtype, kind) for kind in (jnp.bool_, jnp.floating)):
        raise TypeError(
            f'{name} has dtype {dtype}; give a mask of booleans or weights of floats'
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
    shape = (1,) * (x.ndim - where.ndim) + where.shape
    return jnp.asarray(where).reshape(shape)


def check_features(x: jax.Array, features: tuple[int, ...], **values: Any) -> None:
    """Refuses values that are not floats, or not one for each feature of ``x``."""
    expected = tuple(x.shape[a] for a in features)
    for name, value in values.items():
        if value is not None and as_floats(value, name).shape != expected:
            raise ValueError(
                f'{name} has shape {jnp.shape(value)}, but x of shape {x.shape} has '
                f'features of shape {expected} on axis {features}; '
                'pass one value per feature'
            )


def check_moments(**sets: Any) -> None:
    """Refuses what are no ``Moments``."""
    for name, value in sets.items():
        if getattr(value, '_fields', ()) != ('mean', 'var', 'count'):
            raise TypeError(
                f'{name} is {kind_of(value)}; give Moments(mean, var, count)'
            )


def check_same_features(**sets: Any) -> None:
    """Refuses moments of different features, which would broadcast unseen."""
    check_moments(**sets)
    values = {f'{n}.{f}': v for n in sets for f, v in sets[n]._asdict().items()}
    fields = [(name, as_floats(v, name).shape) for name, v in values.items()]
    if len({shape for _, shape in fields}) > 1:
        shapes = ', '.join(f'{name} {shape}' for name, shape in fields)
        raise ValueError(f'moments must all have the shape of the features: {shapes}')


def check_tree(**trees: Any) -> None:
    """Refuses what is no dictionary."""
    for name, tree in trees.items():
        if not isinstance(tree, Mapping):
            raise TypeError(f'{name} is {kind_of(tree)}; give a dictionary')


def check_momentum(momentum: Scalar | None) -> None:
    """Refuses a momentum that is neither None nor, if known, in [0, 1]."""
    if momentum is not None:
        meaning = 'in [0, 1], the fraction of the running statistics that is kept'
        _check_number('momentum', momentum, lambda m: 0 <= m <= 1, meaning)


def check_epsilon(epsilon: Scalar, name: str = 'epsilon') -> None:
    """Refuses an epsilon that is not, if known, a normal number of float32 above 0."""
    # Smaller ones are 0 to XLA, and a constant feature would be 0 / 0.
    info = np.finfo(np.float32)
    meaning = f'from {info.tiny:.3g} up in float32, for example 1e-5'
    _check_number(name, epsilon, lambda e: info.tiny <= e <= info.max, meaning)


def check_dtype(name: str, dtype: Any) -> None:
    """Refuses a dtype, if one is given, that is not one of floats."""
    if dtype is not None and not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f'{name}={jnp.dtype(dtype)} must be one of floats')


def check_flag(name: str, flag: Any) -> None:
    """Refuses what is neither True nor False."""
    if not isinstance(flag, bool | np.bool_):
        raise TypeError(f'{name}={flag!r} must be True or False')


def check_size(name: str, size: int) -> None:
    """Refuses what is not a whole number of at least one."""
    if isinstance(size, bool) or not isinstance(size, int | np.integer):
        raise TypeError(f'{name}={size!r} must be a whole number')
    if size < 1:
        raise ValueError(f'{name}={size} must be at least 1')


def _check_number(
    name: str, value: Any, fits: Callable[[Any], bool], meaning: str
) -> None:
    numbers = int | float | np.number | np.ndarray | jax.Array
    kind = getattr(value, 'dtype', type(value))
    if not isinstance(value, numbers) or kind in (bool, np.dtype(bool)):
        raise TypeError(f'{name}={value!r} must be a number {meaning}')
    if jnp.shape(value):
        raise ValueError(f'{name} of shape {jnp.shape(value)} must be one number')
    # A number before it is compared, for under jit the comparison would be traced.
    if not isinstance(value, jax.core.Tracer) and not fits(float(value)):
        raise ValueError(f'{name}={value} must be a number {meaning}')


def _dtype(name: str, value: Any) -> Any:
    if not hasattr(value, 'dtype'):
        raise TypeError(f'{name} is {kind_of(value)}; give an array')
    return value.dtype


def kind_of(value: Any) -> str:
    """Its type, as a message names it."""
    return 'None' if value is None else f'a {type(value).__name__}'
