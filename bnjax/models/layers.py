"""What the networks are made of.

A network ``net`` is a Flax module with ``settings`` and ``classes``. Its hidden
layers are numbered by depth: the weights of number ``i`` are ``hidden_i``, its batch
norm is ``norm_i``, and what follows its nonlinearity is sown as ``activation_i``.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from bnjax.errors import UserError
from bnjax.linen import BatchNorm


class Conv3x3(nn.Module):
    """A 3 x 3 convolution as one matrix product over patches.

    Inside ``lax.scan``, XLA's own convolution is tens of times slower on CPU, and
    under ``vmap`` it becomes a grouped one; a product has neither trouble. The
    kernel has Flax's name and shape, ``(3, 3, channels, features)``. The padding is
    one zero on each side, whatever the stride.
    """

    features: int
    use_bias: bool
    kernel_init: Callable[..., jax.Array]
    stride: int = 1
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param('kernel', self.kernel_init, shape)
        x, kernel = promote_dtype(x, kernel, dtype=self.dtype)
        y = patches(x, self.stride) @ kernel.reshape(-1, self.features)
        if self.use_bias:
            bias = self.param('bias', nn.initializers.zeros, (self.features,))
            y += bias.astype(y.dtype)
        return y


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


def max_pool(x: jax.Array) -> jax.Array:
    """The largest of each 2 x 2 square; an odd last row or column is left out."""
    n, h, w, c = x.shape
    if h < 2 or w < 2:
        raise UserError(
            f'model.features has too many entries: the image is {h} x {w} by then '
            'and cannot be halved again; give fewer'
        )
    squares = x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c)
    return squares.max((2, 4))


def conv(net: nn.Module, i: int, width: int, stride: int = 1) -> Conv3x3:
    """Hidden layer ``i`` as a 3 x 3 convolution."""
    return Conv3x3(width, stride=stride, name=f'hidden_{i}', **linear(net))


def dense(net: nn.Module, i: int, width: int) -> nn.Dense:
    """Hidden layer ``i`` as a product with each position: on images, a 1 x 1 conv."""
    return nn.Dense(width, name=f'hidden_{i}', **linear(net))


def linear(net: nn.Module) -> dict[str, Any]:
    """What every hidden layer takes; batch norm before it would undo a bias."""
    return {
        'use_bias': net.settings.placement != 'before',
        'kernel_init': getattr(nn.initializers, net.settings.init)(),
        'dtype': jnp.dtype(net.settings.dtype),
        'parent': net,
    }


def norm(net: nn.Module, name: str, train: bool, **fields: Any) -> BatchNorm:
    """A batch norm by the settings, ``fields`` aside; its statistics are float32."""
    settings = net.settings
    by_settings = {
        'momentum': settings.momentum,
        'epsilon': settings.epsilon,
        'use_scale': settings.use_scale,
        'use_bias': settings.use_bias,
        'dtype': jnp.dtype(settings.dtype),
    }
    return BatchNorm(
        use_running_average=not train, name=name, parent=net, **by_settings | fields
    )


def normalized(
    net: nn.Module, x: jax.Array, i: int, train: bool, where: str
) -> jax.Array:
    """Batch norm ``i`` of ``x``, if that is where it is placed."""
    return norm(net, f'norm_{i}', train)(x) if net.settings.placement == where else x


def activated(
    net: nn.Module,
    x: jax.Array,
    i: int,
    train: bool,
    function: Callable[[jax.Array], jax.Array] | None = None,
) -> jax.Array:
    """The activation of hidden layer ``i``, then its batch norm if placed after it."""
    x = (function or getattr(jax.nn, net.settings.activation))(x)
    sow_activation(net, x, i)
    return normalized(net, x, i, train, 'after')


def sow_activation(net: nn.Module, x: jax.Array, i: int) -> None:
    # Not by the layer's name, which in Flax the module itself has.
    net.sow('activations', f'activation_{i}', x.astype(jnp.float32))


def output(net: nn.Module, x: jax.Array) -> jax.Array:
    """Logits ``(n, classes)``: a float32 product with the mean over positions."""
    x = x.astype(jnp.float32)
    x = x.mean(tuple(range(1, x.ndim - 1))) if x.ndim > 2 else x
    init = getattr(nn.initializers, net.settings.init)()
    return nn.Dense(net.classes, name='output', kernel_init=init, parent=net)(x)
