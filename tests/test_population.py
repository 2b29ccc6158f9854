"""Re-estimated statistics beside those of the whole data in float64."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.core import freeze

import bnjax.nnx
from bnjax.linen import BatchNorm
from bnjax.population import merge_replicas, reestimate

RNG = np.random.default_rng(0)
# Of features with unlike means and deviations.
X = (RNG.normal(size=(50, 4)) * [1, 0.1, 10, 1] + [0, 10, -3, 1]).astype('f4')
UNEVEN = [X[:20], X[20:40], X[40:]]
KEY = jax.random.key(0)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, train, mask=None):
        x = BatchNorm(not train, name='first')(x, mask=mask)
        return BatchNorm(not train, name='second')(nn.relu(nn.Dense(3)(x)), mask=mask)


class Net(nn.Module):
    """Nested, with a layer called twice."""

    @nn.compact
    def __call__(self, x, train, mask=None):
        x = Block(name='block')(x, train, mask)
        shared = BatchNorm(not train, name='shared')
        return shared(x, mask=mask) + shared(3 * x + 1, mask=mask)


NET = Net()
VARIABLES = NET.init(KEY, X[:2], train=False)


def measuring(model, **options):
    options = {'train': True, 'mutable': ['batch_stats', 'moments'], **options}
    return functools.partial(model.apply, **options)


def assert_statistics(got, values, rtol=1e-5):
    values = np.concatenate(values).astype('f8')
    np.testing.assert_allclose(got['mean'], values.mean(0), rtol=rtol, atol=1e-6)
    np.testing.assert_allclose(got['var'], values.var(0), rtol=rtol)


def normalized(x):
    x = x.astype('f8')
    return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)


def activations(x):
    """What the layers after the first see of a batch, in float64."""
    dense = jax.tree.map(np.asarray, VARIABLES['params']['block']['Dense_0'])
    hidden = np.maximum(normalized(x) @ dense['kernel'] + dense['bias'], 0)
    return hidden, normalized(hidden)


def test_the_first_layer_sees_the_data_as_one_batch():
    stats = reestimate(measuring(NET), VARIABLES, UNEVEN)
    assert_statistics(stats['block']['first'], UNEVEN)
    assert jax.tree.map(jnp.shape, stats) == jax.tree.map(
        jnp.shape, VARIABLES['batch_stats']
    )


def test_deeper_layers_see_what_training_would_show_them():
    stats = reestimate(measuring(NET), VARIABLES, UNEVEN)
    assert_statistics(stats['block']['second'], [activations(x)[0] for x in UNEVEN])


def test_a_layer_called_twice_counts_both_calls():
    stats = reestimate(measuring(NET), VARIABLES, UNEVEN)
    once = [activations(x)[1] for x in UNEVEN]
    assert_statistics(stats['shared'], once + [3 * x + 1 for x in once])


def test_one_batch_gives_its_own_statistics_whatever_was_there_before():
    assert_statistics(reestimate(measuring(NET), VARIABLES, [X])['block']['first'], [X])
    old = jax.tree.map(lambda v: v + 7, VARIABLES['batch_stats'])
    again = reestimate(measuring(NET), VARIABLES | {'batch_stats': old}, [X])
    want = reestimate(measuring(NET), VARIABLES, [X])
    jax.tree.map(np.testing.assert_array_equal, again, want)


def test_masked_rows_of_a_padded_last_batch_count_for_nothing():
    def padded(x):
        rows = np.full((20, 4), np.nan, 'f4')
        rows[: len(x)] = x
        return rows, np.arange(20)[:, None] < len(x)

    def measure(variables, batch):
        x, mask = batch
        return measuring(NET)(variables, x, mask=mask)

    batches = [padded(x) for x in [*UNEVEN, X[:0]]]
    stats = reestimate(jax.jit(measure), VARIABLES, batches)
    want = reestimate(measuring(NET), VARIABLES, UNEVEN)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4), stats, want)
    assert_statistics(stats['block']['first'], UNEVEN)


def test_nothing_seen_leaves_the_statistics_as_they_were():
    masked = measuring(NET, mask=np.zeros((50, 1), bool))
    stats = reestimate(masked, VARIABLES, [X])
    jax.tree.map(np.testing.assert_array_equal, stats, VARIABLES['batch_stats'])


def test_devices_that_share_statistics_agree_on_those_of_all():
    layer = BatchNorm(False, axis_name='devices')
    variables = layer.init(KEY, X)
    mask = np.arange(50)[:, None] < 47
    apply = functools.partial(layer.apply, mutable=['batch_stats', 'moments'])
    rows = (X.reshape(5, 10, 4), mask.reshape(5, 10, 1))

    def each(batch):
        x, mask = batch

        def measure(variables, x):
            return apply(variables, x, mask=mask)

        return reestimate(measure, variables, [x, 2 * x])

    want = [X[:47], 2 * X[:47]]
    by_device = jax.jit(jax.vmap(each, axis_name='devices'))(rows)
    for device in range(5):
        assert_statistics(jax.tree.map(lambda v, i=device: v[i], by_device), want)


@pytest.mark.parametrize('axis_name', [None, 'devices'])
def test_moments_stacked_by_device_are_pooled(axis_name):
    layer = BatchNorm(False, axis_name=axis_name)
    variables = layer.init(KEY, X)
    apply = functools.partial(layer.apply, mutable=['batch_stats', 'moments'])
    on_devices = jax.jit(jax.vmap(apply, in_axes=(None, 0), axis_name='devices'))
    stats = reestimate(
        on_devices, variables, [X[:30].reshape(2, 15, 4), X[30:].reshape(2, 10, 4)]
    )
    assert_statistics(stats, [X])


def test_many_batches_keep_a_small_variance_beside_a_large_mean():
    x = (1e4 + RNG.normal(size=(200, 50, 1))).astype('f4')
    layer = BatchNorm(False)
    apply = jax.jit(functools.partial(layer.apply, mutable=['batch_stats', 'moments']))
    stats = reestimate(apply, layer.init(KEY, x[0]), x)
    assert_statistics(stats, list(x))


def test_batches_may_be_an_array_and_the_whole_be_compiled():
    compiled = jax.jit(functools.partial(reestimate, measuring(NET)))
    stats = compiled(VARIABLES, X.reshape(5, 10, 4))
    assert_statistics(stats['block']['first'], [X])


def test_what_else_is_in_the_variables_stays_out_of_it():
    _, changed = measuring(NET)(VARIABLES, X)
    stale = freeze({**VARIABLES, 'moments': changed['moments']})
    stats = reestimate(measuring(NET), stale, UNEVEN)
    assert type(stats) is type(stale)
    assert_statistics(stats['block']['first'], UNEVEN)


class Scanned(nn.Module):
    """One layer called three times by a scan."""

    @nn.compact
    def __call__(self, x, train):
        def body(norm, x, _):
            return norm(x) * 2 + 1, None

        norm = BatchNorm(not train, name='norm')
        if self.is_initializing():
            return norm(x)
        scan = nn.scan(
            body,
            variable_broadcast='params',
            variable_carry='batch_stats',
            variable_axes={'moments': 0},
            length=3,
        )
        return scan(norm, x, None)[0]


def test_a_layer_in_a_scan_counts_each_turn():
    variables = Scanned().init(KEY, X, train=False)
    stats = reestimate(jax.jit(measuring(Scanned())), variables, UNEVEN)
    seen = []
    for x in UNEVEN:
        seen += [x, 2 * normalized(x) + 1, 2 * normalized(2 * normalized(x) + 1) + 1]
    assert_statistics(stats['norm'], seen)


class NNXNet(nnx.Module):
    def __init__(self, rngs):
        self.norms = nnx.List([bnjax.nnx.BatchNorm(4, rngs=rngs) for _ in range(2)])

    def __call__(self, x):
        first, second = self.norms
        return second(first(x)) + second(3 * x + 1)


def test_a_network_of_nnx_is_measured_through_capture():
    model = NNXNet(nnx.Rngs(0))
    graph, parameters, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)

    @jax.jit
    def measure(variables, x):
        model = nnx.merge(graph, *variables['state'])
        y, seen = nnx.capture(model, nnx.Intermediate)(x)
        return y, {'moments': nnx.to_pure_dict(seen)}

    variables = {
        'batch_stats': nnx.to_pure_dict(batch_stats),
        'state': (parameters, batch_stats),
    }
    new = reestimate(measure, variables, UNEVEN)['norms']
    assert_statistics(new[0], [X])
    second = [v for x in UNEVEN for v in (normalized(x), 3 * x.astype('f8') + 1)]
    assert_statistics(new[1], second)


@pytest.mark.parametrize(('updates', 'count'), [(0, 1), (3, 3)])
def test_the_next_update_takes_the_new_statistics_for_seen(updates, count):
    layer = BatchNorm(False, momentum=None)
    variables = layer.init(KEY, X)
    apply = functools.partial(layer.apply, mutable=['batch_stats', 'moments'])
    for _ in range(updates):
        variables = {**variables, **apply(variables, 3 * X)[1]}
    stats = reestimate(apply, variables, UNEVEN)
    assert_statistics(stats, [X])
    assert stats['count'].tolist() == [count] * 4


def test_moments_cost_nothing_unless_asked_for_and_are_none_of_the_variables():
    assert set(VARIABLES) == {'params', 'batch_stats'}

    def train(variables):
        return NET.apply(variables, X, train=True, mutable=['batch_stats'])

    assert set(train(VARIABLES)[1]) == {'batch_stats'}


@pytest.mark.parametrize('options', [{'train': False}, {'mutable': ['batch_stats']}])
def test_a_layer_without_moments_is_named(options):
    with pytest.raises(
        ValueError, match='no moments of batch_stats/block/first; run this'
    ):
        reestimate(measuring(NET, **options), VARIABLES, [X])


def test_an_output_alone_is_refused():
    with pytest.raises(ValueError, match='there are no moments'):
        reestimate(lambda *_: X, VARIABLES, [X])


def test_another_batch_norm_in_the_network_is_named():
    class Mixed(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return nn.BatchNorm(not train, name='flax')(BatchNorm(not train)(x))

    variables = Mixed().init(KEY, X, train=False)
    with pytest.raises(ValueError, match='batch_stats/flax; run this layer'):
        reestimate(measuring(Mixed()), variables, [X])


def test_no_batches():
    with pytest.raises(ValueError, match='batches is empty'):
        reestimate(measuring(NET), VARIABLES, [])


def test_a_network_without_batch_norm_has_none():
    dense = nn.Dense(3)
    apply = functools.partial(dense.apply, mutable=['batch_stats', 'moments'])
    assert reestimate(apply, dense.init(KEY, X), UNEVEN) == {}


def test_replicas_merge_by_the_total_variance():
    x = X.reshape(5, 10, 4) + np.arange(5, dtype='f4')[:, None, None]
    replicas = {'block': {'norm': {'mean': x.mean(1), 'var': x.var(1)}}}
    assert_statistics(merge_replicas(replicas)['block']['norm'], list(x))
