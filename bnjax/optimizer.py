"""How parameters move: the direction, by Optax's rules, and the learning rate."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from bnjax import config
from bnjax.population import layers_of
from bnjax.probes.sample import depth

Factor: TypeAlias = Callable[[Any, Any, int], Any]


def update_rule(
    settings: config.Optimizer, batch_stats: Any
) -> optax.GradientTransformation:
    """Gradients to the direction, uphill; its floats may be traced.

    Args:
      settings: whose learning rate is not looked at.
      batch_stats: of the network; where it has statistics there is batch norm.
    """
    decay = optax.add_decayed_weights(
        settings.weight_decay,
        mask=lambda params: _decayed(params, batch_stats, settings.decay_norm),
    )
    velocity = optax.trace(settings.momentum, nesterov=settings.nesterov)
    epsilon = settings.epsilon
    # Beside the root, as torch and Adam have it; Optax's default is under it.
    by_rms = optax.scale_by_rms(decay=0.9, eps=epsilon, eps_in_sqrt=False)
    by_adam = optax.scale_by_adam(
        b1=settings.momentum, eps=epsilon, nesterov=settings.nesterov
    )
    rules = {
        'sgd': (decay, velocity),
        'rmsprop': (decay, by_rms, velocity),
        'adam': (by_adam, decay),
    }
    still = optax.masked(
        optax.set_to_zero(), lambda params: _frozen(params, settings.frozen)
    )
    # Last, so that neither velocity nor decay moves what is frozen.
    return optax.chain(*rules[settings.name], *([still] if settings.frozen else []))


def _decayed(params: Any, batch_stats: Any, decay_norm: bool) -> Any:
    """Whether weight decay acts on a parameter: a tree like ``params``."""
    norms = layers_of(batch_stats)

    def decayed(path: tuple[str, ...], value: Any) -> bool:
        # A layer norm has no statistics, but the name.
        if path[:-1] in norms or path[0].startswith('norm_'):
            return decay_norm
        return value.ndim > 1  # only weights have two axes, biases have one

    flat = flatten_dict(params)
    return unflatten_dict({path: decayed(path, v) for path, v in flat.items()})


def _frozen(params: Any, layers: int) -> Any:
    """Whether a parameter is of one of the first hidden layers: like ``params``."""
    flat = flatten_dict(params)
    return unflatten_dict({path: depth(path[0]) < layers for path in flat})


def learning_rate(settings: config.Optimizer, number: Any, total: int) -> Any:
    r"""The learning rate of a step.

    .. math:: \eta_i = \eta \, \min(1, i / w) \, s(i), \quad
              w = \mathrm{warmup\_percent} / 100 \cdot \mathrm{total}

    Args:
      settings: the floats may be traced.
      number: of the step, from 0; may be traced.
      total: the number of all steps.

    >>> settings = config.Optimizer(learning_rate=1.0, warmup_percent=50.0)
    >>> print([float(learning_rate(settings, i, 8)) for i in range(6)])
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """
    warmup = settings.warmup_percent * (total / 100)
    # The larger of the two only so that 0 is no divisor: no step lies in between.
    rising = jnp.where(number < warmup, number / jnp.maximum(warmup, 1), 1)
    factor = SCHEDULES[settings.schedule](number, warmup, total)
    return settings.learning_rate * rising * factor


def _constant(number: Any, warmup: Any, total: int) -> Any:
    return 1


def _step(number: Any, warmup: Any, total: int) -> Any:
    """A tenth from half of the steps, a hundredth from three quarters (He 2016)."""
    factor = jnp.where(number >= -(-total // 2), 0.1, 1)
    return jnp.where(number >= -(-3 * total // 4), 0.01, factor)


def _cosine(number: Any, warmup: Any, total: int) -> Any:
    """Half a cosine from the end of the warm-up down to 0 (Loshchilov 2017)."""
    return 1 - _wave((number - warmup) / (total - warmup))


def _one_cycle(number: Any, warmup: Any, total: int) -> Any:
    """From a 25th up to 1 at 30 % of the steps and down to 0 (Smith 2018)."""
    top = 0.3 * total
    up = 1 / 25 + 24 / 25 * _wave(number / top)
    return jnp.where(number < top, up, 1 - _wave((number - top) / (total - top)))


def _wave(share: Any) -> jax.Array:
    """From 0 to 1 along half a cosine."""
    return (1 - jnp.cos(np.pi * jnp.clip(share, 0, 1))) / 2


SCHEDULES: Mapping[str, Factor] = {
    'constant': _constant,
    'step': _step,
    'cosine': _cosine,
    'one_cycle': _one_cycle,
}
