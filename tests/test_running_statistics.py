"""The switches of the running statistics, against float64 averages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnjax
from bnjax.ghost import ghost_batch_norm
from bnjax.linen import BatchNorm
from bnjax.moments import pool

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
BATCHES = [RNG.normal(3, 2, (5, 4)).astype(np.float32) for _ in range(6)]


def trained(layer, batches=BATCHES, **call):
    variables = layer.init(KEY, batches[0], use_running_average=False)
    for x in batches:
        _, changed = layer.apply(
            variables, x, use_running_average=False, mutable=['batch_stats'], **call
        )
        variables = {**variables, **changed}
    return variables['batch_stats']


def average(values, momentum):
    """The weighted mean of all batches and of nothing else."""
    weights = momentum ** np.arange(len(values))[::-1]
    return np.average(np.array(values, np.float64), 0, weights)


def test_debiased_statistics_are_exact_from_the_first_step():
    one = trained(BatchNorm(debias=True), BATCHES[:1])
    np.testing.assert_allclose(one['mean'], BATCHES[0].mean(0), 1e-6)
    np.testing.assert_allclose(one['var'], BATCHES[0].var(0), 1e-5)
    some = trained(BatchNorm(momentum=0.7, debias=True))
    means, variances = ([f(x, 0) for x in BATCHES] for f in (np.mean, np.var))
    np.testing.assert_allclose(some['mean'], average(means, 0.7), 1e-5)
    np.testing.assert_allclose(some['var'], average(variances, 0.7), 1e-5)


def test_without_momentum_every_batch_has_the_same_weight():
    found = trained(BatchNorm(momentum=None))
    np.testing.assert_allclose(found['mean'], np.mean(BATCHES, (0, 1)), 1e-5)
    np.testing.assert_allclose(found['var'], np.var(BATCHES, 1).mean(0), 1e-5)
    np.testing.assert_array_equal(found['count'], 6.0)


def test_only_a_count_that_is_needed_is_stored():
    assert set(trained(BatchNorm())) == {'mean', 'var'}
    assert set(trained(BatchNorm(debias=True))) == {'mean', 'var', 'count'}


def test_the_unbiased_variance_is_that_of_torch():
    found = trained(BatchNorm(debias=True, unbiased=True), BATCHES[:1])
    np.testing.assert_allclose(found['var'], BATCHES[0].var(0, ddof=1), 1e-5)
    alone = trained(BatchNorm(debias=True, unbiased=True), [BATCHES[0][:1]])
    np.testing.assert_array_equal(alone['var'], 0.0)


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_features_with_a_value_that_is_not_finite_are_skipped_if_asked(value):
    broken = BATCHES[0].copy()
    broken[2, 1] = value
    layer = BatchNorm(momentum=0.5, skip_nonfinite=True)
    kept, plain = trained(layer, [broken]), trained(layer, [BATCHES[0]])
    for name, initial in (('mean', 0.0), ('var', 1.0)):
        assert kept[name][1] == initial
        others = (np.delete(found[name], 1) for found in (kept, plain))
        np.testing.assert_allclose(*others, 1e-6)
    assert not np.isfinite(trained(BatchNorm(), [broken])['mean'][1])


def test_using_and_updating_are_separate_switches():
    x = jnp.asarray(BATCHES[0])
    for use in (False, True):
        for update in (False, True):
            layer = BatchNorm(use_running_average=use, update_running_average=update)
            variables = layer.init(KEY, x)
            y, changed = layer.apply(variables, x, mutable=['batch_stats'])
            moved = (changed['batch_stats']['mean'] != 0).any()
            assert moved == update
            expected = (x - x.mean(0)) / jnp.sqrt(x.var(0) + 1e-5)
            expected = x / jnp.sqrt(1 + 1e-5) if use else expected
            np.testing.assert_allclose(y, expected, 1e-4, 1e-5)


def test_statistics_that_are_not_updated_need_not_be_mutable():
    layer = BatchNorm(use_running_average=False, update_running_average=False)
    x = jnp.asarray(BATCHES[0])
    assert layer.apply(layer.init(KEY, x), x).shape == x.shape


@pytest.mark.parametrize('size', [1, 2, 3, 5, 7])
@pytest.mark.parametrize('axis', [-1, 0])
def test_each_ghost_batch_is_normalised_by_itself(size, axis):
    x = RNG.normal(size=(5, 3, 4)).astype(np.float32)
    scale, bias = np.float32([1, 2, 3, 4]), np.float32([4, 3, 2, 1])
    groups = [x[i : i + size].astype(np.float64) for i in range(0, 5, size)]
    expected = [(g - g.mean((0, 1))) / np.sqrt(g.var((0, 1)) + 1e-5) for g in groups]
    expected = np.concatenate(expected) * scale + bias
    moved = np.moveaxis(x, -1, axis)
    y, batch = ghost_batch_norm(moved, size, scale, bias, axis=axis)
    np.testing.assert_allclose(np.moveaxis(y, axis, -1), expected, 1e-4, 1e-4)
    np.testing.assert_allclose(batch.mean, x.mean((0, 1)), 1e-4, 1e-6)
    np.testing.assert_allclose(batch.var, x.var((0, 1)), 1e-5)
    np.testing.assert_array_equal(batch.count, 15)


def test_a_mask_holds_in_ghost_batches():
    x = np.where(np.arange(6)[:, None] == 1, np.nan, RNG.normal(size=(6, 2)))
    where = np.isfinite(x[:, :1])
    y, batch = ghost_batch_norm(jnp.float32(x), 3, where=where)
    kept = x[[0, 2]]
    expected = (kept - kept.mean(0)) / np.sqrt(kept.var(0) + 1e-5)
    np.testing.assert_allclose(y[jnp.array([0, 2])], expected, 1e-4, 1e-5)
    np.testing.assert_allclose(batch.mean, np.nanmean(x, 0), 1e-5)
    assert (y[1] == 0).all() and (batch.count == 5).all()


def test_a_layer_of_ghost_batches_keeps_what_the_whole_batch_has():
    layer = BatchNorm(ghost_batch_size=2, debias=True)
    whole = trained(BatchNorm(debias=True))
    for name, value in trained(layer).items():
        np.testing.assert_allclose(value, whole[name], 1e-4, 1e-6)


def test_pooling_is_merging_one_after_the_other():
    parts = [bnjax.moments(jnp.asarray(x[:n])) for n, x in enumerate(BATCHES, 0)]
    merged = parts[0]
    for part in parts[1:]:
        merged = bnjax.merge(merged, part)
    stacked = bnjax.Moments(*(jnp.stack(v) for v in zip(*parts, strict=True)))
    for a, b in zip(pool(stacked), merged, strict=True):
        np.testing.assert_allclose(a, b, 1e-5)


def test_ghost_batches_need_a_size():
    with pytest.raises(ValueError, match='size=0'):
        ghost_batch_norm(jnp.ones((2, 3)), 0)
