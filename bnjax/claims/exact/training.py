"""Small networks trained by hand on digits, for what claims say of training."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import bnjax
from bnjax import stats
from bnjax.claims.exact import digits
from bnjax.claims.finding import Finding, require

_TRAIN = 1297  # images of which a network with unequal layers learns
_BUDGET = 400  # its steps
_CHECKED = 5  # steps from one look at its accuracy to the next


class Stopped(NamedTuple):
    """What became of a layer whose batch statistics were taken as constants.

    Attributes:
      cosine: of its first gradient to the true one.
      bias: the norm of its bias after 2000 steps.
      loss: after them.

    They are numbers, or arrays of one shape.
    """

    cosine: Any
    bias: Any
    loss: Any


def gradient_without_statistics() -> Finding:
    """A layer trained with the mean and variance of its batch as constants."""
    x, labels = (v[:200] for v in digits.images())
    # Whether the derivative passes through the mean, and through the variance.
    passes = {
        'neither': (1.0, 1.0),
        'mean': (0.0, 1.0),
        'variance': (1.0, 0.0),
        'both': (0.0, 0.0),
    }
    w, out = digits.weights(np.random.default_rng(0), 64, 20, 10)
    train = jax.jit(jax.vmap(_stopped, (None, None, None, None, 0, 0)))
    columns = train(x, labels, w, out, *np.array(list(passes.values()), np.float32).T)
    rows = zip(*(np.asarray(column) for column in columns), strict=True)
    found = dict(zip(passes, map(Stopped._make, rows), strict=True))
    full = found.pop('neither')
    require(full.bias < 1e-3, f'by the full derivative b stays, |b| = {full.bias:.0e}')
    require(full.cosine > 0.9999, f"it is batch norm's, cosine {full.cosine:.4f}")
    said = (
        f'{name}: cosine {v.cosine:.2f}, |b| {v.bias:.1g}, loss {v.loss:.2f}'
        for name, v in found.items()
    )
    wrong = all(v.cosine < 0.99 and v.loss > full.loss for v in found.values())
    grows = all(found[name].bias > 1 for name in ('mean', 'both'))
    return Finding(
        bool(wrong and grows),
        'constant in the derivative (cosine to the true one, after 2000 steps): '
        f'{"; ".join(said)}; none: |b| {full.bias:.0e}, loss {full.loss:.2f}',
    )


def _stopped(
    x: jax.Array,
    labels: jax.Array,
    w: jax.Array,
    out: jax.Array,
    mean_passes: jax.Array,
    variance_passes: jax.Array,
) -> Stopped:
    """Trains w and a bias below a fixed output; a factor of 0 stops a derivative."""

    def through(value: jax.Array, factor: jax.Array) -> jax.Array:
        constant = jax.lax.stop_gradient(value)
        return constant + factor * (value - constant)

    def normalised(z: jax.Array) -> jax.Array:
        mean, var, count = bnjax.moments(z)
        mean, var = through(mean, mean_passes), through(var, variance_passes)
        return bnjax.normalize(z, bnjax.Moments(mean, var, count))

    def loss(parameters: Any, layer: Callable[[jax.Array], jax.Array]) -> jax.Array:
        w, b = parameters
        return digits.cross_entropy(jax.nn.relu(layer(x @ w + b)) @ out, labels)

    def step(parameters: Any, _: None) -> Any:
        gradient = jax.grad(loss)(parameters, normalised)
        return jax.tree.map(jnp.subtract, parameters, gradient), None

    begun = (w, jnp.zeros(len(out)))
    taken = jax.grad(loss)(begun, normalised)
    true = jax.grad(loss)(begun, lambda z: bnjax.batch_norm(z)[0])
    cosine = optax.losses.cosine_similarity(_flat(taken), _flat(true))
    ended, _ = jax.lax.scan(step, begun, None, 2000)
    return Stopped(cosine, jnp.linalg.norm(ended[1]), loss(ended, normalised))


def _flat(tree: Any) -> jax.Array:
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])


def scale_and_shift_recover() -> Finding:
    """A student with batch norm, fitted by scale and shift to a teacher without."""
    x = digits.images()[0][:500]
    rng = np.random.default_rng(0)
    teachers = _stacked([digits.weights(rng, 64, 50, 10) for _ in range(6)])
    shares = []
    for steps in (500, 2000):
        fit = jax.jit(jax.vmap(functools.partial(_fitted, steps), (None, 0, 0)))
        ratio, left = jax.tree.map(np.asarray, fit(x, *teachers))
        shares.append(stats.interval((np.abs(ratio - 1) < 0.1).mean(1)))
    require(left.max() < 0.02, f'the student fits its teacher, left {left.max():.3f}')
    early, share = shares
    rising = share.mean - early.mean > 0.02
    return Finding(
        True if share.mean >= 0.9 else None if rising else False,
        f'gamma within 10 % of sigma in {early.mean:.0%} of 50 relu units after 500 '
        f'steps, {share.mean:.0%} [{share.low:.0%}, {share.high:.0%}] after 2000, '
        f'{share.n} networks on digits, although {1 - left.max():.1%} or more of the '
        'variance of the output is recovered',
    )


def _fitted(
    steps: int, x: jax.Array, w: jax.Array, out: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """gamma / sigma of each unit, and the share of the teacher's variance left."""
    rule = optax.adam(optax.cosine_decay_schedule(0.03, steps))
    z = x @ w
    taught = jax.nn.relu(z) @ out

    def loss(affine: Any) -> jax.Array:
        y, _ = bnjax.batch_norm(z, *affine)
        return ((jax.nn.relu(y) @ out - taught) ** 2).mean()

    def step(state: Any, _: None) -> Any:
        affine, memory = state
        updates, memory = rule.update(jax.grad(loss)(affine), memory)
        return (optax.apply_updates(affine, updates), memory), None

    affine = (jnp.ones(len(out)), jnp.zeros(len(out)))
    (affine, _), _ = jax.lax.scan(step, (affine, rule.init(affine)), None, steps)
    return affine[0] / z.std(0), loss(affine) / taught.var()


