"""Networks with batch norm before the activation, after it, or nowhere."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from bnjax import config
from bnjax.errors import UserError
from bnjax.linen import BatchNorm


class MLP(nn.Module):
    """Dense hidden layers of ``settings.features`` units and a linear output.

    Takes images ``(n, height, width, channels)``, returns logits ``(n, classes)``.
    """

    settings: config.Model
    classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = x.reshape(len(x), -1)
        for i, width in enumerate(self.settings.features):
            dense = nn.Dense(width, name=f'hidden_{i}', **_linear(self.settings))
            x = _activate(self, dense, x, i, train)
        return _output(self, x)


class CNN(nn.Module):
    """Pairs of 3 x 3 convolutions, each pair then halved in height and width.

    A pair has ``settings.features[i]`` channels; the mean over positions goes to a
    linear output. Takes images ``(n, height, width, channels)``, returns logits.
    """

    settings: config.Model
    classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for i, width in enumerate(self.settings.features):
            for j in (2 * i, 2 * i + 1):
                conv = Conv3x3(width, name=f'hidden_{j}', **_linear(self.settings))
                x = _activate(self, conv, x, j, train)
            x = max_pool(x)
        return _output(self, x.mean((1, 2)))


class Conv3x3(nn.Module):
    """A zero-padded 3 x 3 convolution as one matrix product over patches.

    Inside ``lax.scan``, XLA's own convolution is tens of times slower on CPU, and
    under ``vmap`` it becomes a grouped one; a product has neither trouble. The
    kernel has Flax's name and shape, ``(3, 3, channels, features)``.
    """

    features: int
    use_bias: bool
    kernel_init: Callable[..., jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param('kernel', self.kernel_init, shape)
        y = patches(x) @ kernel.reshape(-1, self.features)
        if self.use_bias:
            y += self.param('bias', nn.initializers.zeros, (self.features,))
        return y


def patches(x: jax.Array) -> jax.Array:
    """The 3 x 3 neighbourhood of each position, zero-padded.

    ``(n, h, w, c)`` to ``(n, h, w, 9 c)``, ordered as a kernel ``(3, 3, c)``.
    """
    _, h, w, _ = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [x[:, i : i + h, j : j + w] for i in range(3) for j in range(3)]
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


NETWORKS: dict[str, type[MLP] | type[CNN]] = {'mlp': MLP, 'cnn': CNN}


def network(settings: config.Model, classes: int) -> MLP | CNN:
    """The network that the settings name; their floats may be traced."""
    return NETWORKS[settings.name](settings, classes)


def _linear(settings: config.Model) -> dict:
    """What every hidden layer takes; batch norm before it would undo a bias."""
    return {
        'use_bias': settings.placement != 'before',
        'kernel_init': getattr(nn.initializers, settings.init)(),
    }


def _activate(
    net: nn.Module, linear: nn.Module, x: jax.Array, i: int, train: bool
) -> jax.Array:
    """Hidden layer ``i``: linear, activation, and batch norm where it is placed."""
    settings = net.settings
    norm = BatchNorm(
        use_running_average=not train,
        momentum=settings.momentum,
        epsilon=settings.epsilon,
        use_scale=settings.use_scale,
        use_bias=settings.use_bias,
        parent=net if settings.placement != 'none' else None,
        name=f'norm_{i}',
    )
    x = linear(x)
    if settings.placement == 'before':
        x = norm(x)
    x = getattr(jax.nn, settings.activation)(x)
    # Not by the layer's name, which in Flax the module itself has.
    net.sow('activations', f'activation_{i}', x)
    return norm(x) if settings.placement == 'after' else x


def _output(net: nn.Module, x: jax.Array) -> jax.Array:
    init = getattr(nn.initializers, net.settings.init)()
    return nn.Dense(net.classes, name='output', kernel_init=init)(x)
