"""Statistics of each time step or of all, and how recurrent networks begin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import KEY, PLACEMENTS, apply, close, normal, parameters, small

from bnjax import config
from bnjax.models import network

each_network = pytest.mark.parametrize('name', ['rnn', 'lstm'])
each_statistics = pytest.mark.parametrize('statistics', ['shared', 'per_step'])


def first_layer(name, statistics):
    """Old and new running statistics of the first layer's outputs, and these."""
    fields = {'placement': 'after', 'statistics': statistics, 'momentum': 0.7}
    net, variables, x = small(name, **fields)
    changed = apply(net, variables, x, True, ('batch_stats', 'activations'))[1]
    (activations,) = changed['activations']['activation_0']
    assert activations.shape == (5, 6, 4)
    old, new = (v['batch_stats']['norm_0'] for v in (variables, changed))
    return old, new, activations


@each_network
@pytest.mark.parametrize(
    ('statistics', 'over'), [('per_step', 0), ('shared', (0, 1))], ids=['step', 'all']
)
def test_statistics_are_those_of_a_step_or_of_all_and_move_once(name, statistics, over):
    """However many steps there are, a batch counts once."""
    old, new, activations = first_layer(name, statistics)
    close(new['mean'], 0.7 * old['mean'] + 0.3 * activations.mean(over))
    close(new['var'], 0.7 * old['var'] + 0.3 * activations.var(over))


@each_network
@pytest.mark.parametrize('placement', ['before', 'after'])
def test_in_training_the_two_kinds_of_statistics_give_the_same(name, placement):
    shared, variables, x = small(name, statistics='shared', placement=placement)
    per_step, others, _ = small(name, statistics='per_step', placement=placement)
    others['params'] = variables['params']

    pairs = ((shared, variables), (per_step, others))
    np.testing.assert_array_equal(*(apply(net, of, x, True)[0] for net, of in pairs))


@each_network
@each_statistics
@pytest.mark.parametrize('placement', PLACEMENTS)
def test_parameters_are_shared_over_time(name, statistics, placement):
    def shapes(rows):
        settings = config.Model(
            name=name, features=(4,), statistics=statistics, placement=placement
        )
        net = network(settings, classes=2)
        x = normal(2, rows, 3, 2)
        return jax.eval_shape(lambda: net.init(KEY, x, train=False))['params']

    assert shapes(3) == shapes(9)


def test_the_scale_of_batch_norm_starts_at_a_tenth_and_forget_gates_open():
    for name in ('rnn', 'lstm'):
        net, _, x = small(name)
        params = parameters(net, x)
        scales = [v['scale'] for k, v in params.items() if k.startswith('norm_')]
        assert len(scales) == (2 if name == 'rnn' else 6)
        for scale in scales:
            np.testing.assert_array_equal(scale, np.float32(0.1))
    bias = params['hidden_0_cell']['bias']
    np.testing.assert_array_equal(bias, [0] * 4 + [1] * 4 + [0] * 8)


@each_network
def test_the_program_does_not_grow_with_the_number_of_steps(name):
    def equations(rows):
        net = network(config.Model(name=name, features=(4,)), classes=2)
        x = normal(2, rows, 3, 2)
        variables = dict(jax.eval_shape(lambda: net.init(KEY, x, train=False)))
        variables.pop('activations')
        jaxpr = jax.make_jaxpr(
            lambda v: net.apply(v, x, True, mutable=['batch_stats'])
        )(variables)
        return str(jaxpr).count('\n')

    assert equations(20) == equations(10)


@each_network
def test_the_image_is_read_from_its_first_row_to_its_last(name):
    net, variables, x = small(name, placement='none')

    def changed_by(row):
        other = np.array(x)
        other[:, row] += 1
        seen = [
            apply(net, variables, y, False, ('activations',))[1] for y in (x, other)
        ]
        a, b = (s['activations']['activation_1'][0] for s in seen)
        return jnp.any(a != b, axis=(0, 2))

    for row in range(6):
        np.testing.assert_array_equal(changed_by(row), np.arange(6) >= row)
