"""What the tests of the Linen layer and of the NNX layer share."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bnjax.nnx import BatchNorm

F32 = np.float32
RNG = np.random.default_rng(0)
X, DY = RNG.normal(size=(2, 6, 4, 3)).astype(F32)
# Nothing of the fifth row counts.
MASK = (RNG.uniform(size=X.shape) < [0.3, 0.8, 1]) & (np.arange(6) != 4)[:, None, None]
STATS = {'mean': F32([0.5, -1, 2]), 'var': F32([0.2, 3, 1])}
EMPTY = {
    'all masked': (X, np.zeros_like(MASK)),
    'all masked NaN': (X * np.nan, np.zeros_like(MASK)),
    'no rows': (X[:0], None),
}
KEY = jax.random.key(0)
DTYPES = (None, jnp.bfloat16, jnp.float16, jnp.float32)


def initials(key, shape, dtype):
    return jax.random.normal(key, shape, dtype)


def mask_of(shape):
    """A mask that broadcasts to X, with values of every feature in it."""
    first = (np.arange(shape[0]) == 0).reshape(-1, *[1] * (len(shape) - 1))
    return np.resize(MASK, shape) | first


def leaves(tree):
    """Path, shape, dtype and kind of each leaf, of a State or of any tree."""
    if isinstance(tree, nnx.State):
        flat = nnx.to_flat_state(tree)
        return [(p, v.get_value(), type(v)) for p, v in flat]
    flat = jax.tree_util.tree_leaves_with_path(tree)
    return [(path, leaf, None) for path, leaf in flat]


def assert_same(got, want, rtol=2e-5, atol=1e-5):
    got, want = leaves(got), leaves(want)
    assert [(p, v.shape, v.dtype, k) for p, v, k in got] == [
        (p, v.shape, v.dtype, k) for p, v, k in want
    ]
    for (path, g, _), (_, w, _) in zip(got, want, strict=True):
        g, w = (np.asarray(a, np.float64) for a in (g, w))
        np.testing.assert_allclose(g, w, rtol, atol, err_msg=str(path))


# Of an NNX layer.


def make(layer=BatchNorm, features=3, **options):
    return layer(features, rngs=nnx.Rngs(0), **options)


def statistics(layer):
    return {'mean': np.asarray(layer.mean[...]), 'var': np.asarray(layer.var[...])}


def with_statistics(layer):
    layer.mean[...], layer.var[...] = STATS.values()
    return layer


@nnx.jit
def train(layer, x, dy, mask=None):
    """A training step's output and gradients; the layer keeps its statistics."""

    def loss(layer, x):
        y = layer(x, mask=mask)
        return (dy * y).sum(), y

    grads, y = nnx.grad(loss, argnums=(0, 1), has_aux=True)(layer, x)
    return y, *grads
