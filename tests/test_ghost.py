"""Ghost batches, and the pooling of their moments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnjax
import bnjax.linen
from bnjax.ghost import ghost_batch_norm
from bnjax.moments import pool
from bnjax.population import update_layers

RNG = np.random.default_rng(0)
ghosts = jax.jit(ghost_batch_norm, static_argnames=('size', 'axis'))


@functools.partial(jax.jit, static_argnums=0)
def train(layer, x):
    """Output and new statistics of a training step on each device."""
    variables = layer.init(jax.random.key(0), x[0])
    step = functools.partial(layer.apply, mutable=['batch_stats'])
    return jax.vmap(step, (None, 0), axis_name='device')(variables, x)


@pytest.mark.parametrize('size', [1, 2, 3, 5, 7])
@pytest.mark.parametrize('axis', [-1, 0])
def test_each_ghost_batch_is_normalised_by_itself(size, axis):
    x = RNG.normal(size=(5, 3, 4)).astype(np.float32)
    scale, bias = np.float32([1, 2, 3, 4]), np.float32([4, 3, 2, 1])
    groups = [x[i : i + size].astype(np.float64) for i in range(0, 5, size)]
    expected = [(g - g.mean((0, 1))) / np.sqrt(g.var((0, 1)) + 1e-5) for g in groups]
    expected = np.concatenate(expected) * scale + bias
    moved = np.moveaxis(x, -1, axis)
    y, batch = ghosts(moved, size, scale, bias, axis=axis)
    np.testing.assert_allclose(np.moveaxis(y, axis, -1), expected, 1e-4, 1e-4)
    np.testing.assert_allclose(batch.mean, x.mean((0, 1)), 1e-4, 1e-6)
    np.testing.assert_allclose(batch.var, x.var((0, 1)), 1e-5)
    np.testing.assert_array_equal(batch.count, 15)


def test_devices_keep_statistics_of_all_ghost_batches():
    x = RNG.normal(size=(3, 4, 2)).astype(np.float32)
    layer = bnjax.linen.BatchNorm(
        False, momentum=0.0, ghost_batch_size=2, axis_name='device'
    )
    y, new = train(layer, x)
    groups = x.reshape(-1, 2, 2).astype(np.float64)
    expected = (groups - groups.mean(1, keepdims=True)) / np.sqrt(
        groups.var(1, keepdims=True) + 1e-5
    )
    np.testing.assert_allclose(y.reshape(groups.shape), expected, 1e-3, 1e-4)
    for device in range(3):
        mean, var = (new['batch_stats'][name][device] for name in ('mean', 'var'))
        np.testing.assert_allclose(mean, x.mean((0, 1)), 1e-5, 1e-6)
        np.testing.assert_allclose(var, x.var((0, 1)), 1e-5)


def test_devices_report_moments_of_all_ghost_batches_where_none_are_kept():
    x = RNG.normal(size=(3, 4, 2)).astype(np.float32)
    layer = bnjax.linen.BatchNorm(
        False,
        update_running_average=False,
        ghost_batch_size=2,
        axis_name='device',
    )
    variables = layer.init(jax.random.key(0), x[0])

    def step(x):
        _, seen = layer.apply(variables, x, mutable=['moments'])
        return update_layers(variables['batch_stats'], seen['moments'], momentum=0.0)

    new = jax.vmap(step, axis_name='device')(x)
    for device in range(3):
        np.testing.assert_allclose(new['mean'][device], x.mean((0, 1)), 1e-5, 1e-6)
        np.testing.assert_allclose(new['var'][device], x.var((0, 1)), 1e-5)


@pytest.mark.parametrize('shape', [(4, 0), (3, 0), (0, 0), (0, 3), (4, 3, 0)])
def test_ghost_batches_of_nothing_are_nothing(shape):
    y, batch = ghost_batch_norm(jnp.zeros(shape), 2)
    assert y.shape == shape
    np.testing.assert_array_equal(batch.count, np.prod(shape[:-1]))


def test_pooling_is_merging_one_after_the_other():
    batches = RNG.normal(3, 2, (6, 5, 4)).astype(np.float32)
    parts = [bnjax.moments(jnp.asarray(x[:n])) for n, x in enumerate(batches)]
    merged = parts[0]
    for part in parts[1:]:
        merged = bnjax.merge(merged, part)
    stacked = bnjax.Moments(*(jnp.stack(v) for v in zip(*parts, strict=True)))
    for a, b in zip(pool(stacked), merged, strict=True):
        np.testing.assert_allclose(a, b, 1e-5)


def test_far_from_zero_a_layer_of_ghost_batches_keeps_an_accurate_variance():
    x = (1e4 + RNG.normal(size=(64, 4))).astype('f4')
    layer = bnjax.linen.BatchNorm(False, momentum=0.0, ghost_batch_size=8)
    (var,) = train(layer, x[None])[1]['batch_stats']['var']
    np.testing.assert_allclose(var, x.astype('f8').var(0), 1e-5)
