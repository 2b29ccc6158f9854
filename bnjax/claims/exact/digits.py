"""Handwritten digits, and a small network with batch norm that has learned them."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import bnjax
from bnjax import data
from bnjax.claims.finding import require

TEST = 359  # of the images, the last
_WIDTH = 100


def images() -> tuple[np.ndarray, np.ndarray]:
    """All 1797 images (1797, 64) in [0, 1] and their labels, by ``bnjax.data``.

    The last ``TEST`` are its test split.
    """
    train, _, test, _ = data.load('digits', validation_percent=0)
    x = np.concatenate([train.x, test.x]).reshape(-1, 64)
    return x, np.concatenate([train.y, test.y])


def weights(rng: np.random.Generator, *sizes: int) -> list[np.ndarray]:
    """Weights between layers of these sizes, of variance 2 / inputs, float32."""
    # By NumPy, for JAX's random numbers would take longer to compile than the rest.
    pairs = zip(sizes, sizes[1:], strict=False)
    return [
        np.float32(np.sqrt(2 / a)) * rng.standard_normal((a, b), np.float32)
        for a, b in pairs
    ]


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean over images of logits (n, 10)."""
    scores = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(scores, labels[:, None], 1).mean()


@functools.cache
def trained_preactivations() -> tuple[np.ndarray, np.ndarray]:
    """Pre-activations (1797, 100) of both hidden layers, before batch norm.

    The network has learned from the training images, with batch norm before relu.
    """
    x, y = images()
    rng = np.random.default_rng(0)
    begun = weights(rng, 64, _WIDTH, _WIDTH, 10)
    rows = rng.integers(0, len(x) - TEST, (300, 100))
    *hidden, logits = jax.tree.map(np.asarray, _train(x, y, begun, rows))
    accuracy = (logits.argmax(1) == y).mean()
    require(accuracy > 0.95, f'the network learns the digits, found {accuracy:.3f}')
    first, second = (z.astype(np.float64) for z in hidden)
    return first, second


@jax.jit
def _train(
    x: jax.Array, y: jax.Array, weights: list[jax.Array], rows: jax.Array
) -> tuple[jax.Array, ...]:
    """A step of rate 0.1 for each of ``rows``; then layers 1, 2, and logits of all."""
    affine = [(jnp.ones(_WIDTH), jnp.zeros(_WIDTH))] * 2

    def layers(parameters: Any, x: jax.Array) -> tuple[jax.Array, ...]:
        (first, second, last), (one, two) = parameters
        z_1 = x @ first
        z_2 = jax.nn.relu(bnjax.batch_norm(z_1, *one)[0]) @ second
        return z_1, z_2, jax.nn.relu(bnjax.batch_norm(z_2, *two)[0]) @ last

    def loss(parameters: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return cross_entropy(layers(parameters, x)[-1], y)

    def step(parameters: Any, rows: jax.Array) -> tuple[Any, None]:
        gradient = jax.grad(loss)(parameters, x[rows], y[rows])
        return jax.tree.map(lambda p, g: p - 0.1 * g, parameters, gradient), None

    trained, _ = jax.lax.scan(step, (weights, affine), rows)
    return layers(trained, x)
