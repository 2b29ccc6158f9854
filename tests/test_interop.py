"""Values to and from other libraries; torch itself is in test_interop_torch.py."""

import itertools

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bnjax.nnx
from bnjax.interop import from_nnx, from_torch, to_flax, to_nnx, to_torch
from bnjax.linen import BatchNorm

F32 = np.float32
RNG = np.random.default_rng(0)
X, *BATCHES = (3 * RNG.normal(size=(5, 6, 3, 4)) + 1).astype(F32)  # features on axis 1
STATE = {  # as torch names it
    'weight': F32([0.1, -2, 1]),
    'bias': F32([0, 1 / 3, 7]),
    'running_mean': F32([1, 0.1, -3]),
    'running_var': F32([0.3, 2, 1e-6]),
    'num_batches_tracked': np.array(0),
}
LARGE = {**STATE, 'running_var': F32([0.3, 2, 1]), 'num_batches_tracked': np.array(7)}
SUBSETS = {
    'scale and bias': STATE,
    'scale': {k: v for k, v in STATE.items() if k != 'bias'},
    'neither': {k: v for k, v in STATE.items() if k not in ('weight', 'bias')},
    'bfloat16': {**STATE, 'weight': jnp.bfloat16(STATE['weight'])},
}
subsets = pytest.mark.parametrize('state', SUBSETS.values(), ids=SUBSETS)


def evaluate(fields, variables, x=X):
    layer = BatchNorm(**fields, axis=1)
    return layer.apply(variables, x, use_running_average=True)


def train(fields, variables, batches, layer_type=BatchNorm):
    """The output for each batch, and the variables after them."""
    layer, outputs = layer_type(**{**fields, 'axis': 1}), []
    for x in batches:
        y, new = layer.apply(
            variables, x, use_running_average=False, mutable=['batch_stats']
        )
        variables = {**variables, **new}
        outputs.append(y)
    return outputs, variables


def train_nnx(layer, batches):
    layer.axis = 1
    layer.train()
    return [layer(x) for x in batches]


def assert_same_bits(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert np.asarray(g).dtype == np.asarray(w).dtype
        np.testing.assert_array_equal(np.asarray(g), np.asarray(w))


def assert_close(got, want, tolerance=1e-5):
    got, want = jax.tree.leaves(got), jax.tree.leaves(want)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, tolerance, tolerance)


def expand(value):
    return value.astype('f8')[:, None]


def test_torchs_layer_evaluates_the_same():
    fields, variables = from_torch(STATE, eps=1e-3)
    mean, var = expand(STATE['running_mean']), expand(STATE['running_var'])
    want = (X - mean) / np.sqrt(var + 1e-3)
    want = want * expand(STATE['weight']) + expand(STATE['bias'])
    assert_close(evaluate(fields, variables), want, 1e-6)


@pytest.mark.parametrize('momentum', [0.1, 0.03, None])
def test_torchs_running_statistics_go_on_as_in_torch(momentum):
    fields, variables = from_torch(LARGE, momentum=momentum)
    _, variables = train(fields, variables, BATCHES)
    mean, var = LARGE['running_mean'], LARGE['running_var']
    for step, x in enumerate(BATCHES, start=8):
        replaced = 1 / step if momentum is None else momentum
        mean = (1 - replaced) * mean + replaced * x.mean((0, 2), 'f8')
        var = (1 - replaced) * var + replaced * x.var((0, 2), 'f8', ddof=1)
    assert_close(variables['batch_stats']['mean'], mean)
    assert_close(variables['batch_stats']['var'], var)


@subsets
def test_torchs_state_comes_back_to_the_bit(state):
    arguments, back = to_torch(*from_torch(state, momentum=0.1, eps=1e-3))
    assert (arguments['momentum'], arguments['eps']) == (0.1, 1e-3)
    again = {k: v.astype(state[k].dtype) for k, v in back.items()}
    assert_same_bits(again, state)
    del back['num_batches_tracked']
    assert all(value.dtype == F32 for value in back.values())  # what torch can take


@pytest.mark.parametrize('momentum', [0, 1e-5, 0.001, 0.01, 0.1, 0.7, 0.9, 1])
def test_momentum_is_the_fraction_kept_here_and_replaced_in_torch(momentum):
    fields, variables = from_torch(STATE, momentum=momentum)
    assert fields['momentum'] == pytest.approx(1 - momentum, rel=1e-15)
    assert to_torch(fields, variables)[0]['momentum'] == momentum


def test_flaxs_defaults_are_what_fields_leave_out():
    arguments, _ = to_torch({}, from_torch(STATE)[1])
    assert arguments == {'num_features': 3, 'eps': 1e-5, 'momentum': 0.01} | {
        'affine': True
    }


def test_a_cumulative_average_takes_its_count_along():
    fields, variables = from_torch(LARGE, momentum=None)
    assert_same_bits(variables['batch_stats']['count'], F32([7, 7, 7]))
    arguments, state = to_torch(fields, variables)
    assert arguments['momentum'] is None
    assert_same_bits(state, LARGE)


def test_a_count_that_is_not_there_is_that_of_no_batches():
    state = {k: v for k, v in LARGE.items() if k != 'num_batches_tracked'}
    _, variables = from_torch(state, momentum=None)
    assert_same_bits(variables['batch_stats']['count'], F32([0, 0, 0]))


