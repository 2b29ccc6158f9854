"""Networks in which each hidden layer feeds the next one."""

import functools

import flax.linen as nn
import jax

from bnjax.models.layers import (
    Network,
    activated,
    conv,
    dense,
    max_pool,
    normalized,
    output,
)


class MLP(Network):
    """Dense hidden layers of ``settings.features`` units and a linear output.

    ``before`` is product, batch norm, activation; ``after`` is product, activation,
    batch norm. Takes images ``(n, height, width, channels)``, returns logits
    ``(n, classes)``.
    """

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = x.reshape(len(x), -1)
        for i, width in enumerate(self.settings.features):
            x = normalized(self, dense(self, i, width)(x), i, train, 'before')
            x = activated(self, x, i, train)
        return output(self, x)


class CNN(Network):
    """Pairs of 3 x 3 convolutions, each pair then halved in height and width.

    Simonyan & Zisserman (2015), in small. A pair has ``settings.features[i]``
    channels; the mean over positions goes to a linear output. Batch norm is placed as
    in ``MLP``, and before the pooling. Takes images
    ``(n, height, width, channels)``, returns logits.
    """

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for i, width in enumerate(self.settings.features):
            for j in (2 * i, 2 * i + 1):
                x = normalized(self, conv(self, j, width)(x), j, train, 'before')
                x = activated(self, x, j, train)
            x = max_pool(x)
        return output(self, x)


class Darknet(Network):
    """Stages of 3 x 3, 1 x 1 and 3 x 3 convolutions with leaky ReLU of slope 0.1.

    As darknet-19 (Redmon & Farhadi 2017): the 1 x 1 convolution has half the channels
    of its neighbours, which have ``settings.features[i]``; between stages the image
    is halved by max-pooling, and the mean over positions goes to a linear output.
    Batch norm is placed as in ``MLP``, and before the pooling; ``before`` is darknet.
    Takes images ``(n, height, width, channels)``, returns logits.
    """

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        leaky_relu = functools.partial(jax.nn.leaky_relu, negative_slope=0.1)
        for stage, width in enumerate(self.settings.features):
            x = max_pool(x) if stage else x
            i = 3 * stage
            squeeze = dense(self, i + 1, max(1, width // 2))
            convs = (conv(self, i, width), squeeze, conv(self, i + 2, width))
            for j, layer in enumerate(convs, start=i):
                x = normalized(self, layer(x), j, train, 'before')
                x = activated(self, x, j, train, leaky_relu)
        return output(self, x)