def unequal_layers() -> Finding:
    """Steps to 90 % of a relu network by how its weights are shared out over layers."""
    rng = np.random.default_rng(1)  # not those that told how many it takes
    networks = [digits.weights(rng, 64, *[32] * 5, 10) for _ in range(40)]
    even, uneven = _stacked(networks), _stacked([_uneven(rng, w) for w in networks])
    rows = rng.integers(0, _TRAIN, (len(networks), _BUDGET // _CHECKED, _CHECKED, 50))
    train = jax.vmap(_steps_to_target, (None, None, None, None, 0))
    train = jax.jit(jax.vmap(train, (None, None, 0, 0, None)))
    rates = np.array([0.03, 0.1, 0.3], np.float32)
    even, uneven = (
        np.log(train(*digits.images(), w, rows, rates)) for w in (even, uneven)
    )  # (networks, rates)
    require(even.min(1).max() < np.log(_BUDGET), 'every equal network learns')
    fastest, slowed = (logs[:, logs.mean(0).argmin()] for logs in (even, uneven))
    mean, low, high, n = stats.interval(slowed - fastest)
    return Finding(
        bool(low > np.log(1.5)),
        'steps to 90 % of digits, weights of layers times 1/4 to 4 over equal ones, '
        f'each at its best rate: {np.exp(mean):.2f} times [{np.exp(low):.2f}, '
        f'{np.exp(high):.2f}], {n} networks of 5 relu layers',
    )


def _stacked(networks: list[list[np.ndarray]]) -> list[np.ndarray]:
    """Layer by layer, the networks on a leading axis."""
    return [np.stack(layer) for layer in zip(*networks, strict=True)]


def _uneven(rng: np.random.Generator, network: list[np.ndarray]) -> list[np.ndarray]:
    """The same function: layers times 1/4 to 4 (log-uniform), of product 1."""
    logs = rng.uniform(-np.log(4), np.log(4), len(network))
    factors = np.exp(logs - logs.mean()).astype(np.float32)
    return [factor * w for factor, w in zip(factors, network, strict=True)]


def _steps_to_target(
    x: jax.Array,
    labels: jax.Array,
    weights: list[jax.Array],
    rows: jax.Array,
    rate: jax.Array,
) -> jax.Array:
    """Steps until 90 % of the images to validate are right; ``_BUDGET`` if never."""
    held_out = slice(_TRAIN, _TRAIN + 250)

    def logits(parameters: Any, x: jax.Array) -> jax.Array:
        *hidden, (w, b) = parameters
        for v, c in hidden:
            x = jax.nn.relu(x @ v + c)
        return x @ w + b

    def loss(parameters: Any, rows: jax.Array) -> jax.Array:
        return digits.cross_entropy(logits(parameters, x[rows]), labels[rows])

    def step(parameters: Any, rows: jax.Array) -> Any:
        gradient = jax.grad(loss)(parameters, rows)
        return jax.tree.map(lambda p, g: p - rate * g, parameters, gradient), None

    def steps(parameters: Any, rows: jax.Array) -> Any:
        parameters, _ = jax.lax.scan(step, parameters, rows)
        right = logits(parameters, x[held_out]).argmax(-1) == labels[held_out]
        return parameters, right.mean() >= 0.9

    parameters = [(w, jnp.zeros(w.shape[1])) for w in weights]
    _, reached = jax.lax.scan(steps, parameters, rows)
    at = _CHECKED * (1 + jnp.argmax(reached))
    return jnp.where(reached.any(), at, _BUDGET)
