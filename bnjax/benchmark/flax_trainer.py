"""Training as Flax's users write it: a jitted step with a donated state."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax

from bnjax.benchmark.flax_networks import network
from bnjax.benchmark.python_loop import Trainer
from bnjax.benchmark.workloads import MOMENTUM, Workload

Scores = tuple[jax.Array, jax.Array]


class State(NamedTuple):
    params: Any
    batch_stats: Any
    opt_state: Any


def trainer(workload: Workload) -> Trainer:
    """Compiles once for all trials, for the learning rate is part of the state."""
    net = network(workload)
    sgd = optax.inject_hyperparams(optax.sgd)
    optimizer = sgd(workload.learning_rate, momentum=MOMENTUM)
    first = jax.jit(functools.partial(_begin, net, optimizer, workload.image))
    train = jax.jit(functools.partial(_step, net, optimizer), donate_argnums=0)
    score = jax.jit(functools.partial(_evaluate, net))

    def begin(seed: int, learning_rate: float, weights: str | None = None) -> State:
        state = first(seed, learning_rate)
        if not weights:
            return state
        read: Any = {k: jnp.asarray(v) for k, v in np.load(weights).items()}
        return state._replace(params=flax.traverse_util.unflatten_dict(read, sep='/'))

    def step(state: State, data: Any, rows: np.ndarray) -> tuple[State, Scores]:
        return train(state, data[0][rows], data[1][rows])

    def evaluate(state: State, data: Any, rows: np.ndarray) -> Scores:
        return score(state, data[0][rows], data[1][rows])

    device = jax.devices()[0].device_kind
    return Trainer(begin, lambda data: data, step, evaluate, device)


def _begin(
    net: nn.Module, optimizer: Any, image: Any, seed: Any, learning_rate: Any
) -> State:
    x = jnp.zeros((1, *image))
    variables = net.init(jax.random.key(seed), x, train=False)
    opt_state = optimizer.init(variables['params'])
    opt_state.hyperparams['learning_rate'] = jnp.asarray(learning_rate, jnp.float32)
    return State(variables['params'], variables['batch_stats'], opt_state)


def _step(
    net: nn.Module, optimizer: Any, state: State, x: jax.Array, y: jax.Array
) -> tuple[State, Scores]:
    def loss_of(params: Any) -> Any:
        variables = {'params': params, 'batch_stats': state.batch_stats}
        logits, changed = net.apply(variables, x, train=True, mutable=['batch_stats'])
        return _cross_entropy(logits, y), (logits, changed['batch_stats'])

    grad = jax.value_and_grad(loss_of, has_aux=True)
    (loss, (logits, batch_stats)), gradients = grad(state.params)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return State(params, batch_stats, opt_state), (loss, _accuracy(logits, y))


def _evaluate(net: nn.Module, state: State, x: jax.Array, y: jax.Array) -> Scores:
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    logits: Any = net.apply(variables, x, train=False)
    return _cross_entropy(logits, y), _accuracy(logits, y)


def _cross_entropy(logits: jax.Array, y: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def _accuracy(logits: jax.Array, y: jax.Array) -> jax.Array:
    return (logits.argmax(-1) == y).mean()
