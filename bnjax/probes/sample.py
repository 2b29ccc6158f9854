"""What a probe looks at: a network on one batch."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import jax

ByModule: TypeAlias = Mapping[str, Mapping[str, Any]]


class Sample(NamedTuple):
    """A network on the batch of a step, and the way back.

    Attributes:
      params, gradients: by module, then by parameter, as Flax has them.
      loss: mean cross entropy (nats), without label smoothing.
      activations: by hidden layer, ``(n, ..., units)`` after the nonlinearity.
      preactivations, slopes: what goes into it and its derivative there; alike.
      running, batch: by batch norm, then ``mean`` and ``var`` of its units: the
        running statistics before this step, and those of this batch.
      epsilon: of every batch norm.
    """

    params: ByModule
    gradients: ByModule
    loss: jax.Array
    activations: Mapping[str, jax.Array]
    preactivations: Mapping[str, jax.Array]
    slopes: Mapping[str, jax.Array]
    running: ByModule
    batch: ByModule
    epsilon: float | jax.Array


def weights(gradients: ByModule) -> dict[str, jax.Array]:
    """The gradient of each layer's weights: biases and batch norms have none."""
    return {
        layer: gradient['kernel']
        for layer, gradient in gradients.items()
        if 'kernel' in gradient
    }


def depth(module: str) -> float:
    """The number in a module's name; the output is the deepest."""
    number = re.search(r'\d+', module)
    return int(number[0]) if number else math.inf
