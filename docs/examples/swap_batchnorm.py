"""Swap Flax's batch norm for bnjax's: a whole training loop on handwritten digits.

The line marked below is the only one that changes. Batch statistics are a
collection of their own, ``batch_stats``: training makes it mutable and keeps what
comes back, evaluation reads it.

    python docs/examples/swap_batchnorm.py
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

from bnjax.linen import BatchNorm  # was: from flax.linen import BatchNorm


class Network(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        for width in (64, 64):
            x = nn.Dense(width, use_bias=False)(x)
            x = BatchNorm(use_running_average=not train, momentum=0.9)(x)
            x = nn.relu(x)
        return nn.Dense(10)(x)


network = Network()
optimizer = optax.sgd(0.1, momentum=0.9)


@jax.jit
def train_step(params, batch_stats, opt_state, x, y):
    def loss_of(params):
        logits, changed = network.apply(
            {'params': params, 'batch_stats': batch_stats},
            x,
            train=True,
            mutable=['batch_stats'],
        )
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
        return loss, changed['batch_stats']

    (loss, batch_stats), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
    updates, opt_state = optimizer.update(grads, opt_state)
    return optax.apply_updates(params, updates), batch_stats, opt_state, loss


@jax.jit
def accuracy(params, batch_stats, x, y):
    variables = {'params': params, 'batch_stats': batch_stats}
    return (network.apply(variables, x, train=False).argmax(-1) == y).mean()


def main(epochs=10, batch_size=64):
    digits = load_digits()
    x, y = jnp.float32(digits.data / 16), jnp.int32(digits.target)
    order = jax.random.permutation(jax.random.key(0), len(y))
    test, train = order[:360], order[360:]

    variables = network.init(jax.random.key(1), x[:1], train=False)
    params, batch_stats = variables['params'], variables['batch_stats']
    opt_state = optimizer.init(params)
    for epoch in range(epochs):
        key = jax.random.fold_in(jax.random.key(2), epoch)
        rows = jax.random.permutation(key, train)
        for start in range(0, len(rows) - batch_size + 1, batch_size):
            batch = rows[start : start + batch_size]
            params, batch_stats, opt_state, loss = train_step(
                params, batch_stats, opt_state, x[batch], y[batch]
            )
        score = accuracy(params, batch_stats, x[test], y[test])
        print(f'epoch {epoch + 1}: loss {loss:.3f}, test accuracy {score:.3f}')
    return float(score)


if __name__ == '__main__':
    main()
