"""One trial as pure functions: its first state, a training step, an evaluation."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from bnjax import config
from bnjax.config import Config
from bnjax.data import Split
from bnjax.models import network
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


def init(cfg: Config, classes: int, train: Split) -> State:
    """The state before the first step; in every arm the same seed, the same noise."""
    net = network(cfg.model, classes)
    key = jax.random.fold_in(jax.random.key(cfg.seed), 0)
    variables = net.init(key, train.x[:1], train=False)
    params = variables['params']
    opt_state = optimizer(cfg.optimizer).init(params)
    return State(params, variables.get('batch_stats', {}), opt_state)


def step(
    cfg: Config, classes: int, state: State, batch: Split
) -> tuple[State, Scores, Sample]:
    """One training step; what its caller leaves of the sample costs nothing."""
    net = network(cfg.model, classes)

    def loss_of(params: Any) -> Any:
        variables = {'params': params, 'batch_stats': state.batch_stats}
        logits, changed = net.apply(
            variables, batch.x, train=True, mutable=['batch_stats', 'activations']
        )
        return _cross_entropy(logits, batch.y).mean(), (logits, changed)

    grad = jax.value_and_grad(loss_of, has_aux=True)
    (loss, (logits, changed)), gradients = grad(state.params)
    activations = {
        name.replace('activation', 'hidden'): value
        for name, (value,) in changed.get('activations', {}).items()
    }
    sample = Sample(state.params, gradients, activations)
    updates, opt_state = optimizer(cfg.optimizer).update(
        gradients, state.opt_state, state.params
    )
    params = optax.apply_updates(state.params, updates)
    scores = Scores(loss, (logits.argmax(-1) == batch.y).mean())
    return State(params, changed.get('batch_stats', {}), opt_state), scores, sample


def evaluate(cfg: Config, classes: int, state: State, split: Split) -> Scores:
    """Scores each image of a split, by the running statistics: arrays ``(n,)``."""
    net = network(cfg.model, classes)
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


def optimizer(settings: config.Optimizer) -> optax.GradientTransformation:
    """The update rule; its floats may be traced."""
    decay = optax.add_decayed_weights(
        # Only weights have two axes; biases and batch norm's parameters have one.
        settings.weight_decay,
        mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
    )
    velocity = optax.trace(settings.momentum)
    rules = {
        'sgd': (decay, velocity),
        'rmsprop': (decay, optax.scale_by_rms(decay=0.9, eps=1e-8), velocity),
        'adam': (optax.scale_by_adam(b1=settings.momentum), decay),
    }
    return optax.chain(
        *rules[settings.name], optax.scale_by_learning_rate(settings.learning_rate)
    )


_cross_entropy = optax.softmax_cross_entropy_with_integer_labels
