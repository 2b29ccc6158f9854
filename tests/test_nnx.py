"""bnjax.nnx.BatchNorm beside flax.nnx.BatchNorm: what is the same."""

import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import nnx, serialization
from layers import (
    DTYPES,
    DY,
    F32,
    RNG,
    STATS,
    X,
    assert_same,
    initials,
    make,
    mask_of,
    statistics,
    train,
    with_statistics,
)

from bnjax.nnx import BatchNorm

BOTH = (BatchNorm, nnx.BatchNorm)
MODES = pytest.mark.parametrize(
    'running', [False, True], ids=['training', 'evaluation']
)
OWN = {
    'update_running_average': None,
    'debias': False,
    'unbiased': False,
    'skip_nonfinite': False,
    'ghost_batch_size': None,
}


def test_the_call_takes_what_that_of_flax_takes():
    ours, theirs = (inspect.signature(layer.__call__) for layer in BOTH)
    assert [(p.name, p.kind, p.default) for p in ours.parameters.values()] == [
        (p.name, p.kind, p.default) for p in theirs.parameters.values()
    ]


def test_a_keyword_that_is_not_known_is_refused():
    with pytest.raises(TypeError, match='moment'):
        make(moment=0.9)


def test_attributes_and_metadata_are_those_of_flax():
    options = {
        'scale_metadata': {'note': 'gamma'},
        'bias_metadata': {'note': 'beta'},
        'axis_name': 'device',
        'axis_index_groups': ((0, 1), (2, 3)),
        'use_fast_variance': False,
        'momentum': 0.5,
    }
    ours, theirs = (make(layer, **options) for layer in BOTH)
    for name, value in vars(theirs).items():
        if name.startswith('_'):
            continue
        assert type(getattr(ours, name)) is type(value), name
        if not isinstance(value, nnx.Variable):
            assert getattr(ours, name) == value, name
    assert vars(ours).keys() == vars(theirs).keys() | OWN.keys()
    assert {name: getattr(ours, name) for name in OWN} == OWN
    assert (ours.scale.note, ours.bias.note) == ('gamma', 'beta')


OPTIONS = {
    'defaults': {},
    'axis 1, initialisers': {
        'features': 4,
        'axis': 1,
        'scale_init': initials,
        'bias_init': initials,
    },
    'axis in a tuple': {'axis': (-1,)},
    'no scale': {'use_scale': False},
    'no bias': {'use_bias': False},
    'neither': {'use_scale': False, 'use_bias': False},
    'momentum and epsilon': {'momentum': 0.3, 'epsilon': 0.1},
    'momentum all kept': {'momentum': 1.0},
    'two-pass variance': {'use_fast_variance': False},
}


@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS)
def test_everything_equals_flax(options):
    ours, theirs = (make(layer, **options) for layer in BOTH)
    assert_same(nnx.state(ours), nnx.state(theirs), 0, 0)
    for i in range(5):
        x = X * (i + 1) + i
        assert_same(train(ours, x, DY), train(theirs, x, DY), atol=1e-4)
        assert_same(nnx.state(ours), nnx.state(theirs))
    ours.eval(), theirs.eval()
    before = statistics(ours)
    assert_same(train(ours, X, DY), train(theirs, X, DY), atol=1e-4)
    assert_same(statistics(ours), before, 0, 0)


@pytest.mark.parametrize('shape', [(6, 4, 3), (6, 1, 1), (4, 1)], ids=str)
def test_masked_training_equals_flax(shape):
    mask = mask_of(shape)
    ours, theirs = (make(layer) for layer in BOTH)
    assert_same(train(ours, X, DY, mask), train(theirs, X, DY, mask))
    assert_same(nnx.state(ours), nnx.state(theirs))


SWITCHES = {
    'constructor': lambda layer, running: make(layer, use_running_average=running),
    'call': lambda layer, running: functools.partial(
        make(layer, use_running_average=not running), use_running_average=running
    ),
    'train and eval': lambda layer, running: after(
        make(layer, use_running_average=None), 'eval' if running else 'train'
    ),
    'set_attributes': lambda layer, running: after(
        make(layer), 'set_attributes', use_running_average=running
    ),
    'view': lambda layer, running: nnx.view(make(layer), use_running_average=running),
}


def after(layer, method, **arguments):
    getattr(layer, method)(**arguments)
    return layer


@MODES
@pytest.mark.parametrize('switch', SWITCHES.values(), ids=SWITCHES)
def test_the_mode_is_chosen_as_in_flax(switch, running):
    calls = [switch(layer, running) for layer in BOTH]
    layers = [with_statistics(getattr(call, 'func', call)) for call in calls]
    assert_same(*(call(X) for call in calls))
    assert_same(*map(nnx.state, layers))
    assert (statistics(layers[0])['mean'] == STATS['mean']).all() == running


def keep_dtypes(values, *, dtype=None):
    return values


