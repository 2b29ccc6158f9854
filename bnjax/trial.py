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
from bnjax.models import network, with_noise_on_biases
from bnjax.optimizer import learning_rate, update_rule
from bnjax.population import update_layers
from bnjax.probes import Sample

SEEN = ('activations', 'preactivations', 'slopes')


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
      changed: collections of Flax: batch_stats, moments and ``SEEN``.
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
    params = with_noise_on_biases(params, cfg.model.bias_std, jax.random.split(key)[0])
    _check_frozen(cfg.optimizer.frozen, params)
    opt_state = update_rule(cfg.optimizer, batch_stats).init(params)
    return State(params, batch_stats, opt_state)


def _check_frozen(frozen: int, params: Any) -> None:
    hidden = sum(name.removeprefix('hidden_').isdigit() for name in params)
    if frozen > hidden:
        raise UserError(
            f'optimizer.frozen={frozen} must be at most {hidden}, the number of '
            'hidden layers'
        )


def step(
    cfg: Config,
    classes: int,
    state: State,
    batch: Split,
    number: jax.Array | int,
    total: int,
) -> tuple[State, Scores]:
    """Training step ``number``, from 0, of ``total``."""
    gradients, scores, changed = _way(cfg, classes, state, batch, number)
    rule = update_rule(cfg.optimizer, state.batch_stats)
    direction, opt_state = rule.update(gradients, state.opt_state, state.params)
    rate = learning_rate(cfg.optimizer, number, total)
    params = jax.tree.map(lambda p, d: p - rate * d, state.params, direction)
    return State(params, changed.get('batch_stats', {}), opt_state), scores


def look(
    cfg: Config, classes: int, state: State, batch: Split, number: jax.Array | int
) -> Sample:
    """What probes look at: the way of step ``number`` in this state, not taken."""
    way = _way(cfg, classes, state, batch, number)
    seen = {
        name: {
            layer.replace('activation', 'hidden'): value
            for layer, (value,) in way.changed.get(name, {}).items()
        }
        for name in SEEN
    }
    return Sample(
        params=state.params,
        gradients=way.gradients,
        loss=way.scores.loss,
        running=state.batch_stats,
        # With nothing kept of the old ones, new statistics are those of the batch.
        batch=update_layers(state.batch_stats, way.changed.get('moments', {}), 0.0),
        epsilon=cfg.model.epsilon,
        **seen,
    )


def _way(
    cfg: Config, classes: int, state: State, batch: Split, number: jax.Array | int
) -> Backward:
    """Forward and back on the batch as step ``number`` sees it."""
    if cfg.data.augment:
        seen: Any = crop_and_mirror(cfg.seed, number, batch.x)
        batch = batch._replace(x=seen)
    backward = _accumulated if cfg.micro_batches > 1 else _backward
    # The order of an epoch folds the seed with 1 + epoch, crops with 2**32 - 1.
    noise = jax.random.fold_in(jax.random.key(cfg.seed), 2**32 - 2)
    return backward(cfg, classes, state, batch, jax.random.fold_in(noise, number))


def _backward(
    cfg: Config, classes: int, state: State, batch: Split, noise: jax.Array
) -> Backward:
    """All of a batch at once, normalised by its own moments; ``noise`` is a key."""
    net = network(cfg.model, classes, cfg.execution.convolution)

    def loss_of(params: Any) -> Any:
        logits, changed = net.apply(
            {'params': params, 'batch_stats': state.batch_stats},
            batch.x,
            train=True,
            rngs={'noise': noise},
            mutable=['batch_stats', 'moments', *SEEN],
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


def _accumulated(
    cfg: Config, classes: int, state: State, batch: Split, noise: jax.Array
) -> Backward:
    """The micro-batches one after another, and their statistics as one update."""
    # Every m-th image makes one: devices that share the batch share each of them.
    micro_batches = jax.tree.map(
        lambda a: a.reshape(-1, cfg.micro_batches, *a.shape[1:]).swapaxes(0, 1), batch
    )

    def one(total: Any, at: tuple[Split, jax.Array]) -> tuple[Any, tuple]:
        micro_batch, i = at
        own = jax.random.fold_in(noise, i)
        seen = _backward(cfg, classes, state, micro_batch, own)
        return jax.tree.map(jnp.add, total, seen.gradients), seen[1:]

    zeros = jax.tree.map(jnp.zeros_like, state.params)
    numbered = micro_batches, jnp.arange(cfg.micro_batches)
    total, (scores, changed) = lax.scan(one, zeros, numbered)
    gradients = jax.tree.map(lambda g: g / cfg.micro_batches, total)
    moments = changed.get('moments', {})
    seen = {name: changed.get(name, {}) for name in SEEN}
    joined = {
        'batch_stats': update_layers(state.batch_stats, moments, cfg.model.momentum),
        'moments': moments,
    } | jax.tree.map(lambda a: a.swapaxes(0, 1).reshape(-1, *a.shape[2:]), seen)
    return Backward(gradients, jax.tree.map(jnp.mean, scores), joined)


def evaluate(cfg: Config, classes: int, state: State, batch: Split) -> Scores:
    """Scores each of n images by the running statistics: arrays ``(n,)``."""
    net = network(cfg.model, classes, cfg.execution.convolution)
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    logits: Any = net.apply(variables, batch.x, train=False)
    return Scores(_cross_entropy(logits, batch.y), logits.argmax(-1) == batch.y)


_cross_entropy = optax.softmax_cross_entropy_with_integer_labels
