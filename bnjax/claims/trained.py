"""Networks that a study trained and kept, evaluated again with any statistics."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from bnjax import config, data
from bnjax.models import network
from bnjax.records import Record, variables_of


def images_of(record: Record) -> data.Dataset:
    """The images that it was trained and tested on."""
    names = 'name', 'preprocess', 'validation_percent', 'images'
    return _images(*(record.config[f'data.{name}'] for name in names))


@functools.cache
def _images(name: str, preprocess: str, percent: int, images: int) -> data.Dataset:
    return data.load(
        name, preprocess=preprocess, validation_percent=percent, images=images
    )


def in_training(record: Record, x: Any) -> dict[str, Any]:
    """Its network in training form on groups, each normalised by its own moments.

    Args:
      record: of a trial with ``keep_state``.
      x: images (groups, n, height, width, channels).

    Returns:
      ``logits`` (groups, n, classes), and the collections ``activations`` and
      ``moments`` of Flax, with a leading axis of groups.
    """
    return _in_training(*_network(record), x)


def statistics(moments: Any, factor: float = 1.0) -> dict[str, Any]:
    """The means over groups of ``in_training``'s moments, as running statistics.

    Args:
      moments: of a network whose norms stand beside each other, as in mlp and cnn.
      factor: of the variances: n / (n - 1) for groups of n makes them unbiased.
    """
    layers = {name: layer['batch'][0] for name, layer in moments.items()}
    return {
        name: {'mean': of.mean.mean(0), 'var': factor * of.var.mean(0)}
        for name, of in layers.items()
    }


def accuracy_of(logits: Any, y: Any) -> float:
    """The share of labels (...,) that logits (..., classes) answer."""
    return float((logits.argmax(-1) == y).mean())


def tested(record: Record, x: Any, by: Any = None) -> jax.Array:
    """Logits of images (n, ...) by its running statistics, or by other ones."""
    settings, variables = _network(record)
    variables = variables if by is None else variables | {'batch_stats': by}
    return _tested(settings, variables, x)


def _network(record: Record) -> tuple[config.Model, dict[str, Any]]:
    return config.build(record.config).model, variables_of(record)


@functools.partial(jax.jit, static_argnums=0)
def _in_training(settings: config.Model, variables: Any, x: jax.Array) -> Any:
    net = network(settings, classes=variables['params']['output']['bias'].size)
    collected = ['batch_stats', 'moments', 'activations']

    def apply(x: jax.Array) -> dict[str, Any]:
        logits, seen = net.apply(variables, x, train=True, mutable=collected)
        return {**seen, 'logits': logits}

    return jax.vmap(apply)(jnp.asarray(x))


@functools.partial(jax.jit, static_argnums=0)
def _tested(settings: config.Model, variables: Any, x: jax.Array) -> jax.Array:
    net = network(settings, classes=variables['params']['output']['bias'].size)
    logits: Any = net.apply(variables, x, train=False)
    return logits