def test_dtypes_follow_the_rule_of_flax():
    """Of outputs and statistics, for input of each dtype, in training and after."""
    xs = [jax.ShapeDtypeStruct(X.shape, dtype) for dtype in DTYPES[1:]]

    def shapes(layer, options):
        def f(xs):
            made = make(layer, **options)
            return [(made(x), made(x, True), statistics_of(made)) for x in xs]

        return jax.eval_shape(f, xs)

    def statistics_of(layer):
        return layer.mean[...], layer.var[...]

    promotes = ({}, {'promote_dtype': keep_dtypes})
    params = [(True, dtype) for dtype in DTYPES[1:]] + [(False, jnp.float32)]
    for (used, param_dtype), dtype, promote in itertools.product(
        params, DTYPES, promotes
    ):
        options = {'dtype': dtype, 'param_dtype': param_dtype, **promote}
        options |= {'use_scale': used, 'use_bias': used}
        got, want = (shapes(layer, options) for layer in BOTH)
        assert got == want, options


def test_bfloat16_training_equals_flax_to_its_rounding():
    x, dy = (jnp.asarray(a, jnp.bfloat16) for a in (X + 10, DY))
    ours, theirs = (make(layer, dtype=jnp.bfloat16) for layer in BOTH)
    assert_same(train(ours, x, dy), train(theirs, x, dy), rtol=2**-6, atol=2**-5)
    assert_same(nnx.state(ours), nnx.state(theirs), rtol=1e-4)


class Net(nnx.Module):
    def __init__(self, norm, rngs):
        self.hidden = nnx.Linear(3, 5, rngs=rngs)
        self.norm = norm(5, rngs=rngs)
        self.dropout = nnx.Dropout(0.0, rngs=rngs)

    def __call__(self, x, mask=None):
        return self.dropout(nnx.relu(self.norm(self.hidden(x), mask=mask)))


def test_a_network_with_the_layer_swapped_is_the_same_network():
    ours, theirs = (Net(norm, nnx.Rngs(0)) for norm in BOTH)
    kinds = nnx.Any(nnx.Param, nnx.BatchStat)
    dy = RNG.normal(size=(6, 4, 5)).astype(F32)
    for mode in ('train', 'eval'):
        getattr(ours, mode)(), getattr(theirs, mode)()
        assert_same(train(ours, X, dy), train(theirs, X, dy), atol=1e-4)
        assert_same(nnx.state(ours, kinds), nnx.state(theirs, kinds))
    assert any(isinstance(m, nnx.BatchNorm) for _, m in nnx.iter_modules(ours))


def test_split_and_merge_carry_the_layer_through_jax_jit():
    layer = make(momentum=0.5)
    graph, params, stats = nnx.split(layer, nnx.Param, nnx.BatchStat)

    @jax.jit
    def step(params, stats):
        layer = nnx.merge(graph, params, stats)
        y = layer(X)
        return y, nnx.state(layer, nnx.BatchStat)

    y, stats = step(params, stats)
    assert_same(layer(X), y)
    assert_same(nnx.state(layer, nnx.BatchStat), stats)


def test_a_checkpoint_of_flax_loads():
    theirs = make(nnx.BatchNorm, scale_init=initials, bias_init=initials)
    train(theirs, X, DY)
    stored = serialization.msgpack_serialize(nnx.to_pure_dict(nnx.state(theirs)))
    ours = make()
    state = nnx.state(ours)
    nnx.replace_by_pure_dict(state, serialization.msgpack_restore(stored))
    nnx.update(ours, state)
    assert_same(nnx.state(ours), nnx.state(theirs), 0, 0)
    assert_same(ours(X, True), theirs(X, True))


def test_running_statistics_carry_no_gradient():
    def loss(x):
        layer = make()
        layer(x)
        return layer.mean[...].sum() + layer.var[...].sum()

    np.testing.assert_array_equal(jax.grad(loss)(X), 0)


def test_the_state_keeps_its_types_in_a_scan():
    layer = make(momentum=0.7, dtype=jnp.bfloat16)
    xs = np.stack([X, 2 * X + 1])

    @functools.partial(nnx.scan, in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
    def steps(layer, x):
        return layer, layer(x)

    layer, _ = steps(layer, jnp.asarray(xs))
    want = oracle.Stats(np.zeros(3), np.ones(3), np.ones(3))
    for x in xs:
        want = oracle.update(want, oracle.moments(x), 0.7)
    assert_same(statistics(layer), {'mean': F32(want.mean), 'var': F32(want.var)})


def test_parameters_of_another_shape_are_named():
    half = BatchNorm(4, scale_init=lambda *_: jnp.ones(2), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r'BatchNorm\(4\): scale .*\(2,\).*=4'):
        half(jnp.ones((3, 4)))


def test_a_device_may_hold_its_row_of_a_stacked_state():
    layer, other = (BatchNorm(3, rngs=nnx.Rngs(0)) for _ in range(2))
    for name in ('scale', 'bias', 'mean', 'var'):
        getattr(layer, name).set_value(getattr(other, name)[...][None])
    x = jnp.arange(12.0).reshape(4, 3)
    np.testing.assert_array_equal(layer(x), other(x))
    np.testing.assert_array_equal(layer.mean[...], other.mean[...][None])
