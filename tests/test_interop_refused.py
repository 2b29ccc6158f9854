"""What bnjax.interop does not convert, and what it says then."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bnjax.interop import from_nnx, from_torch, to_flax, to_nnx, to_torch
from bnjax.linen import BatchNorm

F32 = np.float32
STATISTICS = {
    'running_mean': F32([1, 0.1, -3]),
    'running_var': F32([0.3, 2, 1e-6]),
    'num_batches_tracked': np.array(0),
}
STATE = {'weight': F32([0.1, -2, 1]), 'bias': F32([0, 1 / 3, 7]), **STATISTICS}
FROM_LINEN = {'to_torch': to_torch, 'to_nnx': to_nnx, 'to_flax': to_flax}
from_linen = pytest.mark.parametrize('convert', FROM_LINEN.values(), ids=FROM_LINEN)


def stacked(tree):
    return jax.tree.map(lambda value: jnp.stack([value, value]), tree)


@pytest.mark.parametrize(
    ('state', 'named'),
    [
        ({f'bn1.{name}': v for name, v in STATE.items()}, 'bn1.bias.*removeprefix'),
        ({}, 'state is empty'),
        ({'num_batches_tracked': 0}, 'num_batches_tracked.*one BatchNorm'),
        ({'running_mean': STATE['running_mean']}, 'running_mean.*one BatchNorm'),
        (stacked(STATISTICS), r'\(2, 3\).*ensemble'),
        ({**STATE, 'weight': F32([1, 2])}, r"'scale': \(2,\).*on one axis"),
    ],
    ids=['a network', 'nothing', 'a count', 'half', 'an ensemble', 'uneven'],
)
def test_a_state_of_something_else_is_refused(state, named):
    with pytest.raises(ValueError, match=named):
        from_torch(state)


VARIABLES = from_torch(STATE)[1]
UNEVEN = {'batch_stats': VARIABLES['batch_stats'] | {'count': F32([7, 7, 6])}}
NETWORK = {name: {'norm': tree} for name, tree in VARIABLES.items()}


@pytest.mark.parametrize(
    ('convert', 'fields', 'variables', 'named'),
    [
        *(
            (convert, {}, NETWORK, r"\['norm'\].*batch_stats\[name\]")
            for convert in (to_torch, to_nnx, to_flax)
        ),
        *(
            (convert, {}, stacked(VARIABLES), r'\(2, 3\).*ensemble')
            for convert in (to_torch, to_nnx)
        ),
        (to_nnx, {'axis': (1, 2)}, VARIABLES, r'axis=\(1, 2\).*features on one axis'),
        (to_torch, {'debias': True}, VARIABLES, "needs.*'count'"),
        (to_torch, {'momentum': None}, UNEVEN, r'6\.0, 7\.0.*one whole number'),
        (to_flax, {'momentum': None}, UNEVEN, 'cumulative.*0.99'),
    ],
)
def test_variables_that_cannot_be_converted_are_refused(
    convert, fields, variables, named
):
    with pytest.raises(ValueError, match=named):
        convert(fields, variables)


def test_a_misspelt_field_is_refused():
    for convert in (to_torch, to_nnx, to_flax):
        with pytest.raises(TypeError, match='momentun'):
            convert({'momentun': 0.9}, VARIABLES)


def test_an_nnx_layer_with_features_on_several_axes_is_refused():
    layer = nnx.BatchNorm(6, axis=(1, 2), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match='features on one axis'):
        from_nnx(layer)


@from_linen
@pytest.mark.parametrize(
    ('fields', 'error', 'named'),
    [
        ({'momentum': 3}, ValueError, r'momentum=3 must be a number in \[0, 1\]'),
        ({'momentum': -0.1}, ValueError, 'momentum=-0.1 must'),
        ({'momentum': '0.9'}, TypeError, "momentum='0.9' must"),
        ({'epsilon': 0}, ValueError, 'epsilon=0 must'),
        (None, TypeError, 'fields is None; give a dictionary'),
        (['momentum'], TypeError, 'fields is a list; give a dictionary'),
    ],
)
def test_fields_that_no_layer_has_are_refused(convert, fields, error, named):
    with pytest.raises(error, match=named):
        convert(fields, VARIABLES)


@from_linen
@pytest.mark.parametrize(
    ('variables', 'named'),
    [
        (None, 'variables is None'),
        (BatchNorm(), 'variables is a BatchNorm; give a dictionary'),
        ({'batch_stats': [0, 1]}, 'batch_stats is a list; give a dictionary'),
        (VARIABLES | {'params': None}, 'params is None; give a dictionary'),
    ],
)
def test_variables_that_are_no_dictionary_are_refused(convert, variables, named):
    with pytest.raises(TypeError, match=named):
        convert({}, variables)


@pytest.mark.parametrize(
    ('options', 'error', 'named'),
    [
        ({'eps': -1}, ValueError, 'eps=-1 must be a number'),
        ({'eps': np.nan}, ValueError, 'eps=nan must be a number'),
        ({'eps': None}, TypeError, 'eps=None must be a number'),
        ({'momentum': 1.5}, ValueError, 'momentum=1.5 must be a number'),
    ],
)
def test_numbers_that_torch_should_not_have_are_refused(options, error, named):
    with pytest.raises(error, match=named):
        from_torch(STATE, **options)


@pytest.mark.parametrize('state', [None, BatchNorm()], ids=['None', 'a layer'])
def test_a_state_is_asked_for_not_the_layer(state):
    with pytest.raises(TypeError, match=r'state is .*layer.state_dict\(\)'):
        from_torch(state)


@pytest.mark.parametrize(
    ('convert', 'named'),
    [
        (lambda v: to_torch({'momentum': v[0]}, VARIABLES), 'momentum traced'),
        (lambda v: to_torch({'epsilon': v[0]}, VARIABLES), 'epsilon traced'),
        (lambda v: to_torch({}, {'batch_stats': {'mean': v, 'var': v}}), 'mean, var'),
        (lambda v: from_torch(STATE, momentum=v[0]), 'momentum traced'),
        (lambda v: from_torch(STATE | {'weight': v}), 'weight traced'),
    ],
)
def test_what_is_traced_does_not_go_through_torch(convert, named):
    with pytest.raises(TypeError, match=f'{named}.*convert outside of jax.jit'):
        jax.jit(convert)(jnp.full(3, 0.5))


@pytest.mark.parametrize('layer', [nnx.Linear(2, 3, rngs=nnx.Rngs(0)), None, STATE])
def test_another_layer_of_nnx_is_refused(layer):
    kind = type(layer).__name__
    with pytest.raises(TypeError, match=f'layer is a {kind}; give a BatchNorm of flax'):
        from_nnx(layer)
