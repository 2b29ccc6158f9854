"""Folding a trained batch norm into the layer before or after it."""

import math
from collections.abc import Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp

from bnjax.checks import (
    Scalar,
    as_floats,
    check_epsilon,
    check_moments,
    check_size,
)
from bnjax.moments import Moments

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
        puts zeros around, for which no exact fold exists.

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
    mean, var = as_floats(moments.mean, 'mean'), as_floats(moments.var, 'var')
    inputs, outputs = kernel.shape[-2:]
    check_size('next_groups', next_groups)
    features = outputs if next_padding is None else next_groups * inputs
    _check(features, kernel, mean=mean, var=var, scale=scale, shift=shift)
    _check(outputs, kernel, bias=bias)
    if next_padding is not None:
        _check_padding(next_padding, kernel)
    if outputs % next_groups:
        raise ValueError(
            f'next_groups={next_groups} must divide the {outputs} outputs of a kernel '
            f'of shape {kernel.shape}'
        )

    dtype = jnp.result_type(jnp.float32, kernel, mean, var)
    wide, mean = kernel.astype(dtype), mean.astype(dtype)
    gain = (1.0 if scale is None else scale) / jnp.sqrt(var.astype(dtype) + epsilon)
    beta = 0.0 if shift is None else shift
    b = 0.0 if bias is None else bias
    if next_padding is None:
        b = gain * (b - mean) + beta
    else:
        gain, offset = (
            jnp.repeat(v.reshape(-1, inputs), outputs // next_groups, axis=0).T
            for v in (gain, beta - gain * mean)
        )
        # Not a product of matrices, which accelerators round to fewer bits.
        b = b + (wide * offset).sum(range(kernel.ndim - 1))
    folded = (wide * gain).astype(kernel.dtype)
    return folded, b.astype(kernel.dtype if bias is None else jnp.result_type(bias))


def _check_kernel(kernel: jax.Array) -> None:
    if kernel.ndim < 2:
        raise ValueError(
            f'kernel has shape {kernel.shape}; its last two axes must be input and '
            'output features, as in Flax'
        )


def _check(features: int, kernel: jax.Array, **values: jax.Array | None) -> None:
    for name, value in values.items():
        if value is not None and as_floats(value, name).shape != (features,):
            raise ValueError(
                f'{name} has shape {jnp.shape(value)}, but with a kernel of shape '
                f'{kernel.shape} it must be ({features},), one value per feature'
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
        zeros = any(p > 0 for p in jax.tree.leaves(padding))
    if zeros:
        raise ValueError(
            f'next_padding={padding!r} puts zeros around what batch norm gives, and no '
            'kernel and bias are equal to that; keep the batch norm, or fold it into '
            'the layer before it'
        )
