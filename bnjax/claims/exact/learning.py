"""What the documents say of learning, where a small problem settles it."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

import bnjax
from bnjax.claims.exact import digits
from bnjax.claims.exact.reference import batch_norm, normalize
from bnjax.claims.finding import Finding, require


def learning_rate_of_each_axis() -> Finding:
    """Least squares with two features, the second 10 times the first."""
    rng, scale = np.random.default_rng(0), 10
    first, second = rng.standard_normal((2, 1000))
    x = np.stack([first, 0.3 * first + second], 1)
    scored = batch_norm(x.astype(np.float32))[0].astype(np.float64)
    scaled = scored * np.array([1, scale])
    rates = np.array([_best_rate(scaled, axis) for axis in (0, 1)])
    one = _steps(scaled, np.ones(2))
    each, after = _steps(scaled, rates), _steps(scored, np.ones(2))
    ratio = rates[0] / rates[1]
    return Finding(
        bool(abs(ratio / scale**2 - 1) < 0.01 and each <= 2 * after),
        f'the best rates have the ratio {ratio:.1f} = {scale}^2; steps to 1e-6 of the '
        f'error: {one} with one rate, {each} with a rate for each axis, {after} after '
        'batch norm',
    )


def _best_rate(x: np.ndarray, axis: int) -> float:
    """The rate of the one step along an axis after which the error is least."""
    feature = x[:, axis]
    error, gradient = feature.copy(), feature @ feature / len(x)

    def left(rate: float) -> float:
        return float(np.mean((error - rate * gradient * feature) ** 2))

    return optimize.minimize_scalar(left, options={'xtol': 1e-12}).x


def _steps(x: np.ndarray, rates: np.ndarray) -> int:
    """Steps of descent to 1e-6 of the error, rates times what the largest bears."""
    hessian = x.T @ x / len(x)
    root = np.sqrt(rates)
    rate = rates / np.linalg.eigvalsh(root[:, np.newaxis] * hessian * root)[-1]
    away = np.linalg.solve(np.linalg.cholesky(hessian).T, np.ones(2))
    begun, steps = away @ hessian @ away, 0
    while away @ hessian @ away > 1e-6 * begun:
        away, steps = away - rate * (hessian @ away), steps + 1
    return steps


def normalising_loses_information() -> Finding:
    """A linear probe on a trained network's pre-activations, and on their x_hat."""
    z, (_, y) = digits.trained_preactivations()[1], digits.images()
    train = len(z) - digits.TEST
    _, moments = batch_norm(z[:train].astype(np.float32))
    x_hat = normalize(z.astype(np.float32), moments).astype(np.float64)
    before, after = (_probe_accuracy(v, y, train) for v in (z, x_hat))
    back = x_hat * np.sqrt(moments.var + 1e-5) + moments.mean
    error = np.abs(back - z).max() / z.std()
    require(error < 1e-5, f'x_hat gives z back, off by {error:.0e} deviations')
    return Finding(
        bool(before - after > 0.002),
        f'test accuracy of a linear probe {before:.4f} on z, {after:.4f} on x_hat '
        f'(digits, hidden layer 2); z is had from x_hat to {error:.0e} deviations',
    )


def _probe_accuracy(z: np.ndarray, y: np.ndarray, train: int) -> float:
    """On the rest, of least squares on the first ``train`` rows, with an intercept."""
    z = np.concatenate([z, np.ones((len(z), 1))], 1)
    weights, *_ = np.linalg.lstsq(z[:train], np.eye(10)[y[:train]], rcond=None)
    return float(((z[train:] @ weights).argmax(1) == y[train:]).mean())


def vectorised_is_faster() -> Finding:
    """The backward pass of batch norm in NumPy, by loops and by arrays."""
    rng = np.random.default_rng(0)
    z, gradient = rng.standard_normal((2, 100, 50))
    arrays, loops = (f(z, gradient) for f in (_backward, _backward_by_loops))
    apart = np.abs(arrays - loops).max()
    require(apart < 1e-12, f'both give the same, apart by {apart:.0e}')
    library = jax.jit(jax.grad(lambda z: jnp.vdot(gradient, bnjax.batch_norm(z)[0])))
    apart = np.abs(arrays - library(np.float32(z))).max()
    require(apart < 1e-5, f'and so does the library, apart by {apart:.0e}')
    slow, fast = (_seconds(f, z, gradient) for f in (_backward_by_loops, _backward))
    return Finding(
        slow >= 10 * fast,
        f'backward pass of 100 samples and 50 units, NumPy: loops {slow * 1e3:.1f} ms, '
        f'arrays {fast * 1e3:.2f} ms, {slow / fast:.0f} times',
    )


def _backward(z: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    deviation = np.sqrt(z.var(0) + 1e-5)
    x_hat = (z - z.mean(0)) / deviation
    along = (gradient * x_hat).mean(0)
    return (gradient - gradient.mean(0) - x_hat * along) / deviation


def _backward_by_loops(z: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    samples, units = z.shape
    result = np.empty_like(z)
    for j in range(units):
        mean = variance = total = along = 0.0
        for i in range(samples):
            mean += z[i, j] / samples
        for i in range(samples):
            variance += (z[i, j] - mean) ** 2 / samples
        deviation = (variance + 1e-5) ** 0.5
        for i in range(samples):
            x_hat = (z[i, j] - mean) / deviation
            total += gradient[i, j] / samples
            along += gradient[i, j] * x_hat / samples
        for i in range(samples):
            x_hat = (z[i, j] - mean) / deviation
            result[i, j] = (gradient[i, j] - total - x_hat * along) / deviation
    return result


def _seconds(f: Callable[..., Any], *arguments: Any) -> float:
    """The least of five times, which what else the machine does spoils least."""
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        f(*arguments)
        times.append(time.perf_counter() - begun)
    return min(times)
