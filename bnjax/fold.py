"""Folding a trained batch norm into the layer before or after it."""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from bnjax.checks import (
    Scalar,
    as_floats,
    check_epsilon,
    check_moments,
    check_size,
)
from bnjax.moments import Moments
from bnjax.reduction import widest

# What is left out changes nothing.
_DEFAULTS = {'mean': 0, 'var': 1, 'scale': 1, 'shift': 0, 'bias': 0}

Padding: TypeAlias = str | int | Sequence[int | tuple[int, int]]


def fold(
    kernel: jax.Array,
    bias: jax.Array | None,
    scale: jax.Array | None,
    shift: jax.Array | None,
    moments: Moments,
    *,
    epsilon: Scalar = 1e-5,
    next_padding: Padding | None = None,
    next_groups: int = 1,
) -> tuple[jax.Array, jax.Array]:
    r"""Kernel and bias of the one layer equal to a layer and its trained batch norm.

    With :math:`g = \gamma / \sqrt{\sigma^2 + \epsilon}`, batch norm after the layer
    (Ioffe & Szegedy 2015, algorithm 2, line 11) gives

    .. math:: K'_{\cdot o} = g_o K_{\cdot o}, \qquad b'_o = g_o (b_o - \mu_o) + \beta_o

    and before the layer, with i over input features and t over kernel positions,

    .. math:: K'_{tio} = g_i K_{tio}, \qquad
              b'_o = b_o + \sum_{t,i} K_{tio} (\beta_i - g_i \mu_i)

    Nothing may stand between the two, no activation. A dense layer upon flattened
    features (h, w, c) is a convolution with its kernel reshaped to (h, w, c, out).

    Args:
      kernel: of floats, with input and output features on its last two axes, as in
        Flax: dense ``(in, out)``, convolution ``(h, w, in / groups, out)`` with any
        strides, dilation and groups. Before batch norm a transposed one may stand
        too (in Flax's default layout, ``transpose_kernel=False``), after it not:
        zeros lie between its inputs.
      bias: of the layer, ``(out,)``; 0 when ``None``.
      scale, shift: gamma and beta; 1 and 0 when ``None``.
      moments: the running mean and variance; the count does not matter.
      epsilon: of batch norm, > 0; may be traced.
      next_padding: ``None`` when batch norm follows the layer. When it precedes the
        layer, the padding there, as Flax takes it; ``'VALID'`` for a dense layer.
      next_groups: of that layer (``feature_group_count``), a convolution.

    Returns:
      The kernel with its shape and dtype, and a bias ``(out,)`` of the dtype of
      ``bias``, or of the kernel. They are computed in float32 or better.

    Raises:
      TypeError: ``kernel`` does not hold floats.
      ValueError: the shapes do not go together, ``epsilon`` <= 0, or ``next_padding``
        is none that Flax takes, or puts zeros around: no exact fold exists then.

    >>> import bnjax, jax.numpy as jnp
    >>> kernel, mean, var = jnp.array([[2.0, 4.0]]), jnp.ones(2), jnp.array([4.0, 16.0])
    >>> running = bnjax.Moments(mean, var, jnp.ones(2))
    >>> for folded in fold(kernel, None, None, None, running, epsilon=1e-9):
    ...     print(folded)
    [[1. 1.]]
    [-0.5  -0.25]
    """
    kernel = as_floats(kernel, 'kernel')
    check_epsilon(epsilon)
    check_moments(moments=moments)
    _check_kernel(kernel)
    check_size('next_groups', next_groups)
    inputs, outputs = kernel.shape[-2:]
    features = outputs if next_padding is None else next_groups * inputs
    norm = {'mean': moments.mean, 'var': moments.var, 'scale': scale, 'shift': shift}
    values = _vectors(features, kernel, **norm) | _vectors(outputs, kernel, bias=bias)
    _check_next(next_padding, next_groups, kernel)

    dtype = widest(kernel, *values.values())
    wide = kernel.astype(dtype)
    mean, var, gamma, beta, b = (
        values[name].astype(dtype) if name in values else jnp.full((), default, dtype)
        for name, default in _DEFAULTS.items()
    )
    gain = gamma / jnp.sqrt(var + jnp.asarray(epsilon, dtype))
    if next_padding is None:
        b = gain * (b - mean) + beta
    else:
        gain, offset = (
            jnp.repeat(v.reshape(-1, inputs), outputs // next_groups, axis=0).T
            for v in (gain, beta - gain * mean)
        )
        # Not a product of matrices, which accelerators round to fewer bits.
        b = b + (wide * _of_rank(wide.ndim, offset)).sum(range(wide.ndim - 1))
    folded = (wide * _of_rank(wide.ndim, gain)).astype(kernel.dtype)
    return folded, b.astype(values.get('bias', kernel).dtype)


def _vectors(
    features: int, kernel: jax.Array, **values: jax.Array | None
) -> dict[str, jax.Array]:
    """What is given of the values as arrays, if they are one for each feature."""
    given = {n: as_floats(v, n) for n, v in values.items() if v is not None}
    for name, value in given.items():
        if value.shape != (features,):
            raise ValueError(
                f'{name} has shape {value.shape}, but with a kernel of shape '
                f'{kernel.shape} it must be ({features},), one value per feature'
            )
    return given


def _of_rank(rank: int, value: jax.Array) -> jax.Array:
    return value.reshape((1,) * (rank - value.ndim) + value.shape)


def _check_kernel(kernel: jax.Array) -> None:
    if kernel.ndim < 2:
        raise ValueError(
            f'kernel has shape {kernel.shape}; its last two axes must be input and '
            'output features, as in Flax'
        )


def _check_next(padding: Padding | None, groups: int, kernel: jax.Array) -> None:
    if padding is not None:
        _check_padding(padding, kernel)
    if kernel.shape[-1] % groups:
        raise ValueError(
            f'next_groups={groups} must divide the {kernel.shape[-1]} outputs of a '
            f'kernel of shape {kernel.shape}'
        )


def _check_padding(padding: Padding, kernel: jax.Array) -> None:
    """Refuses zeros around the output of batch norm, which are none of its values."""
    if isinstance(padding, str):
        name = padding.upper()
        known = ('VALID', 'CIRCULAR', 'REFLECT', 'SAME', 'SAME_LOWER', 'CAUSAL')
        if name not in known:
            raise ValueError(f'next_padding={padding!r} is none of {", ".join(known)}')
        zeros = name not in known[:3] and math.prod(kernel.shape[:-2]) > 1
    else:
        zeros = any(side > 0 for side in _sides(padding, kernel))
    if zeros:
        raise ValueError(
            f'next_padding={padding!r} puts zeros around what batch norm gives, and no '
            'kernel and bias are equal to that; keep the batch norm, or fold it into '
            'the layer before it'
        )


def _sides(padding: Any, kernel: jax.Array) -> Sequence[int]:
    """How much is added on each side; less than 0 is cut off."""
    spatial = kernel.ndim - 2
    if _is_whole(padding) and (spatial or padding == 0):
        return [padding]
    if isinstance(padding, Sequence) and len(padding) == spatial:
        sides = [s for axis in padding for s in (axis if _is_pair(axis) else [axis])]
        if all(map(_is_whole, sides)):
            return sides
    raise ValueError(
        f'next_padding={padding!r} does not fit a kernel of shape {kernel.shape}; give '
        "'VALID' (as for a dense layer), another of Flax's names, a whole number, or "
        f'{spatial} of them or of pairs (low, high)'
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_pair(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 2
