"""What batch norm takes from the layer before, and what scale and shift give back."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import bnjax
import bnjax.linen
from bnjax.claims.exact.reference import (
    NO_EPSILON,
    batch_norm,
    in_float64,
    largest,
    normalize,
)
from bnjax.claims.finding import Finding, require

EPSILON = 1e-5


@in_float64
def identity_is_reached() -> Finding:
    """Scale sqrt(variance + epsilon) and shift mean give the input back."""
    x, other = _two_batches()
    scale, shift = np.sqrt(x.var(0) + EPSILON), x.mean(0)
    error = largest(batch_norm(x, scale, shift, epsilon=EPSILON)[0] - x)
    next_batch = largest(batch_norm(other, scale, shift, epsilon=EPSILON)[0] - other)
    require(next_batch > 1e-2, f'another batch is changed, found {next_batch:.1g}')
    return Finding(
        error <= 1e-12,
        f'differs from the input by {error:.1g}; the next batch, with the same scale '
        f'and shift, by {next_batch:.2f}',
    )


@in_float64
def identity_by_the_square() -> Finding:
    """Both roots of scale^2 = variance + epsilon, with shift = mean, on two batches."""
    x, other = _two_batches()
    root, shift = np.sqrt(x.var(0) + EPSILON), x.mean(0)

    def changed(scale: np.ndarray, x: np.ndarray) -> np.ndarray:
        return batch_norm(x, scale, shift, epsilon=EPSILON)[0] - x

    kept = largest(changed(root, x))
    require(kept <= 1e-12, f'the positive root gives x back, off by {kept:.1g}')
    error = largest(changed(-root, x) - 2 * (shift - x))
    require(error <= 1e-12, f'the negative root gives 2 mu - x, off by {error:.1g}')
    mirrored, next_batch = largest(changed(-root, x)), largest(changed(root, other))
    return Finding(
        max(mirrored, next_batch) <= 1e-12,
        f'the positive root gives the input back, the negative one reflects it about '
        f'its mean, off by {mirrored:.1f}; the next batch is off by {next_batch:.1f}, '
        f'and without epsilon the first by {largest(changed(x.std(0), x)):.1g}',
    )


def _two_batches() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    sd, mean = rng.uniform(0.5, 2, 5), rng.normal(size=5)
    first, second = sd * rng.normal(size=(2, 32, 5)) + mean
    return first, second


@in_float64
def degrees_of_freedom() -> Finding:
    """Rank of what one unit of n inputs can do to a batch, at a random point."""
    rng = np.random.default_rng(0)
    n, x = 7, rng.normal(size=(40, 7))
    point = rng.normal(size=n), *rng.normal(size=3)

    def unit(w: Any, b: Any, scale: Any, shift: Any) -> jax.Array:
        z = (x @ w + b)[:, None]
        # Too small an epsilon for a rank to see.
        y, _ = bnjax.batch_norm(z, scale[None], shift[None], epsilon=1e-12)
        return y[:, 0]

    jacobians = jax.jit(jax.jacobian(unit, range(4)))(*point)
    w, b, scale, shift = (np.reshape(j, (40, -1)) for j in jacobians)
    plain, normal, affine, everything = (
        int(np.linalg.matrix_rank(np.concatenate(columns, 1), rtol=1e-7))
        for columns in (
            (x, np.ones((40, 1))),
            (w, b),
            (w, scale, shift),
            (w, b, scale, shift),
        )
    )
    require(plain == n + 1, f'a layer has rank n + 1 = 8, found {plain}')
    require(affine == plain, f'scale and shift restore the rank, found {affine}')
    require(everything == plain, f'a bias beside them adds none, found {everything}')
    return Finding(
        plain - normal == 1,
        f'rank with {n} inputs: {plain} of (w, b), {normal} after normalisation, '
        f'{affine} of (w, gamma, beta): {plain - normal} are lost, then restored',
    )


@in_float64
def bias_is_redundant() -> Finding:
    """A bias before batch norm: the output with and without it, and its gradient."""
    u, w, b = _layer()
    forward = largest(batch_norm(u @ w + b)[0] - batch_norm(u @ w)[0])
    gradients, shares = _gradients(), []
    for dtype in ('float64', 'float32'):
        _, db, dz = gradients(*(v.astype(dtype) for v in (u, w, b)), EPSILON)
        shares.append(largest(db) / (len(u) * largest(dz)))
    _, running = batch_norm(u @ w)
    stale = largest(normalize(u @ w + b, running) - normalize(u @ w, running))
    require(stale > 1e-3, f'with running statistics it counts, changed by {stale:.1g}')
    return Finding(
        forward <= 1e-12 and shares[0] <= 1e-14 and shares[1] <= 1e-7,
        f'output changed by {forward:.1g}; its gradient is {shares[0]:.1g} (float64), '
        f'{shares[1]:.1g} (float32) of batch size times the largest; by the running '
        f'statistics of before, output changed by {stale:.1f}',
    )


@in_float64
def bias_column() -> Finding:
    """A column of ones before the inputs, as the MATLAB network has it."""
    u, w, b = _layer()
    with_ones = np.insert(u, 0, 1, axis=1), np.vstack([b, w])
    dw, _, dz = _gradients()(*with_ones, 0 * b, EPSILON)
    size = len(u) * largest(dz)
    column, others = largest(dw[0]) / size, largest(dw[1:]) / size
    require(others > 1e-3, f'the other weights have a gradient, found {others:.1g}')
    return Finding(
        column > 1e-14,
        f'gradient of the weights of the ones {column:.1g}, of the others '
        f'{others:.2f}, of batch size times the largest',
    )


@in_float64
def weights_times_a_factor() -> Finding:
    """Output and gradient where all weights are k times as large, epsilon left out."""
    u, w, b = _layer()
    y, one = batch_norm(u @ w, epsilon=NO_EPSILON)
    gradients, changes = _gradients(), []
    gradient, *_ = gradients(u, w, 0 * b, NO_EPSILON)
    for k in (1e-3, 0.1, 2, 10, 1e3):
        scaled, batch = batch_norm(u @ (k * w), epsilon=NO_EPSILON)
        changes.append(largest(scaled - y))
        times = np.stack([batch.mean / one.mean, np.sqrt(batch.var / one.var)]) / k
        require(largest(times - 1) < 1e-9, f'mean and deviation times {k}')
        divided, *_ = gradients(u, k * w, 0 * b, NO_EPSILON)
        error = largest(k * divided / gradient - 1)
        require(error < 1e-6, f'gradient divided by {k}, off by {error:.1g}')
    usual = largest(batch_norm(u @ w / 1000)[0] - y)
    return Finding(
        max(changes) <= 1e-5,
        f'output changed by {max(changes):.1g} for k from 0.001 to 1000 while the '
        f'gradient is divided by k; with epsilon 1e-5, by {usual:.1f} at k = 0.001',
    )


@in_float64
def doubled_weights() -> Finding:
    """Mean and variance of what doubled weights give."""
    u, w, _ = _layer()
    factors = (1e-3, 0.1, 2, 10, 1e3)
    one, *scaled = (batch_norm(u @ (k * w))[1] for k in (1, *factors))
    means, variances = {}, {}
    for k, batch in zip(factors, scaled, strict=True):
        means[k], variances[k] = batch.mean / one.mean, batch.var / one.var
        require(largest(means[k] / k - 1) < 1e-9, f'the mean is multiplied by {k}')
    doubles = largest(variances[2] - 2) < 1e-9
    square = max(largest(ratio / k**2 - 1) for k, ratio in variances.items())
    require(doubles or square < 1e-9, f'the variance times k^2, off by {square:.1g}')
    return Finding(
        doubles,
        f'the mean is multiplied by {means[2].mean():.2f}, the variance by '
        f'{variances[2].mean():.2f}; by k^2 for k from 0.001 to 1000, to {square:.1g}',
    )


def _layer() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs (32, 6), weights (6, 4), biases (4,)."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(32, 6)), rng.normal(size=(6, 4)), rng.normal(size=4)


def _gradients() -> Callable[..., list[jax.Array]]:
    """Compiled: of a loss upon batch norm of ``z = u w + b``, by w, b and z."""

    def loss(w: Any, b: Any, dz: Any, u: Any, epsilon: Any) -> jax.Array:
        y, _ = bnjax.batch_norm(u @ w + b + dz, epsilon=epsilon)
        towards = jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
        return (towards * jnp.tanh(y)).sum()

    def by_each(u: Any, w: Any, b: Any, epsilon: Any) -> list[jax.Array]:
        dz = jnp.zeros((len(u), len(b)), u.dtype)
        return list(jax.grad(loss, (0, 1, 2))(w, b, dz, u, epsilon))

    return jax.jit(by_each)


class _Network(nn.Module):
    """Eight units with batch norm and relu, and one output."""

    momentum: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        norm = bnjax.linen.BatchNorm(use_running_average=False, momentum=self.momentum)
        return nn.Dense(1)(nn.relu(norm(nn.Dense(8)(x))))


def moving_statistics_as_noise() -> Finding:
    """A hundred steps with two momenta of the running statistics: what differs."""
    # Of a new function, for `jit` would remember a batch norm it has seen.
    train = jax.jit(lambda momentum: _trained(momentum))
    initial, slow, slow_statistics = train(0.99)
    _, fast, fast_statistics = train(0.5)
    learned = _difference(initial, slow)
    require(learned > 0.1, f'a hundred steps move the weights, by {learned:.1g}')
    statistics = _difference(slow_statistics, fast_statistics)
    require(statistics > 1e-3, f'running statistics differ, by {statistics:.1g}')
    weights = _difference(slow, fast)
    return Finding(
        weights > 0,
        f'100 steps with momentum 0.99 and 0.5: weights, moved by {learned:.1f}, '
        f'differ by {weights:g}, running statistics by {statistics:.1f}',
    )


def _difference(one: Any, other: Any) -> float:
    """The largest between two trees."""
    return max(jax.tree.leaves(jax.tree.map(lambda a, b: largest(a - b), one, other)))


def _trained(momentum: jax.Array) -> tuple[Any, Any, Any]:
    """Parameters before and after a hundred steps, and running statistics."""
    rng = np.random.default_rng(0)
    batches = rng.normal(1, 2, size=(100, 16, 4)).astype('f4')
    network = _Network(momentum)
    variables = network.init(jax.random.key(0), batches[0])

    def loss(params: Any, statistics: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        y, new = network.apply(
            {'params': params, 'batch_stats': statistics}, x, mutable=['batch_stats']
        )
        return ((y[:, 0] - jnp.sin(x).sum(-1)) ** 2).mean(), new['batch_stats']

    def step(state: Any, x: Any) -> tuple[Any, None]:
        gradient, statistics = jax.grad(loss, has_aux=True)(*state, x)
        params = jax.tree.map(lambda p, g: p - 0.05 * g, state[0], gradient)
        return (params, statistics), None

    initial = variables['params']
    begun = initial, variables['batch_stats']
    (params, statistics), _ = jax.lax.scan(step, begun, batches)
    return initial, params, statistics
