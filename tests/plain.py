"""Small trials, and the network of Flax layers that they are compared with."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from bnjax import config
from bnjax.data import Split
from bnjax.trial import init

RNG = np.random.default_rng(0)
CLASSES = 3


def trial(**fields):
    dotted = {name.replace('__', '.'): value for name, value in fields.items()}
    return config.build(config.flatten(config.defaults()) | SMALL | dotted)


SMALL = {'model.features': (4, 3), 'batch_size': 4, 'optimizer.learning_rate': 0.03}


def images(n, size=(2, 3, 1)):
    x, y = RNG.normal(size=(n, *size)), RNG.integers(0, CLASSES, n)
    return Split(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32))


def close(actual, desired):
    assert jax.tree.structure(actual) == jax.tree.structure(desired)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=2e-6),
        actual,
        desired,
    )


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


class Plain(nn.Module):
    """Two hidden layers, with batch norm as `placement` says; Flax only."""

    settings: config.Model

    @nn.compact
    def __call__(self, x, train):
        s = self.settings
        x = x if s.name == 'cnn' else x.reshape(len(x), math.prod(x.shape[1:]))
        for i in range(2):
            use_bias = s.placement != 'before'
            if s.name == 'cnn':
                layer = nn.Conv(3, (3, 3), use_bias=use_bias, name=f'hidden_{i}')
            else:
                layer = nn.Dense((4, 3)[i], use_bias=use_bias, name=f'hidden_{i}')
            norm = functools.partial(
                nn.BatchNorm,
                use_running_average=not train,
                momentum=s.momentum,
                epsilon=s.epsilon,
                name=f'norm_{i}',
            )
            x = layer(x)
            x = norm()(x) if s.placement == 'before' else x
            x = {'relu': jax.nn.relu, 'sigmoid': jax.nn.sigmoid}[s.activation](x)
            x = norm()(x) if s.placement == 'after' else x
        if s.name == 'cnn':
            x = nn.max_pool(x, (2, 2), strides=(2, 2)).mean((1, 2))
        return nn.Dense(CLASSES, name='output')(x)


def scores_of(logits, y):
    """Cross entropy and correctness of each image."""
    log_p = logits - jnp.log(jnp.exp(logits).sum(-1, keepdims=True))
    return -log_p[jnp.arange(len(y)), y], logits.argmax(-1) == y


def trained(cfg, like=None):
    """A state with statistics that no batch has."""
    state = init(cfg, CLASSES, like or images(1))
    return jax.tree.map(lambda v: jnp.abs(v + 0.3), state)
