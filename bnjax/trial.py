"""One trial as pure functions: its first state, a training step, an evaluation."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from bnjax.augment import crop_and_mirror
from bnjax.config import Config
from bnjax.data import Split
from bnjax.errors import UserError
from bnjax.models import network
from bnjax.optimizer import learning_rate, update_rule
from bnjax.population import update_layers
from bnjax.probes import Sample


class State(NamedTuple):
    """What training changes."""

    params: Any
    batch_stats: Any
    opt_state: Any


class Scores(NamedTuple):
    """Cross entropy (nats) and whether the answer is right, or means of the two."""

    loss: jax.Array
    accuracy: jax.Array


class Backward(NamedTuple):
    """What a way forward and back gives.

    Attributes:
      gradients: of the parameters, to which they are alike.
      scores: means over the batch, without label smoothing.
      changed: collections of Flax: batch_stats, moments and activations.
    """

    gradients: Any
    scores: Scores
    changed: Mapping[str, Any]


def check(cfg: Config) -> None:
    """Raises a ``UserError`` where two fields do not go together."""
    if cfg.batch_size % cfg.micro_batches:
        raise UserError(
            f'micro_batches={cfg.micro_batches} must divide '
            f'batch_size={cfg.batch_size} evenly'
        )
    if cfg.data.augment and cfg.data.preprocess == 'pca':
        raise UserError(
            'data.augment=True needs images, and data.preprocess=pca leaves none; '
            'zca is the whitening that does'
        )


def init(cfg: Config, classes: int, train: Split) -> State:
    """The state before the first step; in every arm the same seed, the same noise."""
    net = network(cfg.model, classes, cfg.execution.convolution)
    key = jax.random.fold_in(jax.random.key(cfg.seed), 0)
    variables = net.init(key, train.x[:1], train=False)
    params, batch_stats = variables['params'], variables.get('batch_stats', {})
    opt_state = update_rule(cfg.optimizer, batch_stats).init(params)
    return State(params, batch_stats, opt_state)


def step(
    cfg: Config,
    classes: int,
    state: State,
    batch: Split,
    number: jax.Array | int,
    total: int,
) -> tuple[State, Scores, Sample]:
    """Training step ``number``, from 0, of ``total``.

    What its caller leaves of the sample costs nothing.
    """
    if cfg.data.augment:
        seen: Any = crop_and_mirror(cfg.seed, number, batch.x)
        batch = batch._replace(x=seen)
    backward = _accumulated if cfg.micro_batches > 1 else _backward
    gradients, scores, changed = backward(cfg, classes, state, batch)
    rule = update_rule(cfg.optimizer, state.batch_stats)
    direction, opt_state = rule.update(gradients, state.opt_state, state.params)
    rate = learning_rate(cfg.optimizer, number, total)
    params = jax.tree.map(lambda p, d: p - rate * d, state.params, direction)
    activations = {
        name.replace('activation', 'hidden'): value
        for name, (value,) in changed.get('activations', {}).items()
    }
    sample = Sample(state.params, gradients, activations)
    return State(params, changed.get('batch_stats', {}), opt_state), scores, sample


def _backward(cfg: Config, classes: int, state: State, batch: Split) -> Backward:
    """All of a batch at once, normalised by its own moments."""
    net = network(cfg.model, classes, cfg.execution.convolution)

    def loss_of(params: Any) -> Any:
        logits, changed = net.apply(
            {'params': params, 'batch_stats': state.batch_stats},
            batch.x,
            train=True,
            mutable=['batch_stats', 'moments', 'activations'],
        )
        entropy = _cross_entropy(logits, batch.y)
        scores = Scores(entropy.mean(), (logits.argmax(-1) == batch.y).mean())
        smoothed = entropy + _smoothing(cfg.label_smoothing, logits, batch.y)
        return smoothed.mean(), (scores, changed)

    gradients, (scores, changed) = jax.grad(loss_of, has_aux=True)(state.params)
    return Backward(gradients, scores, changed)


def _smoothing(share: Any, logits: jax.Array, y: Any) -> jax.Array:
    """What a share of the label spread over all classes adds to the cross entropy."""
    classes = logits.shape[-1]
    spread = ((jax.nn.one_hot(y, classes) - 1 / classes) * logits).sum(-1)
    return share * spread


def _accumulated(cfg: Config, classes: int, state: State, batch: Split) -> Backward:
    """The micro-batches one after another, and their statistics as one update."""
    # Every m-th image makes one: devices that share the batch share each of them.
    micro_batches = jax.tree.map(
        lambda a: a.reshape(-1, cfg.micro_batches, *a.shape[1:]).swapaxes(0, 1), batch
    )

    def one(total: Any, micro_batch: Split) -> tuple[Any, tuple]:
        seen = _backward(cfg, classes, state, micro_batch)
        return jax.tree.map(jnp.add, total, seen.gradients), seen[1:]

    zeros = jax.tree.map(jnp.zeros_like, state.params)
    total, (scores, changed) = lax.scan(one, zeros, micro_batches)
    gradients = jax.tree.map(lambda g: g / cfg.micro_batches, total)
    moments, activations = changed.get('moments', {}), changed.get('activations', {})
    joined = {
        'batch_stats': update_layers(state.batch_stats, moments, cfg.model.momentum),
        'activations': jax.tree.map(
            lambda a: a.swapaxes(0, 1).reshape(-1, *a.shape[2:]), activations
        ),
    }
    return Backward(gradients, jax.tree.map(jnp.mean, scores), joined)


def evaluate(cfg: Config, classes: int, state: State, split: Split) -> Scores:
    """Scores each image of a split, by the running statistics: arrays ``(n,)``."""
    net = network(cfg.model, classes, cfg.execution.convolution)
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    n = len(split.y)
    if n == 0:
        return Scores(jnp.zeros(0), jnp.zeros(0, bool))
    batches = -(-n // cfg.batch_size)
    # The last batch is filled up by repeating the last image, and cut again below.
    rows = jnp.minimum(jnp.arange(batches * cfg.batch_size), n - 1)

    def score(_: None, rows: jax.Array) -> tuple[None, Scores]:
        logits: Any = net.apply(variables, split.x[rows], train=False)
        y = split.y[rows]
        return None, Scores(_cross_entropy(logits, y), logits.argmax(-1) == y)

    _, scores = lax.scan(score, None, rows.reshape(batches, cfg.batch_size))
    return jax.tree.map(lambda s: s.reshape(-1)[:n], scores)


_cross_entropy = optax.softmax_cross_entropy_with_integer_labels
