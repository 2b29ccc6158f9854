"""What a training step takes at least, counted from the shapes of a network."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from bnjax.benchmark.flax_networks import network
from bnjax.benchmark.workloads import parsed

NORM_PASSES = 8  # read x; read x, write y; read x, dy; read x, dy, write dx
PARAMETER_PASSES = 4  # read and write parameters and velocities
BYTES = 4  # of a float32


class Floor(NamedTuple):
    """Of one step of one trial.

    Attributes:
      flops: of the matrix products and convolutions, padding included.
      bytes: read and written by them, by batch norm with what follows it fused, and
        by SGD with momentum, each layer by itself.
    """

    flops: float
    bytes: float


def floor(workload: dict[str, Any]) -> Floor:
    """That of a workload as JSON has it; compiles nothing."""
    w = parsed(workload)
    x = jnp.zeros((w.batch_size, *w.image))
    calls, params = _calls(network(w), x)
    flops, passes = 0.0, PARAMETER_PASSES * sum(p.size for p in jax.tree.leaves(params))
    first = True
    for module, inputs, outputs in calls:
        if isinstance(module, nn.BatchNorm):
            passes += NORM_PASSES * outputs.size
        if isinstance(module, nn.Dense | nn.Conv):
            kernel = params[module.name]['kernel']
            products = 2 if first else 3  # the images need no gradient
            flops += products * 2 * kernel.size * outputs.size // outputs.shape[-1]
            # Read x, write y; read x, dy; write dx.
            passes += products * inputs.size + 2 * outputs.size
            first = False
    return Floor(flops, BYTES * passes)


def _calls(net: nn.Module, x: jax.Array) -> tuple[list[tuple], Any]:
    """Each layer that the network calls, with its input and output; its parameters."""
    calls = []

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        result = call(*args, **kwargs)
        calls.append((context.module, args[0], result))
        return result

    with nn.intercept_methods(note):
        begin = functools.partial(net.init, train=True)
        variables = jax.eval_shape(begin, jax.random.key(0), x)
    return calls, variables['params']
