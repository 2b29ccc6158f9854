"""What the networks are made of.

A network ``net`` is a Flax module with ``settings`` and ``classes``. Its hidden
layers are numbered by depth: the weights of number ``i`` are ``hidden_i``, its batch
norm is ``norm_i``, and what goes into its nonlinearity and what comes out of it are
sown as ``activation_i``.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from bnjax import config
from bnjax.errors import UserError
from bnjax.models import norms
from bnjax.models.convolution import Conv3x3
from bnjax.models.initial import kernel_init

CONSTANT = {
    'constant_mean': ('mean',),
    'constant_variance': ('var',),
    'constant_statistics': ('mean', 'var'),
}


class Network(nn.Module):
    """A network of hidden layers and a linear output.

    Attributes:
      settings: the fields ``model`` of a config; its floats may be traced.
      classes: logits it gives.
      convolution: how 3 x 3 convolutions are computed, ``direct`` or by ``product``.
    """

    settings: config.Model
    classes: int
    convolution: str = 'product'


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


def conv(net: Network, i: int, width: int, stride: int = 1) -> Conv3x3:
    """Hidden layer ``i`` as a 3 x 3 convolution."""
    name, how = f'hidden_{i}', net.convolution
    return Conv3x3(width, stride=stride, lowering=how, name=name, **linear(net))


def dense(net: Network, i: int, width: int) -> nn.Dense:
    """Hidden layer ``i`` as a product with each position: on images, a 1 x 1 conv."""
    return nn.Dense(width, name=f'hidden_{i}', **linear(net))


def linear(net: Network) -> dict[str, Any]:
    """What every hidden layer takes; batch norm before it would undo a bias."""
    return {
        'use_bias': net.settings.placement != 'before',
        'kernel_init': kernel_init(net.settings),
        'dtype': jnp.dtype(net.settings.dtype),
        'parent': net,
    }


def norm(net: Network, name: str, train: bool, **fields: Any) -> Any:
    """A batch norm or its variant by the settings, ``fields`` aside."""
    settings = net.settings
    by_settings: dict[str, Any] = {
        'epsilon': settings.epsilon,
        'use_scale': settings.use_scale,
        'use_bias': settings.use_bias,
        'scale': settings.scale,
        'dtype': jnp.dtype(settings.dtype),
        'name': name,
        'parent': net,
    }
    if settings.norm == 'layer':
        return norms.Layer(**by_settings | fields)
    by_settings |= {'use_running_average': not train, 'momentum': settings.momentum}
    if settings.norm in CONSTANT:
        by_settings['constant'] = CONSTANT[settings.norm]
        return norms.Constant(**by_settings | fields)
    kind = norms.Noisy if settings.norm == 'noisy' else norms.Batch
    return kind(**by_settings | fields)


def normalized(
    net: Network, x: jax.Array, i: int, train: bool, where: str
) -> jax.Array:
    """Batch norm ``i`` of ``x``, if that is where it is placed."""
    return norm(net, f'norm_{i}', train)(x) if net.settings.placement == where else x


def activated(
    net: Network,
    x: jax.Array,
    i: int,
    train: bool,
    function: Callable[[jax.Array], jax.Array] | None = None,
) -> jax.Array:
    """The activation of hidden layer ``i``, then its batch norm if placed after it."""
    function = function or getattr(jax.nn, net.settings.activation)
    sow_preactivation(net, x, function, i)
    x = function(x)
    sow_activation(net, x, i)
    return dropped(net, normalized(net, x, i, train, 'after'), i, train)


def dropped(net: Network, x: jax.Array, i: int, train: bool) -> jax.Array:
    """What hidden layer ``i`` gives out, in training without a share of it.

    Drawn from the stream ``noise``; without one nothing is left out.
    """
    percent = net.settings.dropout_percent
    if not (percent and train and net.has_rng('noise')):
        return x
    layer = nn.Dropout(
        percent / 100, rng_collection='noise', name=f'dropout_{i}', parent=net
    )
    return layer(x, deterministic=False)


def sow_activation(net: Network, x: jax.Array, i: int) -> None:
    # Not by the layer's name, which in Flax the module itself has.
    net.sow('activations', f'activation_{i}', x.astype(jnp.float32))


def sow_preactivation(
    net: Network, x: jax.Array, function: Callable[[jax.Array], jax.Array], i: int
) -> None:
    """Sows what goes into a nonlinearity and, as a slope, its derivative there."""
    # What is sown while parameters are drawn would stay with them.
    if net.is_initializing() or not net.is_mutable_collection('preactivations'):
        return
    x = lax.stop_gradient(x)
    slope = jax.jvp(function, (x,), (jnp.ones_like(x),))[1]
    net.sow('preactivations', f'activation_{i}', x.astype(jnp.float32))
    net.sow('slopes', f'activation_{i}', slope.astype(jnp.float32))


def output(net: Network, x: jax.Array) -> jax.Array:
    """Logits ``(n, classes)``: a float32 product with the mean over positions."""
    x = x.astype(jnp.float32)
    x = x.mean(tuple(range(1, x.ndim - 1))) if x.ndim > 2 else x
    init = kernel_init(net.settings)
    return nn.Dense(net.classes, name='output', kernel_init=init, parent=net)(x)
