"""Weights and biases as training begins with them."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from networks import KEY, PLACEMENTS, SIZES, close, normal, parameters, small
from plain import CLASSES, images, trial

from bnjax import config
from bnjax.models import network, with_noise_on_biases
from bnjax.trial import init

each_network = pytest.mark.parametrize('name', list(SIZES))
each_placement = pytest.mark.parametrize('placement', PLACEMENTS)


@pytest.mark.parametrize('rule', ['he_normal', 'glorot_uniform', 'lecun_normal'])
def test_kernels_come_from_the_named_initialiser(rule):
    net = network(config.Model(name='cnn', features=(64,), init=rule), classes=50)
    params = parameters(net, normal(1, 4, 4, 9))
    for layer in ('hidden_0', 'output'):
        kernel = params[layer]['kernel']
        reference = getattr(nn.initializers, rule)()(KEY, kernel.shape)
        assert 0.92 < kernel.std() / reference.std() < 1.08
        assert 'normal' in rule or abs(kernel).max() < 1.01 * abs(reference).max()


def drawn(name, **fields):
    """Initial parameters by path."""
    net, _, x = small(name, **fields)
    return flatten_dict(parameters(net, x))


def test_normal_weights_have_deviation_1_whatever_their_layer():
    fields = {'features': (40, 80), 'init': 'normal', 'placement': 'none'}
    for path, value in drawn('mlp', **fields).items():
        if path[-1] == 'kernel':
            assert abs(value.std() - 1) < 4 / np.sqrt(2 * value.size), path


@pytest.mark.parametrize('name', ['mlp', 'cnn'])
def test_orthogonal_weights_keep_lengths_on_their_narrow_side(name):
    features = (6, 4) if name == 'mlp' else (3, 4)
    for path, value in drawn(name, features=features, init='orthogonal').items():
        if path[-1] == 'kernel':
            matrix = np.float64(value).reshape(-1, value.shape[-1])
            matrix = matrix if len(matrix) >= matrix.shape[1] else matrix.T
            close(matrix.T @ matrix, np.eye(matrix.shape[1]))


@each_network
def test_init_scale_multiplies_all_weights_and_nothing_else(name):
    once, thrice = drawn(name), drawn(name, init_scale=3.0)
    assert set(once) == set(thrice)
    for path, value in once.items():
        factor = 3 if path[-1] == 'kernel' else 1
        np.testing.assert_array_equal(thrice[path], np.float32(factor) * value)


@each_network
@each_placement
def test_noise_goes_to_biases_and_to_nothing_else(name, placement):
    net, _, x = small(name, placement=placement)
    params = parameters(net, x)
    once, twice = (with_noise_on_biases(params, std, KEY) for std in (0.5, 1.0))
    once, twice, plain = map(flatten_dict, (once, twice, params))
    assert ('output', 'bias') in once and set(once) == set(plain)
    for path, value in once.items():
        if path[-1] == 'bias' and not path[0].startswith('norm_'):
            assert np.unique(value - plain[path]).size == value.size, path
            close(twice[path] - plain[path], 2 * (value - plain[path]))
        else:
            np.testing.assert_array_equal(value, plain[path])


@each_placement
def test_without_deviation_biases_are_as_they_were_to_the_sign_of_zero(placement):
    params = flatten_dict(parameters(*small('lstm', placement=placement)[::2]))
    same = flatten_dict(with_noise_on_biases(unflatten_dict(params), 0.0, KEY))
    assert {k: v.tobytes() for k, v in same.items()} == {
        k: v.tobytes() for k, v in params.items()
    }


@pytest.mark.parametrize('name', ['mlp', 'lstm'])
def test_the_noise_of_biases_has_the_asked_deviation(name):
    net, _, x = small(name, features=(512, 512), placement='none')
    params = parameters(net, x)
    noisy = with_noise_on_biases(params, 0.25, KEY)
    cell = '_cell' if name == 'lstm' else ''
    noise = np.ravel(
        [
            noisy[k]['bias'] - params[k]['bias']
            for k in (f'hidden_{i}{cell}' for i in (0, 1))
        ]
    )
    assert len(np.unique(noise)) > 0.98 * len(noise)  # of no two layers the same
    assert abs(noise.mean()) < 0.03 and 0.235 < noise.std() < 0.265


def test_a_seed_gives_every_arm_the_same_biases_and_the_kernels_it_had():
    def first(seed=0, **fields):
        params = init(trial(seed=seed, **fields), CLASSES, images(1)).params
        return flatten_dict(jax.tree.map(np.array, params))

    none, after = (
        first(model__placement=p, model__bias_std=0.1) for p in ('none', 'after')
    )
    before, other = first(model__bias_std=0.1), first(model__bias_std=0.1, seed=1)
    for path, value in none.items():
        np.testing.assert_array_equal(value, after[path])
        if path in before:
            np.testing.assert_array_equal(value, before[path])
            assert (value != other[path]).any()
    for path, value in first(model__placement='none').items():
        assert (value == none[path]).all() == (path[-1] == 'kernel')
        assert path[-1] == 'kernel' or not value.any()


def test_the_size_of_weights_and_biases_may_be_traced():
    def of(scale, deviation):
        sizes = {'model__init_scale': scale, 'model__bias_std': deviation}
        return init(trial(**sizes), CLASSES, images(1)).params

    found = jax.jit(jax.vmap(of))(np.float32([1, 2]), np.float32([0, 0.5]))
    for i, one in enumerate((of(1.0, 0.0), of(2.0, 0.5))):
        jax.tree.map(close, jax.tree.map(lambda a, i=i: a[i], found), one)
