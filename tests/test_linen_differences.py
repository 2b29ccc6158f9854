"""Where bnjax.linen.BatchNorm differs from Flax's on purpose."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from layers import DY, EMPTY, F32, KEY, MASK, STATS, X

from bnjax.linen import BatchNorm


def train(layer, variables, x, **kwargs):
    return layer.apply(variables, x, False, mutable=['batch_stats'], **kwargs)


@pytest.mark.parametrize('x, mask', EMPTY.values(), ids=EMPTY)
def test_an_empty_batch_leaves_statistics_as_they_were(x, mask):
    variables = BatchNorm(True).init(KEY, X) | {'batch_stats': STATS}

    def loss(params):
        y, new = train(BatchNorm(), variables | {'params': params}, x, mask=mask)
        return y.sum(), (y, new)

    grads, (y, new) = jax.grad(loss, has_aux=True)(variables['params'])
    for leaf in jax.tree.leaves((grads, y)):
        assert np.isfinite(leaf).all()
    for name, kept in STATS.items():
        np.testing.assert_array_equal(new['batch_stats'][name], kept)


def test_nan_in_the_padding_reaches_neither_gradients_nor_statistics():
    x = np.where(MASK, X, np.nan)
    variables = BatchNorm(True).init(KEY, X)

    def loss(variables, x):
        y, new = train(BatchNorm(), variables, x, mask=MASK)
        return (DY * y).sum(), (y, new)

    grads, out = jax.grad(loss, (0, 1), has_aux=True)(variables, x)
    for leaf in jax.tree.leaves((grads, out)):
        assert np.isfinite(leaf).all()
    want = oracle.gradients(x, np.ones(3), DY, where=MASK).x
    np.testing.assert_allclose(grads[1], want, rtol=1e-4, atol=1e-5)


def test_running_variance_is_accurate_far_from_zero():
    x = F32(1e4) + F32(0.1) * X
    _, new = train(BatchNorm(momentum=0.0), BatchNorm(True).init(KEY, x), x)
    want = oracle.moments(x)
    np.testing.assert_allclose(new['batch_stats']['mean'], want.mean, rtol=1e-6)
    np.testing.assert_allclose(new['batch_stats']['var'], want.var, rtol=1e-5)


def test_an_unbound_axis_name_is_needed_only_in_training():
    layer = BatchNorm(axis_name='device')
    for running in (False, True):
        variables = layer.init(KEY, X, running)
    layer.apply(variables, X, True)
    with pytest.raises(ValueError, match="axis_name='device' is not bound here"):
        train(layer, variables, X)


def test_sync_is_weighted_by_the_masks():
    layer = BatchNorm(axis_name='device', momentum=0.0)
    variables = layer.init(KEY, X[0], True)
    y, new = jax.vmap(
        lambda x, m: train(layer, variables, x, mask=m), axis_name='device'
    )(X, MASK)
    want_y, want = oracle.batch_norm(X, where=MASK)
    np.testing.assert_allclose(y, want_y, rtol=1e-4, atol=1e-5)
    for name in ('mean', 'var'):
        got = new['batch_stats'][name]
        np.testing.assert_allclose(
            got, np.tile(getattr(want, name), (6, 1)), 1e-5, 1e-6
        )


def test_momentum_and_epsilon_may_be_traced():
    variables = BatchNorm(True).init(KEY, X)

    @jax.jit
    @jax.vmap
    def step(momentum, epsilon):
        return train(BatchNorm(momentum=momentum, epsilon=epsilon), variables, X)

    for i, (m, e) in enumerate(((0.9, 1e-3), (0.0, 1.0))):
        y, new = step(F32([0.9, 0.0]), F32([1e-3, 1.0]))
        want_y, want = oracle.batch_norm(X, epsilon=e)
        np.testing.assert_allclose(y[i], want_y, rtol=1e-4, atol=1e-5)
        mean = new['batch_stats']['mean'][i]
        np.testing.assert_allclose(mean, (1 - m) * want.mean, rtol=1e-5, atol=1e-6)


def test_momentum_and_epsilon_may_be_arrays_that_jit_closes_over():
    layer = BatchNorm(momentum=jnp.float32(0.9), epsilon=jnp.float32(1e-3))
    variables = BatchNorm(True).init(KEY, X)
    _, got = jax.jit(lambda x: train(layer, variables, x))(X)
    _, want = train(BatchNorm(momentum=0.9, epsilon=1e-3), variables, X)
    mean, expected = (of['batch_stats']['mean'] for of in (got, want))
    np.testing.assert_allclose(mean, expected, rtol=1e-6)
    wrong = BatchNorm(momentum=jnp.float32(1.5))
    with pytest.raises(ValueError, match='momentum=1.5 must be'):
        jax.jit(lambda x: train(wrong, variables, x))(X)


def test_devices_agree_to_skip_a_batch_of_which_one_has_a_nan():
    layer = BatchNorm(skip_nonfinite=True, axis_name='device')
    variables = BatchNorm(True).init(KEY, X) | {'batch_stats': STATS}
    batches = np.stack([X, X, X])
    batches[1].flat[0] = np.nan
    step = jax.vmap(lambda x: train(layer, variables, x)[1], axis_name='device')
    new = step(batches)['batch_stats']
    for name, old in STATS.items():
        assert (new[name][:, 0] == old[0]).all()
        assert (new[name][:, 1:] != old[1:]).all()
        assert (new[name] == new[name][0]).all()


def test_float64_input_keeps_the_dtype_of_the_statistics():
    with jax.enable_x64(True):
        x = jax.ShapeDtypeStruct(X.shape, np.float64)
        variables = jax.eval_shape(BatchNorm(True).init, KEY, x)
        y, new = jax.eval_shape(lambda v, x: train(BatchNorm(), v, x), variables, x)
    assert y.dtype == np.float64
    assert {s.dtype for s in new['batch_stats'].values()} == {np.dtype(F32)}
