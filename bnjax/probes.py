"""What is measured inside a network, by layer.

A probe is a function of a ``Sample``, the state of a network on one batch, that
gives a number for each layer. To add one, write the function,
list it below and among the choices of ``probes.names``.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Sample(NamedTuple):
    """A network on one batch.

    Attributes:
      params, gradients: by module, then by parameter, as Flax has them.
      activations: by hidden layer, ``(n, ..., units)`` after the nonlinearity.
    """

    params: Mapping[str, Mapping[str, jax.Array]]
    gradients: Mapping[str, Mapping[str, jax.Array]]
    activations: Mapping[str, jax.Array]


def gradient_norm(sample: Sample) -> dict[str, jax.Array]:
    """Frobenius norm of the gradient of each layer's weights."""
    return {
        layer: jnp.linalg.norm(gradient['kernel'].ravel())
        for layer, gradient in sample.gradients.items()
        if 'kernel' in gradient
    }


def activation_mean(sample: Sample) -> dict[str, jax.Array]:
    """Mean of each hidden layer's activations."""
    return {layer: a.mean() for layer, a in sample.activations.items()}


def activation_std(sample: Sample) -> dict[str, jax.Array]:
    """Standard deviation of each hidden layer's activations."""
    return {layer: a.std() for layer, a in sample.activations.items()}


def zero_fraction(sample: Sample) -> dict[str, jax.Array]:
    """Share of each hidden layer's activations that are exactly 0."""
    return {layer: (a == 0).mean() for layer, a in sample.activations.items()}


PROBES: Mapping[str, Callable[[Sample], dict[str, jax.Array]]] = {
    probe.__name__: probe
    for probe in (gradient_norm, activation_mean, activation_std, zero_fraction)
}


def measure(names: tuple[str, ...], sample: Sample) -> dict[str, dict[str, jax.Array]]:
    """The named probes of one sample: probe, then layer, to a number."""
    return {name: PROBES[name](sample) for name in names}


def in_depth_order(layers: Mapping[str, object]) -> list[str]:
    """Layer names with their numbers read as numbers: hidden_2 before hidden_10."""

    def parts(name: str) -> list[tuple[int, str]]:
        return [
            (int(p), '') if p.isdigit() else (0, p) for p in re.split(r'(\d+)', name)
        ]

    return sorted(layers, key=parts)
