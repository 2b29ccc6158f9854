"""The networks of the workloads in Flax's own layers, by the program's names."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from bnjax.benchmark.workloads import CLASSES, MOMENTUM, Workload

he_normal = nn.initializers.he_normal()


class MLP(nn.Module):
    """Dense hidden layers."""

    workload: Workload

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = x.reshape(len(x), -1)
        for i, width in enumerate(self.workload.features):
            name = f'hidden_{i}'
            dense = nn.Dense(width, use_bias=False, kernel_init=he_normal, name=name)
            x = _activation(self.workload)(_norm(i, train)(dense(x)))
        return _output(x)


class CNN(nn.Module):
    """Pairs of 3 x 3 convolutions, each pair then halved in height and width."""

    workload: Workload

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for i, width in enumerate(self.workload.features):
            for j in (2 * i, 2 * i + 1):
                x = _activation(self.workload)(_norm(j, train)(_conv(width, j)(x)))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        return _output(x.mean((1, 2)))


class ResNet(nn.Module):
    """Blocks of two 3 x 3 convolutions, each with the activation after the sum."""

    workload: Workload

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        activation = _activation(self.workload)
        x = activation(_norm(0, train)(_conv(self.workload.features[0], 0)(x)))
        for block, (width, stride) in enumerate(self.workload.blocks()):
            i = 2 * block + 1
            y = activation(_norm(i, train)(_conv(width, i, stride)(x)))
            y = _norm(i + 1, train)(_conv(width, i + 1)(y))
            x = activation(_shortcut(x, width, stride) + y)
        return _output(x.mean((1, 2)))


def network(workload: Workload) -> nn.Module:
    """The network of a workload: images to logits."""
    return {'mlp': MLP, 'cnn': CNN, 'resnet': ResNet}[workload.model](workload)


def _conv(width: int, i: int, stride: int = 1) -> nn.Conv:
    return nn.Conv(
        width,
        (3, 3),
        strides=stride,
        padding=1,  # on each side; SAME is another where the stride is 2
        use_bias=False,
        kernel_init=he_normal,
        name=f'hidden_{i}',
    )


def _shortcut(x: jax.Array, width: int, stride: int) -> jax.Array:
    missing = width - x.shape[-1]
    return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (0, missing)))


def _norm(i: int, train: bool) -> nn.BatchNorm:
    return nn.BatchNorm(
        use_running_average=not train, momentum=MOMENTUM, name=f'norm_{i}'
    )


def _activation(workload: Workload) -> Callable[[jax.Array], jax.Array]:
    return getattr(jax.nn, workload.activation)


def _output(x: jax.Array) -> jax.Array:
    return nn.Dense(CLASSES, kernel_init=he_normal, name='output')(x)
