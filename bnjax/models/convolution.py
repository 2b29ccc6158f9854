"""A 3 x 3 convolution, computed in one of two ways.

On CPU and inside a loop XLA has fast code for a convolution, but for neither of its
gradients: a ``direct`` one puts them in terms that it is fast at. Under ``vmap`` over
kernels a convolution becomes a grouped one, which is slow everywhere; a ``product``
of patches does not, and takes nine times the memory.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax import lax

# Bytes of patches that stay in the cache of a core, about.
BLOCK = 2.5e6


class Conv3x3(nn.Module):
    """Flax's ``nn.Conv`` with a 3 x 3 kernel and one zero of padding on each side.

    Attributes:
      features: channels of the output.
      use_bias: adds one number a channel.
      kernel_init: of the kernel, which has Flax's name and shape
        ``(3, 3, channels, features)``.
      stride: in both directions.
      dtype: of the computation, or None for that of the arguments.
      lowering: ``direct`` or ``product``, functions of this module that give the
        same.
    """

    features: int
    use_bias: bool
    kernel_init: Callable[..., jax.Array]
    stride: int = 1
    dtype: Any = None
    lowering: str = 'product'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param('kernel', self.kernel_init, shape)
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        y = (direct if self.lowering == 'direct' else product)(x, kernel, self.stride)
        if self.use_bias:
            bias = self.param('bias', nn.initializers.zeros, (self.features,))
            y += bias.astype(y.dtype)
        return y


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def direct(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """By XLA's convolution, forward and back.

    ``(n, h, w, c)`` and ``(3, 3, c, f)`` to
    ``(n, ceil(h / stride), ceil(w / stride), f)``.
    """
    return _convolution(x, kernel, stride)


def _convolution(
    x: jax.Array, kernel: jax.Array, stride: int = 1, dilation: int = 1
) -> jax.Array:
    """Of ``x`` with zeros between its pixels, and so many around that none is lost."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((1, dilation), (1, dilation)),
        lhs_dilation=(dilation, dilation),
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )


def _forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple:
    return direct(x, kernel, stride), (x, kernel)


def _backward(stride: int, saved: tuple, dy: jax.Array) -> tuple:
    """JAX's own rules are right, but in a loop on CPU XLA has no fast code for them."""
    x, kernel = saved
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    dx = _convolution(dy, flipped, dilation=stride)[:, : x.shape[1], : x.shape[2]]
    return dx, _kernel_gradient(x, dy, stride).reshape(kernel.shape)


direct.defvjp(_forward, _backward)


def _kernel_gradient(x: jax.Array, dy: jax.Array, stride: int) -> jax.Array:
    """Products of patches with what flows back, of a few images at a time."""
    n, wide = len(x), jnp.promote_types(x.dtype, 'f4')
    most = max(1, int(BLOCK * stride**2 / (9 * x[0].nbytes)))
    together = max(k for k in range(1, min(n, most) + 1) if n % k == 0)

    def add(i: jax.Array, total: jax.Array) -> jax.Array:
        some, back = (
            lax.dynamic_slice_in_dim(a, i * together, together) for a in (x, dy)
        )
        rows = patches(some, stride)
        rows, back = (a.reshape(-1, a.shape[-1]) for a in (rows, back))
        return total + jnp.matmul(back.T, rows, preferred_element_type=wide)

    total = jnp.zeros((dy.shape[-1], 9 * x.shape[-1]), wide)
    return lax.fori_loop(0, n // together, add, total).T.astype(x.dtype)


def product(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """By one matrix product over all patches, which under ``vmap`` stays a product."""
    return patches(x, stride) @ kernel.reshape(-1, kernel.shape[-1])


def patches(x: jax.Array, stride: int = 1) -> jax.Array:
    """The 3 x 3 neighbourhood of each ``stride``-th position, zero-padded.

    ``(n, h, w, c)`` to ``(n, ceil(h / stride), ceil(w / stride), 9 c)``, ordered as a
    kernel ``(3, 3, c)``.
    """
    _, h, w, _ = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [
        x[:, i : i + h : stride, j : j + w : stride] for i in range(3) for j in range(3)
    ]
    return jnp.concatenate(shifted, axis=-1)
