"""Weights and biases as training begins with them."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from bnjax import config


def kernel_init(settings: config.Model) -> Callable[..., jax.Array]:
    """The initialiser of all weights, times ``settings.init_scale``."""
    deviation = {'stddev': 1.0} if settings.init == 'normal' else {}
    draw = getattr(nn.initializers, settings.init)(**deviation)
    return lambda *args: settings.init_scale * draw(*args)


def with_noise_on_biases(params: Any, deviation: Any, key: jax.Array) -> Any:
    """Parameters of a network with normal numbers added to its biases.

    Those of hidden layers and output; what batch norm adds is none. In every placement
    a layer gets the same.

    Args:
      params: by module.
      deviation: of the numbers, in all; may be traced.
      key: of them.
    """
    layers = sorted(name for name in params if not name.startswith('norm_'))
    widths = [jax.tree.leaves(params[name])[0].shape[-1] for name in layers]
    # All at once, for a program of as many draws as layers would compile for long.
    noise = deviation * jax.random.normal(key, (len(layers), max(widths)))
    # Without deviation not even the sign of a zero is another.
    noise = jnp.where(deviation > 0, noise, 0)
    new = dict(params)
    for name, row in zip(layers, noise, strict=True):
        if 'bias' in params[name]:
            bias = params[name]['bias']
            new[name] = {**params[name], 'bias': bias + row[: len(bias)]}
    return new
