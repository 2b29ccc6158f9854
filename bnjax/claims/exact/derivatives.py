"""Gradients of batch norm: as published, by differences, and as in MATLAB code."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

import bnjax
from bnjax.claims.exact.reference import batch_norm, in_float64, largest, standardised
from bnjax.claims.finding import Finding, require

EPSILON = 1e-3


class Gradients(NamedTuple):
    """Of a loss, by what goes into batch norm."""

    x: np.ndarray
    scale: np.ndarray
    bias: np.ndarray


@in_float64
def backward_formulas() -> Finding:
    """The published formulas beside finite differences and the library."""
    x, scale, bias, d = _problem()
    published, library = _published(x, scale, d), _by_library(x, scale, bias, d)
    differences = _by_differences(x, scale, bias, d)
    errors = [_error(published, by) for by in (differences, library)]

    g, x_hat = scale * d, standardised(x, epsilon=EPSILON)
    residual = g - g.mean(0) - x_hat * (g * x_hat).mean(0)
    sigma = np.sqrt(x.var(0) + EPSILON)
    identity = max(largest(sigma * by.x - residual) for by in (published, library))
    return Finding(
        errors[0] <= 1e-7 and errors[1] <= 1e-12 and identity <= 1e-12,
        f'relative difference from finite differences {errors[0]:.1g}, from the '
        f'library {errors[1]:.1g}; sigma dL/dx = g - mean(g) - x_hat mean(g x_hat) to '
        f'{identity:.1g}',
    )


@in_float64
def matlab_backward() -> Finding:
    """The MATLAB backward pass, with its own names: three gradients, one wrong."""
    x, scale, bias, d = _problem()
    found, right = _matlab(x, scale, bias, d), _by_library(x, scale, bias, d)
    # It averages over the batch where a gradient of the sum would add up.
    right = right._replace(scale=right.scale / len(x), bias=right.bias / len(x))
    for name in ('x', 'bias'):
        error = _relative(getattr(found, name), getattr(right, name))
        require(error <= 1e-10, f'the gradient by {name} is right, off by {error:.1g}')
    mixed = scale * right.scale + bias * right.bias
    identity = largest(found.scale - mixed)
    require(identity <= 1e-10, f'd_gamma is gamma true + beta d_beta, {identity:.1g}')
    error = _relative(found.scale, right.scale)
    return Finding(
        error <= 1e-10,
        f'by x and beta right; by gamma off by {error:.0%}: it is gamma times the true '
        f'one + beta d_beta, to {identity:.1g}',
    )


@in_float64
def scale_moves_no_zero() -> Finding:
    """The share of relu's zeros that another gamma moves, with and without a beta."""
    x = np.random.default_rng(0).normal(size=(10_000, 1))
    moved = {}
    for beta in (0.0, 0.5):
        zero = [
            batch_norm(x, np.full(1, gamma), np.full(1, beta))[0] <= 0
            for gamma in (0.5, 2.0)
        ]
        moved[beta] = float((zero[0] != zero[1]).mean())
    require(moved[0.0] == 0, f'with beta = 0 no zero moves, found {moved[0.0]:.3f}')
    return Finding(
        moved[0.5] <= 0.05,
        f'gamma from 0.5 to 2 moves {moved[0.5]:.1%} of the zeros with beta = 0.5, '
        'none with beta = 0',
    )


def _problem() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, scale, bias, and the gradient that comes from above."""
    rng = np.random.default_rng(0)
    x, d = rng.normal(size=(2, 12, 4)) * rng.uniform(0.5, 2, 4) + 1
    scale, bias = rng.normal(size=(2, 4))
    return x, scale, bias, d


def _published(x: np.ndarray, scale: np.ndarray, d: np.ndarray) -> Gradients:
    """Ioffe & Szegedy 2015, section 3, formula by formula."""
    m, centred, variance = len(x), x - x.mean(0), x.var(0) + EPSILON
    dx_hat = d * scale
    dvariance = (dx_hat * centred).sum(0) * -0.5 * variance**-1.5
    dmean = -dx_hat.sum(0) / np.sqrt(variance) - 2 * dvariance * centred.mean(0)
    dx = dx_hat / np.sqrt(variance) + dvariance * 2 * centred / m + dmean / m
    return Gradients(dx, (d * centred / np.sqrt(variance)).sum(0), d.sum(0))


def _matlab(
    a_pre: np.ndarray, gamma: np.ndarray, beta: np.ndarray, d: np.ndarray
) -> Gradients:
    """The document's lines in order; repmat and bsxfun are broadcasting."""
    m = len(a_pre)
    mu = a_pre.mean(0)
    sigma2 = ((a_pre - mu) ** 2).mean(0)
    norm_factor = gamma / np.sqrt(sigma2 + EPSILON)
    a_hat = a_pre * norm_factor + (beta - norm_factor * mu)

    d_xhat = d * gamma
    x_mu = a_pre - mu
    inv_sqrt_sigma = 1 / np.sqrt(sigma2 + EPSILON)
    d_sigma2 = -0.5 * (d_xhat * x_mu).sum(0) * inv_sqrt_sigma**3
    d_mu = d_xhat * inv_sqrt_sigma
    d_mu = -1 * d_mu.sum(0) - 2 * d_sigma2 * x_mu.mean(0)
    d_gamma = (d * a_hat).mean(0)
    d_beta = d.mean(0)
    di1 = d_xhat * inv_sqrt_sigma
    di2 = 2 / m * d_sigma2 * x_mu
    return Gradients(di1 + di2 + 1 / m * d_mu, d_gamma, d_beta)


def _by_library(
    x: np.ndarray, scale: np.ndarray, bias: np.ndarray, d: np.ndarray
) -> Gradients:
    gradient = jax.jit(jax.grad(_loss(d), (0, 1, 2)))
    return Gradients(*map(np.asarray, gradient(x, scale, bias)))


def _by_differences(
    x: np.ndarray, scale: np.ndarray, bias: np.ndarray, d: np.ndarray
) -> Gradients:
    """Central differences of the library's own forward pass."""
    loss, step, point = jax.jit(_loss(d)), 1e-5, (x, scale, bias)

    def by(argument: int) -> np.ndarray:
        gradient = np.zeros_like(point[argument])
        for at in np.ndindex(gradient.shape):
            ends = []
            for sign in (1, -1):
                moved = [value.copy() for value in point]
                moved[argument][at] += sign * step
                ends.append(float(loss(*moved)))
            gradient[at] = (ends[0] - ends[1]) / (2 * step)
        return gradient

    return Gradients(*map(by, range(3)))


def _loss(d: np.ndarray) -> Callable[..., jax.Array]:
    def loss(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
        return (d * bnjax.batch_norm(x, scale, bias, epsilon=EPSILON)[0]).sum()

    return loss


def _error(found: Gradients, reference: Gradients) -> float:
    return max(map(_relative, found, reference))


def _relative(found: np.ndarray, reference: np.ndarray) -> float:
    """The largest difference, of the largest value."""
    return largest(found - reference) / largest(reference)
