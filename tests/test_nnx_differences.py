"""Where bnjax.nnx.BatchNorm differs from Flax's on purpose."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import nnx
from layers import (
    DY,
    EMPTY,
    F32,
    MASK,
    STATS,
    X,
    assert_same,
    initials,
    make,
    statistics,
    train,
    with_statistics,
)


def test_evaluation_in_bfloat16_does_not_round_the_statistics():
    layer = make(dtype=jnp.bfloat16, use_running_average=True)
    layer.mean[...], layer.var[...] = jnp.full(3, 256.75), jnp.full(3, 1e-4)
    x = np.full((2, 3), 256.72, F32)
    y = layer(x)
    want = oracle.normalize(x, oracle.Stats(F32(256.75), F32(1e-4), None))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(y, F32), want, rtol=1e-2)


def test_training_in_bfloat16_does_not_round_the_input():
    x = 100 + F32(0.01) * X
    layer = make(dtype=jnp.bfloat16, momentum=0.0)
    want, batch = oracle.batch_norm(x)
    np.testing.assert_allclose(np.asarray(layer(x), F32), want, 2**-7, 1e-2)
    np.testing.assert_allclose(layer.var[...], batch.var, rtol=1e-5)


@pytest.mark.parametrize('x, mask', EMPTY.values(), ids=EMPTY)
def test_an_empty_batch_leaves_statistics_as_they_were(x, mask):
    layer = with_statistics(make())
    out = train(layer, x, np.ones_like(x, F32), mask)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(out))
    assert_same(statistics(layer), STATS, 0, 0)


def test_nan_in_the_padding_reaches_neither_gradients_nor_statistics():
    layer = make()
    y, grads, dx = train(layer, np.where(MASK, X, np.nan), DY, MASK)
    for leaf in jax.tree.leaves((y, grads, nnx.state(layer))):
        assert np.isfinite(leaf).all()
    want = oracle.gradients(np.where(MASK, X, np.nan), np.ones(3), DY, where=MASK)
    np.testing.assert_allclose(dx, want.x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('dtype', [bool, np.uint8, np.int32, F32, jnp.bfloat16])
def test_a_mask_may_have_any_dtype(dtype):
    masked, same = make(), make()
    want = masked(X, mask=MASK)
    np.testing.assert_array_equal(same(X, mask=jnp.asarray(MASK, dtype)), want)
    assert_same(nnx.state(same), nnx.state(masked), 0, 0)


def test_running_variance_is_accurate_far_from_zero():
    x = F32(1e4) + F32(0.1) * X
    layer = make(momentum=0.0)
    layer(x)
    want = oracle.moments(x)
    np.testing.assert_allclose(layer.mean[...], want.mean, rtol=1e-6)
    np.testing.assert_allclose(layer.var[...], want.var, rtol=1e-5)


GROUPS = {'all': None, 'two groups': ((0, 3, 4), (1, 2, 5))}


@pytest.mark.parametrize('groups', GROUPS.values(), ids=GROUPS)
def test_sync_is_weighted_by_the_masks(groups):
    layer = make(axis_name='device', axis_index_groups=groups, momentum=0.0)
    graph, state = nnx.split(layer)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0, 0), axis_name='device')
    def step(state, x, mask):
        layer = nnx.merge(graph, state)
        return layer(x, mask=mask), layer.mean[...], layer.var[...]

    got = jax.tree.map(np.asarray, step(state, X, MASK))
    for rows in map(list, groups or [range(6)]):
        want, batch = oracle.batch_norm(X[rows], where=MASK[rows])
        np.testing.assert_allclose(got[0][rows], want, rtol=1e-4, atol=1e-5)
        for stat, wanted in zip(got[1:], batch[:2], strict=True):
            np.testing.assert_allclose(stat[rows[0]], wanted, rtol=1e-5, atol=1e-6)
    layer(X, use_running_average=True)  # names no axis


def test_several_axes_hold_num_features_together():
    layer = make(features=12, axis=(1, 2), scale_init=initials, momentum=0.5)
    scale = np.asarray(layer.scale[...]).reshape(4, 3)
    want, batch = oracle.batch_norm(X, scale, axis=(1, 2))
    np.testing.assert_allclose(layer(X), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.mean[...], 0.5 * batch.mean.ravel(), 1e-5, 1e-6)
    assert layer.var[...].shape == (12,)
    theirs = make(nnx.BatchNorm, features=12, axis=(1, 2), scale_init=initials)
    nnx.update(theirs, nnx.state(layer))
    assert_same(layer(X, True), theirs(X, True))  # Flax has it in evaluation alone


def test_float64_input_keeps_the_dtype_of_the_statistics():
    def f(x):
        layer = make()
        outputs = layer(x), layer(x, use_running_average=True)
        return outputs, (layer.mean[...], layer.var[...])

    with jax.enable_x64(True):
        x = jax.ShapeDtypeStruct(X.shape, np.float64)
        outputs, stats = jax.eval_shape(f, x)
    assert {y.dtype for y in outputs} == {np.dtype(np.float64)}
    assert {s.dtype for s in stats} == {np.dtype(F32)}
