"""The switches of the running statistics, against float64 averages, in both modules."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bnjax.linen
import bnjax.nnx

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
BATCHES = [RNG.normal(3, 2, (5, 4)).astype(np.float32) for _ in range(6)]


def linen_trained(batches, use_running_average=False, **fields):
    layer = bnjax.linen.BatchNorm(use_running_average, **fields)
    variables = layer.init(KEY, batches[0])
    for x in batches:
        y, changed = layer.apply(variables, x, mutable=['batch_stats'])
        variables = {**variables, **changed}
    return variables['batch_stats'], y


def nnx_trained(batches, use_running_average=False, **fields):
    layer = bnjax.nnx.BatchNorm(
        4, use_running_average=use_running_average, rngs=nnx.Rngs(0), **fields
    )
    for x in batches:
        y = layer(jnp.asarray(x))
    return nnx.to_pure_dict(nnx.state(layer, nnx.BatchStat)), y


both = pytest.mark.parametrize(
    'trained', [linen_trained, nnx_trained], ids=['linen', 'nnx']
)


def average(values, momentum):
    """The weighted mean of all batches and of nothing else."""
    weights = momentum ** np.arange(len(values))[::-1]
    return np.average(np.array(values, np.float64), 0, weights)


@both
def test_debiased_statistics_are_exact_from_the_first_step(trained):
    one, _ = trained(BATCHES[:1], debias=True)
    np.testing.assert_allclose(one['mean'], BATCHES[0].mean(0), 1e-6)
    np.testing.assert_allclose(one['var'], BATCHES[0].var(0), 1e-5)
    some, _ = trained(BATCHES, momentum=0.7, debias=True)
    means, variances = ([f(x, 0) for x in BATCHES] for f in (np.mean, np.var))
    np.testing.assert_allclose(some['mean'], average(means, 0.7), 1e-5)
    np.testing.assert_allclose(some['var'], average(variances, 0.7), 1e-5)


@both
def test_without_momentum_every_batch_has_the_same_weight(trained):
    found, _ = trained(BATCHES, momentum=None)
    np.testing.assert_allclose(found['mean'], np.mean(BATCHES, (0, 1)), 1e-5)
    np.testing.assert_allclose(found['var'], np.var(BATCHES, 1).mean(0), 1e-5)
    np.testing.assert_array_equal(found['count'], 6.0)


@both
def test_only_a_count_that_is_needed_is_stored(trained):
    assert set(trained(BATCHES)[0]) == {'mean', 'var'}
    assert set(trained(BATCHES, debias=True)[0]) == {'mean', 'var', 'count'}


@both
def test_the_unbiased_variance_is_that_of_torch(trained):
    found, _ = trained(BATCHES[:1], debias=True, unbiased=True)
    np.testing.assert_allclose(found['var'], BATCHES[0].var(0, ddof=1), 1e-5)
    alone, _ = trained([BATCHES[0][:1]], debias=True, unbiased=True)
    np.testing.assert_array_equal(alone['var'], 0.0)


@both
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_features_with_a_value_that_is_not_finite_are_skipped_if_asked(trained, value):
    broken = BATCHES[0].copy()
    broken[2, 1] = value
    trained = functools.partial(trained, momentum=0.5)
    kept, _ = trained([broken], skip_nonfinite=True)
    plain, _ = trained([BATCHES[0]], skip_nonfinite=True)
    for name, initial in (('mean', 0.0), ('var', 1.0)):
        assert kept[name][1] == initial
        others = (np.delete(found[name], 1) for found in (kept, plain))
        np.testing.assert_allclose(*others, 1e-6)
    assert not np.isfinite(trained([broken])[0]['mean'][1])


@both
@pytest.mark.parametrize('use', [False, True])
@pytest.mark.parametrize('update', [False, True])
def test_using_and_updating_are_separate_switches(trained, use, update):
    x = jnp.asarray(BATCHES[0])
    found, y = trained([x], use_running_average=use, update_running_average=update)
    assert (found['mean'] != 0).any() == update
    expected = (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5)
    expected = x / jnp.sqrt(1 + 1e-5) if use else expected
    np.testing.assert_allclose(y, expected, 1e-4, 1e-5)


@both
def test_a_layer_of_ghost_batches_keeps_what_the_whole_batch_has(trained):
    whole, _ = trained(BATCHES, debias=True)
    ghosts, y = trained(BATCHES, debias=True, ghost_batch_size=2)
    for name, value in ghosts.items():
        np.testing.assert_allclose(value, whole[name], 1e-4, 1e-6)
    np.testing.assert_allclose(y[4], 0, atol=1e-6)  # alone in the last group


def test_statistics_that_are_not_updated_need_not_be_mutable():
    layer = bnjax.linen.BatchNorm(
        use_running_average=False, update_running_average=False
    )
    x = jnp.asarray(BATCHES[0])
    assert layer.apply(layer.init(KEY, x), x).shape == x.shape
