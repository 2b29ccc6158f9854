"""Gradient accumulation: one update of running statistics for each optimizer step."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnjax.linen
from bnjax.population import update_layers

RNG = np.random.default_rng(0)
MICRO_BATCHES = RNG.normal(2, 3, (3, 8, 4)).astype('f4')
MASK = RNG.random((3, 8, 1)) < [[[0.9]], [[0.4]], [[0.0]]]  # the last holds nothing


class Net(nn.Module):
    debias: bool = False

    @nn.compact
    def __call__(self, x, mask=None):
        norm = bnjax.linen.BatchNorm(
            use_running_average=False, update_running_average=False, debias=self.debias
        )
        return nn.Dense(2)(norm(x, mask=mask))


def accumulated(model, mask=None, **how):
    """A step over the micro-batches, as a scan; and what was there before."""
    variables = model.init(jax.random.key(0), MICRO_BATCHES[0])

    def micro_step(carry, batch):
        _, seen = model.apply(variables, *batch, mutable=['moments'])
        return carry, seen['moments']

    batches = (MICRO_BATCHES,) if mask is None else (MICRO_BATCHES, mask)
    _, moments = jax.lax.scan(micro_step, None, batches)
    new = update_layers(variables['batch_stats'], moments, **how)
    return new['BatchNorm_0']


def values(mask):
    whole = MICRO_BATCHES.reshape(-1, 4).astype('f8')
    return whole if mask is None else whole[mask.reshape(-1)]


@pytest.mark.parametrize('mask', [None, MASK], ids=['all', 'masked'])
@pytest.mark.parametrize('unbiased', [False, True])
def test_a_step_counts_once_with_the_moments_of_all_micro_batches(mask, unbiased):
    new = accumulated(Net(), mask, momentum=0.9, unbiased=unbiased)
    seen = values(mask)
    np.testing.assert_allclose(new['mean'], 0.1 * seen.mean(0), 1e-5)
    expected = 0.9 + 0.1 * seen.var(0, ddof=int(unbiased))
    np.testing.assert_allclose(new['var'], expected, 1e-5)


def test_the_count_of_steps_moves_by_one():
    debiased = accumulated(Net(debias=True), momentum=0.9)
    np.testing.assert_allclose(debiased['count'], 0.1, 1e-6)
    np.testing.assert_allclose(debiased['mean'], values(None).mean(0), 1e-5)
    cumulative = accumulated(Net(debias=True), momentum=None)
    np.testing.assert_array_equal(cumulative['count'], 1.0)


def test_nothing_seen_or_nothing_finite_leaves_the_statistics_as_they_were():
    nothing = accumulated(Net(), np.zeros_like(MASK), momentum=0.9)
    np.testing.assert_array_equal(nothing['var'], 1.0)
    old = {'norm': {'mean': jnp.zeros(2), 'var': jnp.ones(2)}}
    broken = bnjax.moments(jnp.array([[1.0, jnp.nan], [3.0, 0.0]]))
    seen = {'norm': {'batch': (broken,)}}
    new = update_layers(old, seen, 0.0, skip_nonfinite=True)['norm']
    np.testing.assert_array_equal(new['mean'], [2.0, 0.0])


def test_a_layer_without_moments_is_named():
    old = {'norm': {'mean': jnp.zeros(2), 'var': jnp.ones(2)}}
    with pytest.raises(ValueError, match='batch_stats/norm'):
        update_layers(old, {}, 0.9)
