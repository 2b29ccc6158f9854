"""The health read-out finds what was put there."""

import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bnjax.nnx
from bnjax.health import Health, health
from bnjax.linen import BatchNorm

F32 = np.float32
MEAN = F32([0, -3, 8, 0, 1])
VAR = F32([1, 4, 16, 1e-6, 0.25])
SCALE = F32([1, 1, 0, 1, 1])
SOUND = Health(
    features=5,
    untouched=1,
    smallest_variance=float(F32(1e-6)),
    largest_mean_over_deviation=2.0,
    below_epsilon=1,
    nonfinite=0,
)


def read(mean=MEAN, var=VAR, scale=SCALE, **options):
    variables = {
        'params': {'scale': scale, 'bias': scale},
        'batch_stats': {'mean': mean, 'var': var},
    }
    return health(variables, **options)['']


def with_value(values, value, at=0):
    values = values.copy()
    values[at] = value
    return values


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return BatchNorm(not train, name='norm')(nn.Dense(3)(x))


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = BatchNorm(not train, use_bias=False, name='first')(x)
        return Block(name='block')(x, train)


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        linear = nnx.Linear(2, 3, rngs=rngs)
        self.block = nnx.Sequential(linear, bnjax.nnx.BatchNorm(3, rngs=rngs))
        self.norm = nnx.BatchNorm(3, use_scale=False, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.dropout(self.norm(self.block(x)))


def test_each_number_says_what_it_is_of():
    assert read() == SOUND


def test_epsilon_is_the_bound_of_a_variance_that_is_too_small():
    assert read(epsilon=0.5).below_epsilon == 2
    assert read(epsilon=1e-9).below_epsilon == 0


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('name', ['mean', 'var', 'scale'])
def test_what_is_not_finite_is_counted_and_hides_nothing(name, value):
    values = {'mean': MEAN, 'var': VAR, 'scale': SCALE}
    got = read(**{name: with_value(values[name], value)})
    assert got.nonfinite == (2 if name == 'scale' else 1)
    if np.isnan(value):
        assert got.smallest_variance == SOUND.smallest_variance
        assert got.largest_mean_over_deviation == 2
        assert got.below_epsilon == 1


def test_an_infinite_mean_or_a_negative_variance_is_the_extreme():
    infinite = read(mean=with_value(MEAN, -np.inf))
    assert infinite.largest_mean_over_deviation == np.inf
    negative = read(var=with_value(VAR, -0.5, at=1))
    assert negative.smallest_variance == -0.5
    assert negative.largest_mean_over_deviation == np.inf
    assert negative.below_epsilon == 2


def test_a_layer_of_nothing_but_nan_has_no_extremes():
    nan = np.full(5, np.nan, F32)
    got = read(nan, nan, nan)
    assert np.isnan([got.smallest_variance, got.largest_mean_over_deviation]).all()
    assert (got.nonfinite, got.below_epsilon, got.untouched) == (20, 0, 0)


def test_without_variance_a_mean_is_infinitely_far_from_zero_unless_it_is_zero():
    zero = np.zeros(5, F32)
    assert read(mean=MEAN, var=zero).largest_mean_over_deviation == np.inf
    assert read(mean=zero, var=zero).largest_mean_over_deviation == 0


def test_a_layer_without_features_has_no_extremes():
    none = np.zeros(0, F32)
    got = read(none, none, none)._asdict()
    extremes = [
        got.pop(name) for name in ('smallest_variance', 'largest_mean_over_deviation')
    ]
    assert np.isnan(extremes).all()
    assert set(got.values()) == {0}


@pytest.mark.parametrize(
    ('variables', 'named'),
    [
        (None, 'variables is None; give a dictionary'),
        ([MEAN, VAR], 'variables is a list; give a dictionary'),
        ({'batch_stats': None}, 'batch_stats is None; give a dictionary'),
        ({'batch_stats': {}, 'params': [SCALE]}, 'params is a list; give a dict'),
    ],
)
def test_what_is_no_tree_is_refused(variables, named):
    with pytest.raises(TypeError, match=named):
        health(variables)


@pytest.mark.parametrize(
    ('epsilon', 'error'),
    [(0, ValueError), (-1, ValueError), (np.nan, ValueError), ('a', TypeError)],
)
def test_an_epsilon_that_no_layer_has_is_refused(epsilon, error):
    with pytest.raises(error, match=f'epsilon={epsilon!r} must be a number'):
        read(epsilon=epsilon)


def test_a_variance_of_other_features_than_the_mean_is_refused():
    uneven = {'block': {'norm': {'mean': MEAN, 'var': VAR[:1]}}}
    with pytest.raises(ValueError, match=r'^block/norm: mean has .*\(1,\)'):
        health({'batch_stats': uneven})


def test_statistics_that_were_dropped_are_untouched():
    x = 3 + jax.random.normal(jax.random.key(0), (8, 2))
    model = Net()
    variables = model.init(jax.random.key(1), x, train=True)
    _, new = model.apply(variables, x, train=True, mutable=['batch_stats'])
    dropped, kept = health(variables), health({**variables, **new})
    assert set(kept) == {'first', 'block/norm'}
    assert {name: h.untouched for name, h in kept.items()} == dict.fromkeys(kept, 0)
    assert all(h.untouched == h.features for h in dropped.values())


def test_parameters_are_looked_for_beside_their_statistics():
    variables = Net().init(jax.random.key(0), jnp.ones((4, 2)), train=True)
    nan = jnp.full(2, jnp.nan)
    params = {**variables['params'], 'first': {'scale': nan}}
    assert health({**variables, 'params': params})['first'].nonfinite == 2
    assert health({'batch_stats': variables['batch_stats']})['first'].nonfinite == 0


def test_an_nnx_state_reads_as_linens_variables_do():
    model = NnxNet(nnx.Rngs(0))
    model(3 + jax.random.normal(jax.random.key(0), (8, 2)))
    model.norm.bias[...] = jnp.array([0, jnp.nan, 0])
    state = nnx.state(model)
    got = health(nnx.to_pure_dict(state))
    assert set(got) == {'block/layers/1', 'norm'}
    assert [(h.features, h.untouched, h.nonfinite) for h in got.values()] == [
        (3, 0, int(name == 'norm')) for name in got
    ]
    assert health(state) == got


def test_the_members_of_an_ensemble_are_taken_together():
    init = functools.partial(Net().init, train=True)
    keys = jax.random.split(jax.random.key(0), 4)
    variables = jax.vmap(init, (0, None))(keys, jnp.ones((6, 2)))
    bad = variables['batch_stats']['first']['var'].at[2, 1].set(1e-9)
    variables['batch_stats']['first']['var'] = bad
    got = health(variables)['first']
    assert (got.features, got.below_epsilon, got.untouched) == (8, 1, 7)
    assert got.smallest_variance == pytest.approx(1e-9)


def test_modules_that_are_named_like_statistics_are_no_layer():
    heads = {'mean': {'norm': {'mean': MEAN, 'var': VAR}}, 'var': {'kernel': SCALE}}
    assert set(health({'batch_stats': heads})) == {'mean/norm'}


def test_a_network_without_batch_norms_gives_nothing():
    assert health({'params': {'kernel': SCALE}}) == {}


def test_it_is_plain_numbers():
    got = health({'batch_stats': {'mean': MEAN, 'var': jnp.asarray(VAR, jnp.bfloat16)}})
    again = json.loads(json.dumps({name: h._asdict() for name, h in got.items()}))
    assert {name: Health(**h) for name, h in again.items()} == got
