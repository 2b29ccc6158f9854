"""What the statistics of a network are not computed from, and what is said then."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

import bnjax
from bnjax.population import merge_replicas, reestimate, update_layers

ONES = np.ones(3, 'f4')
STATS = {'block': {'norm': {'mean': 0 * ONES, 'var': ONES}}}
MOMENTS = {'block': {'norm': {'batch': (bnjax.Moments(ONES, ONES, 8 * ONES),)}}}


def counted(count):
    return {'block': {'norm': STATS['block']['norm'] | {'count': count * ONES}}}


def test_a_cumulative_average_needs_the_count():
    message = 'batch_stats/block/norm: momentum=None needs the count of the running'
    with pytest.raises(ValueError, match=message):
        update_layers(STATS, MOMENTS, momentum=None)
    new = update_layers(counted(3), MOMENTS, momentum=None)['block']['norm']
    np.testing.assert_allclose([new['mean'][0], new['count'][0]], [0.25, 4])


@pytest.mark.parametrize('stats', [STATS, {}], ids=['a layer', 'no layers'])
def test_a_momentum_that_is_none_is_refused_whatever_the_network(stats):
    with pytest.raises(ValueError, match='^momentum=3 must be a number in'):
        update_layers(stats, MOMENTS, momentum=3)


def test_moments_of_other_features_are_refused_by_the_layers_name():
    one = np.ones(1, 'f4')
    other = {'block': {'norm': {'batch': (bnjax.Moments(one, one, one),)}}}
    with pytest.raises(ValueError, match='batch_stats/block/norm: moments must all'):
        update_layers(STATS, other)


@pytest.mark.parametrize(
    ('tree', 'kind'), [(None, 'None'), ([STATS], 'a list'), (ONES, 'a ndarray')]
)
def test_what_is_no_tree_is_refused(tree, kind):
    calls = {
        'variables': lambda: reestimate(lambda *_: None, tree, [ONES]),
        'batch_stats': lambda: update_layers(tree, MOMENTS),
        'moments': lambda: update_layers(STATS, tree),
    }
    for name, call in calls.items():
        with pytest.raises(TypeError, match=f'{name} is {kind}; give a dictionary'):
            call()
    with pytest.raises(TypeError, match=f'batch_stats is {kind}; give a dictionary'):
        merge_replicas(tree)


def shaped(mean, var, **others):
    norm = {'mean': np.zeros(mean, 'f4'), 'var': np.ones(var, 'f4')}
    return {'norm': norm | {k: np.ones(v, 'f4') for k, v in others.items()}}


@pytest.mark.parametrize(
    ('replicas', 'message'),
    [
        (shaped(3, 3), 'batch_stats/norm has shape (3,), but it must be (replicas, f'),
        (shaped((), ()), 'batch_stats/norm has shape (), but it must be (replicas, fe'),
        (shaped((2, 3), (4, 3)), 'batch_stats/norm.mean (2, 3), batch_stats/norm.var '),
        (shaped((2, 3), (2, 1)), 'batch_stats/norm.mean (2, 3), batch_stats/norm.var '),
        (shaped((2, 3), (2, 3), count=3), 'batch_stats/norm.count (3,)'),
        (shaped((0, 3), (0, 3)), "first axis of each array: ['norm']['"),
        (shaped((2, 3), (2, 3), of_another_kind=()), "['of_another_kind'] ()"),
        (
            {'a': shaped((2, 3), (2, 3)), 'b': shaped((4, 3), (4, 3))},
            "['a']['norm']['var'] (2, 3), ['b']['norm']['var'] (4, 3)",
        ),
    ],
)
def test_arrays_that_are_no_stack_of_replicas_are_refused(replicas, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        merge_replicas(replicas)


def test_statistics_of_replicas_must_be_floats():
    integers = {'mean': np.zeros((2, 3), int), 'var': np.ones((2, 3), 'f4')}
    with pytest.raises(TypeError, match='batch_stats.mean has dtype int'):
        merge_replicas(integers)


def test_statistics_without_a_feature_axis_merge_once_they_have_one():
    replicas = shaped((2, 1), (2, 1))['norm'] | {'mean': jnp.array([[-1.0], [1.0]])}
    merged = merge_replicas(replicas)
    assert (merged['mean'].tolist(), merged['var'].tolist()) == ([0.0], [2.0])
