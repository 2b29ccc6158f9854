"""The variants of batch norm beside their formulas, in NumPy and float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import (
    KEY,
    PLACEMENTS,
    SIZES,
    ByHand,
    apply,
    close,
    normal,
    parameters,
    small,
)

import bnjax.linen
from bnjax import config
from bnjax.models import network
from bnjax.models.layers import CONSTANT
from bnjax.models.norms import Batch, Constant, Layer, Noisy, noise

EPSILON, SCALE, BIAS = 0.1, normal(3), normal(3)
SHAPES = [(6, 3), (4, 2, 5, 3)]
KINDS = config.FIELDS['model.norm'].metadata['choices']
each_shape = pytest.mark.parametrize('shape', SHAPES)


def made(kind, train=True, **fields):
    """A layer of its own: of ``constant_...`` the moments by name."""
    form = {'epsilon': EPSILON, 'use_scale': True, 'use_bias': True}
    form |= {'scale': 1.0, 'dtype': jnp.float32}
    if kind is not Layer:
        form |= {'use_running_average': not train, 'momentum': 0.7}
    return kind(**form | fields)


def given(layer, x, **options):
    """What a layer makes of ``x`` with ``SCALE`` and ``BIAS``, and what it changes."""
    variables = layer.init(KEY, x)
    variables['params'] = {'scale': SCALE, 'bias': BIAS}
    return layer.apply(variables, x, mutable=['batch_stats', 'moments'], **options)


def gradient_by_hand(x, dy, constant):
    """Line by line from Ioffe & Szegedy 2015, section 3, but for what is constant."""
    x, dy = (np.float64(a).reshape(-1, 3) for a in (x, dy))
    n, mean, var = len(x), x.mean(0), x.var(0)
    root = np.sqrt(var + EPSILON)
    d_normal = dy * SCALE
    d_var = (d_normal * (x - mean)).sum(0) * -0.5 / root**3
    d_mean = -(d_normal / root).sum(0)
    d_var, d_mean = d_var * ('var' not in constant), d_mean * ('mean' not in constant)
    return d_normal / root + d_var * 2 * (x - mean) / n + d_mean / n


@each_shape
@pytest.mark.parametrize('constant', [(), *CONSTANT.values()])
def test_the_gradient_takes_for_constant_what_is_named(shape, constant):
    x, dy = 2 + normal(*shape), normal(*shape)
    layer = made(Constant, constant=constant)
    y, pull = jax.vjp(lambda x: given(layer, x)[0], x)
    close(np.reshape(pull(dy)[0], (-1, 3)), gradient_by_hand(x, dy, constant))
    close(y, given(made(Batch), x)[0])


@each_shape
def test_with_nothing_constant_the_gradient_is_that_of_batch_norm(shape):
    x, dy = normal(*shape), normal(*shape)
    layers = made(Batch), made(Constant, constant=())
    pulls = (jax.vjp(lambda x, m=m: given(m, x)[0], x)[1] for m in layers)
    close(*(pull(dy)[0] for pull in pulls))


@each_shape
@pytest.mark.parametrize('constant', CONSTANT.values())
def test_scale_and_bias_learn_as_in_batch_norm(shape, constant):
    x, dy = normal(*shape), normal(*shape)

    def gradients(layer):
        stats = {'batch_stats': layer.init(KEY, x)['batch_stats']}

        def of(params):
            both = stats | {'params': params}
            return layer.apply(both, x, mutable=['batch_stats'])[0]

        return jax.vjp(of, {'scale': SCALE, 'bias': BIAS})[1](dy)[0]

    kinds = made(Batch), made(Constant, constant=constant)
    jax.tree.map(close, *map(gradients, kinds))


@pytest.mark.parametrize('constant', CONSTANT.values())
def test_statistics_move_as_in_batch_norm_and_serve_afterwards(constant):
    x = normal(5, 2, 3)
    layers = made(Batch), made(Constant, constant=constant)
    (_, expected), (_, found) = (given(layer, x) for layer in layers)
    jax.tree.map(np.testing.assert_array_equal, dict(found), dict(expected))
    after = made(Batch, train=False), made(Constant, train=False, constant=constant)
    close(*(given(layer, x)[0] for layer in after))


@pytest.mark.parametrize('kind', [Batch, functools.partial(Constant, constant=())])
@pytest.mark.parametrize('use_scale', [True, False])
@pytest.mark.parametrize('use_bias', [True, False])
def test_variables_have_the_names_of_batch_norm(kind, use_scale, use_bias):
    fields = {'use_scale': use_scale, 'use_bias': use_bias}
    ours = made(kind, **fields).init(KEY, normal(2, 3))
    layer = bnjax.linen.BatchNorm(use_running_average=False, **fields)
    expected = layer.init(KEY, normal(2, 3))
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


@each_shape
@pytest.mark.parametrize('kind', [Batch, functools.partial(Constant, constant=())])
def test_the_scale_is_where_learning_starts_or_a_fixed_factor(shape, kind):
    x = normal(*shape)
    rows = np.float64(x).reshape(-1, 3)
    expected = 0.25 * (rows - rows.mean(0)) / np.sqrt(rows.var(0) + EPSILON)
    for use_scale in (True, False):
        layer = made(kind, use_scale=use_scale, scale=0.25)
        variables = layer.init(KEY, x)
        assert ('scale' in variables['params']) == use_scale
        y, _ = layer.apply(variables, x, mutable=['batch_stats'])
        close(np.reshape(y, (-1, 3)), expected)


@each_shape
def test_layer_norm_is_by_the_moments_of_each_position(shape):
    x, dy = normal(*shape), normal(*shape)
    rows = np.float64(x).reshape(-1, 3)
    mean, var = (f(rows, 1, keepdims=True) for f in (np.mean, np.var))
    expected = SCALE * (rows - mean) / np.sqrt(var + EPSILON) + BIAS
    (y, changed), pull = jax.vjp(lambda x: given(made(Layer), x), x)
    close(np.reshape(y, (-1, 3)), expected)
    assert changed == {}
    d_normal = np.float64(dy).reshape(-1, 3) * SCALE
    root, normal_rows = np.sqrt(var + EPSILON), (rows - mean) / np.sqrt(var + EPSILON)
    along = (d_normal * normal_rows).mean(1, keepdims=True) * normal_rows
    dx = (d_normal - d_normal.mean(1, keepdims=True) - along) / root
    close(np.reshape(pull((dy, {}))[0], (-1, 3)), dx)


# Noise


def test_noise_is_drawn_for_units_and_about_these_for_samples():
    stretch, shift = np.float64(noise(KEY, (2000, 300)))
    means, deviations = shift.mean(0), stretch.mean(0)
    # The extremes of 300 uniform draws, and of 2000 about each.
    assert -0.5 < means.min() < -0.48 and 0.48 < means.max() < 0.5
    assert 0.99 < deviations.min() < 1.01 and 1.24 < deviations.max() < 1.26
    apart = shift - means
    assert 0.09 < abs(apart).max() < 0.11
    np.testing.assert_allclose(apart.std(0), 0.1 / np.sqrt(3), rtol=0.1)
    about = stretch - deviations
    np.testing.assert_allclose(about.std(0), 0.1, rtol=0.1)
    assert abs((about**4).mean() / 0.1**4 - 3) < 0.1  # as of a normal distribution
    assert abs(np.corrcoef(shift.ravel(), stretch.ravel())[0, 1]) < 0.1


def test_in_a_convolution_the_positions_of_a_channel_share_the_noise():
    stretch, shift = noise(KEY, (4, 5, 6, 3))
    assert stretch.shape == shift.shape == (4, 1, 1, 3)
    assert len(np.unique(shift)) == len(np.unique(stretch)) == 12


@each_shape
def test_noise_comes_after_batch_norm_in_training_alone(shape):
    x, rngs = normal(*shape), {'noise': KEY}
    plain, expected = given(made(Batch), x)
    quiet, _ = given(made(Noisy), x)
    np.testing.assert_array_equal(quiet, plain)
    noisy, changed = given(made(Noisy), x, rngs=rngs)
    again, _ = given(made(Noisy), x, rngs=rngs)
    np.testing.assert_array_equal(noisy, again)
    jax.tree.map(np.testing.assert_array_equal, dict(changed), dict(expected))
    other, _ = given(made(Noisy), x, rngs={'noise': jax.random.key(1)})
    assert (other != noisy).all()
    # Two unknowns a sample and unit: a second output tells them.
    if len(shape) == 4:
        flat, noised = (np.float64(a).reshape(4, 10, 3) for a in (plain, noisy))
        stretch = (noised[:, 0] - noised[:, 1]) / (flat[:, 0] - flat[:, 1])
        shift = noised[:, 0] - stretch * flat[:, 0]
        close(noised, stretch[:, None] * flat + shift[:, None], 1e-4)
        assert abs(shift).max() < 0.6 and 0.6 < stretch.min() < stretch.max() < 1.65
    evaluated = given(made(Noisy, train=False), x, rngs=rngs)[0]
    np.testing.assert_array_equal(evaluated, given(made(Batch, train=False), x)[0])


# In the networks


@pytest.mark.parametrize(
    ('name', 'placement', 'kind'),
    [
        *((name, 'before', 'layer') for name in SIZES),
        *((name, 'after', 'layer') for name in ('mlp', 'rnn')),
        *(('mlp', placement, 'constant_statistics') for placement in PLACEMENTS[1:]),
    ],
)
def test_forward_by_hand(name, placement, kind):
    fields = {'placement': placement, 'norm': kind, 'epsilon': 0.1}
    if name in ('mlp', 'rnn'):
        fields |= {'use_scale': False, 'scale': 0.3}
    net, variables, x = small(name, **fields)
    assert ('batch_stats' in variables) == (kind != 'layer')
    for train in (True, False):
        logits, changed = apply(net, variables, x, train)
        by_hand = ByHand(net.settings, variables, train)
        close(logits, by_hand(x), rtol=1e-4)
        for layer, expected in by_hand.new_stats().items():
            jax.tree.map(close, changed['batch_stats'][layer], expected)


@pytest.mark.parametrize('kind', KINDS)
def test_every_variant_begins_with_the_same_parameters(kind):
    net, _, x = small('mlp', norm=kind)
    plain, _, _ = small('mlp')
    first = (parameters(each, x) for each in (net, plain))
    jax.tree.map(np.testing.assert_array_equal, *first)


@pytest.mark.parametrize('name', ['rnn', 'lstm'])
def test_a_recurrent_network_has_no_other_variant(name):
    for kind in set(KINDS) - {'batch', 'layer'}:
        net = network(config.Model(name=name, norm=kind), classes=2)
        with pytest.raises(ValueError, match=rf"model\.norm='{kind}' .*batch or layer"):
            jax.eval_shape(lambda net=net: net.init(KEY, normal(2, 3, 3, 1), False))


@pytest.mark.parametrize(('name', 'tenth'), [('mlp', 1), ('rnn', 0.1), ('lstm', 0.1)])
def test_the_scale_begins_where_it_is_asked_to(name, tenth):
    net, _, x = small(name, scale=0.5)
    for layer, values in parameters(net, x).items():
        if layer.startswith('norm_'):
            np.testing.assert_array_equal(values['scale'], np.float32(0.5 * tenth))