def test_a_bias_alone_gets_a_weight_of_ones_for_torch():
    fields, variables = from_torch(STATE)
    fields['use_scale'] = False
    del variables['params']['scale']
    arguments, state = to_torch(fields, variables)
    assert arguments['affine'] and 'bias' not in arguments
    assert_same_bits(state['weight'], F32([1, 1, 1]))
    back = evaluate(*from_torch(state))
    np.testing.assert_array_equal(back, evaluate(fields, variables))


def test_a_layer_without_running_statistics_always_normalises_by_the_batch():
    state = {name: STATE[name] for name in ('weight', 'bias')}
    fields, variables = from_torch(state)
    y = BatchNorm(**fields, axis=1).apply(variables, X)
    x = X.astype('f8')
    var = x.var((0, 2), keepdims=True)
    want = (x - x.mean((0, 2), keepdims=True)) / np.sqrt(var + 1e-5)
    assert_close(y, want * expand(state['weight']) + expand(state['bias']))
    arguments, back = to_torch(fields, variables)
    assert arguments['track_running_stats'] is False
    assert_same_bits(back, state)


def test_debiased_statistics_are_torchs_as_they_stand():
    fields = {'momentum': 0.9, 'debias': True, 'use_bias': False, 'use_scale': False}
    variables = BatchNorm(**fields, axis=1).init(
        jax.random.key(0), X, use_running_average=False
    )
    for batches in ([], BATCHES):
        _, trained = train(fields, variables, batches)
        arguments, state = to_torch(fields, trained)
        assert arguments['affine'] is False
        stats = trained['batch_stats']
        assert_same_bits(state['running_mean'], stats['mean'])
        assert_same_bits(state['running_var'], stats['var'])


def test_what_torch_does_in_place_is_not_seen_here():
    state = {name: value.copy() for name, value in STATE.items()}
    _, variables = from_torch(state)
    _, back = to_torch({}, variables)
    state['running_mean'] += 1
    back['running_var'] += 1
    assert_same_bits(variables['batch_stats']['mean'], STATE['running_mean'])
    assert_same_bits(variables['batch_stats']['var'], STATE['running_var'])


@subsets
@pytest.mark.parametrize('momentum', [0.1, None])
def test_nnx_comes_back_to_the_bit(state, momentum):
    fields, variables = from_torch(state, momentum=momentum)
    layer = to_nnx(fields, variables)
    assert type(layer) is bnjax.nnx.BatchNorm
    back, values = from_nnx(layer)
    assert {name: back[name] for name in fields} == fields
    assert_same_bits(values, variables)


@pytest.mark.parametrize(
    'fields',
    [{'momentum': 0.9}, {'momentum': None}, {'momentum': 0.7, 'debias': True}],
    ids=['momentum', 'cumulative', 'debiased'],
)
def test_nnx_and_linen_train_and_evaluate_alike(fields):
    _, variables = from_torch(LARGE, momentum=None)  # with a count
    layer = to_nnx(fields, variables)
    outputs, trained = train(fields, variables, BATCHES)
    assert_close(train_nnx(layer, BATCHES), outputs, 1e-6)
    layer.eval()
    assert_close(layer(X), evaluate(fields, trained), 1e-6)
    statistics = from_nnx(layer)[1]['batch_stats']
    assert ('count' in statistics) == (fields != {'momentum': 0.9})
    for name, value in statistics.items():
        assert_close(value, trained['batch_stats'][name], 1e-6)


def test_flaxs_linen_layer_trains_and_evaluates_as_ours_does_by_the_same_fields():
    fields, variables = from_torch(LARGE)
    ours = {**fields, 'skip_nonfinite': True, 'debias': True}
    variables['batch_stats']['count'] = jnp.ones(3)
    flaxs, without = to_flax(ours, variables)
    assert flaxs == {name: fields[name] for name in fields if name != 'unbiased'}
    assert set(without['batch_stats']) == {'mean', 'var'}
    got = train(flaxs, without, BATCHES, flax.linen.BatchNorm)
    assert_close(got, train(flaxs, without, BATCHES))
    layer = flax.linen.BatchNorm(**flaxs, axis=1, use_running_average=True)
    assert_close(layer.apply(without, X), evaluate(ours, variables))


def test_flaxs_nnx_layer_goes_there_and_back_to_the_bit():
    fields, variables = to_flax(*from_torch(LARGE))
    layer = to_nnx(fields, variables, nnx.BatchNorm)
    assert type(layer) is nnx.BatchNorm
    back, values = from_nnx(layer)
    assert_same_bits(values, variables)
    assert to_flax(back, values)[0] == back
    assert_close(train_nnx(layer, BATCHES), train(fields, variables, BATCHES)[0])


def test_linens_own_option_does_no_harm_in_nnx():
    fields = {'force_float32_reductions': False, 'momentum': 0.5}
    assert to_nnx(fields, from_torch(STATE)[1]).momentum == 0.5


def test_every_choice_of_scale_and_bias_goes_through_nnx():
    for use_scale, use_bias in itertools.product([True, False], repeat=2):
        layer = nnx.BatchNorm(
            3, use_scale=use_scale, use_bias=use_bias, rngs=nnx.Rngs(0)
        )
        fields, variables = from_nnx(layer)
        again = to_nnx(fields, variables, nnx.BatchNorm)
        assert (again.scale is None, again.bias is None) == (
            not use_scale,
            not use_bias,
        )
