"""Batch norm of one or a few samples, and what makes their variance unbiased."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import bnjax
from bnjax.claims.exact.reference import (
    batch_norm,
    in_float64,
    largest,
    standardised,
)
from bnjax.claims.finding import Finding, require

EPSILON = 1e-5
BATCHES = 100_000


@in_float64
def batch_of_one() -> Finding:
    """Layers with one sample on a device: dense, convolutional, synced."""
    _require_that_dense_layers_fail()
    maps = np.random.default_rng(0).normal(1, 2, (1, 6, 5, 3))
    y, _ = batch_norm(maps, epsilon=EPSILON)
    instance = largest(y - standardised(maps, (1, 2), EPSILON))
    require(instance <= 1e-6, f'one image: instance norm, off by {instance:.1g}')
    synced = _error_of_synced_gradients(devices=8)
    require(synced <= 1e-5, f'synced devices are as one, off by {synced:.1g}')
    deviation = float(y.std((0, 1, 2)).min())
    return Finding(
        deviation < 1e-6,
        'a dense layer puts out beta and its weights have no gradient; a convolution '
        f'has instance norm, to {instance:.1g}, with output of deviation '
        f'{deviation:.2f}; synced devices have the gradients of one, to {synced:.1g}',
    )


def _require_that_dense_layers_fail() -> None:
    rng = np.random.default_rng(1)
    w, scale, shift = rng.normal(size=(6, 4)), rng.normal(size=4), rng.normal(size=4)
    one, two = rng.normal(size=(1, 6)), rng.normal(size=(2, 6))
    y, _ = batch_norm(one @ w, scale, shift, epsilon=EPSILON)
    require(largest(y - shift) == 0, f'one sample becomes beta, off by {y - shift}')
    gradient = largest(jax.jit(jax.grad(_loss))(w, one))
    require(gradient == 0, f'no gradient by the weights, found {gradient:.1g}')

    y, _ = batch_norm(two @ w, epsilon=EPSILON)
    s = np.abs(np.diff(two @ w, axis=0)) / 2
    error = largest(np.abs(y) - s / np.sqrt(s**2 + EPSILON))
    require(error <= 1e-6, f'two samples become s / sqrt(s^2 + epsilon), {error:.1g}')


def _error_of_synced_gradients(devices: int) -> float:
    """Of devices with one sample each that share statistics, to one with them all."""
    rng = np.random.default_rng(2)
    w, x = rng.normal(size=(6, 4)), rng.normal(size=(devices, 1, 6))

    def on_each(x: Any) -> jax.Array:
        return jax.grad(_loss)(w, x, axis_name='device')

    each = jax.jit(jax.vmap(on_each, axis_name='device'))(x)
    one = np.asarray(jax.jit(jax.grad(_loss))(w, x[:, 0]))
    return largest(each.sum(0) - one) / largest(one)


def _loss(w: Any, x: Any, axis_name: str | None = None) -> jax.Array:
    y, _ = bnjax.batch_norm(x @ w, epsilon=EPSILON, axis_name=axis_name)
    return jnp.sin(y + jnp.arange(4.0)).sum()


def unbiased_variance() -> Finding:
    """Expected variance of a batch, as it is and times m / (m - 1); 1 is right."""
    biased, unbiased = (
        {m: float(_variances(m, corrected).mean()) for m in (2, 8)}
        for corrected in (False, True)
    )
    for m, found in biased.items():
        right = (m - 1) / m
        require(
            abs(found - right) < 0.01, f'E[v] = {right} at m = {m}, not {found:.3f}'
        )
    return Finding(
        all(abs(found - 1) < 0.01 for found in unbiased.values()),
        f'of 1, times m / (m - 1): {unbiased[2]:.3f} with batches of 2, '
        f'{unbiased[8]:.3f} of 8; without: {biased[2]:.3f}, {biased[8]:.3f}',
    )


def division_by_batches() -> Finding:
    """Expected variance of batches of two, their sum divided by 300 - 1, not by 300."""
    found = float(_variances(2, corrected=False).mean()) * 300 / 299
    right = float(_variances(2, corrected=True).mean())
    require(abs(right - 1) < 0.01, f'm / (m - 1) makes it unbiased, found {right:.3f}')
    return Finding(
        abs(found - 1) < 0.01,
        f'of a variance of 1, {found:.3f} with batches of 2; {right:.3f} times '
        'm / (m - 1)',
    )


def unbiased_deviation() -> Finding:
    """Expected root of the unbiased variance, as a share of the deviation."""
    shares = {}
    for m in (2, 4, 8, 60):
        shares[m] = float(np.sqrt(_variances(m, corrected=True)).mean())
        log = math.lgamma(m / 2) - math.lgamma((m - 1) / 2)
        right = math.sqrt(2 / (m - 1)) * math.exp(log)
        require(
            abs(shares[m] - right) < 0.005,
            f'the deviation of {m} normals is {right:.3f}, found {shares[m]:.3f}',
        )
    found = ', '.join(f'{share:.3f} (m = {m})' for m, share in shares.items())
    return Finding(
        all(abs(share - 1) < 0.01 for share in shares.values()),
        f'expected deviation {found} of the true one',
    )


def _variances(m: int, corrected: bool) -> np.ndarray:
    """Running variances that have seen one batch of ``m`` standard normals."""
    x = np.random.default_rng(m).normal(size=(m, BATCHES)).astype('f4')
    # A batch is a feature.
    nothing = bnjax.Moments(*np.zeros((3, BATCHES), 'f4'))
    batch = jax.jit(bnjax.moments)(x)
    running = bnjax.update(nothing, batch, momentum=None, unbiased=corrected)
    return np.asarray(running.var, 'f8')
