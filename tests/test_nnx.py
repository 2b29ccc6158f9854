"""bnjax.nnx.BatchNorm beside flax.nnx.BatchNorm: what is the same, what is not."""

import functools
import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from flax import nnx, serialization

from bnjax.nnx import BatchNorm

F32 = np.float32
RNG = np.random.default_rng(0)
X, DY = RNG.normal(size=(2, 6, 4, 3)).astype(F32)
MASK = (RNG.uniform(size=X.shape) < [0.3, 0.8, 1]) & (np.arange(6) != 4)[:, None, None]
STATS = {'mean': F32([0.5, -1, 2]), 'var': F32([0.2, 3, 1])}
BOTH = (BatchNorm, nnx.BatchNorm)
MODES = pytest.mark.parametrize(
    'running', [False, True], ids=['training', 'evaluation']
)


def initials(key, shape, dtype):
    return jax.random.normal(key, shape, dtype)


def make(layer=BatchNorm, features=3, **options):
    return layer(features, rngs=nnx.Rngs(0), **options)


def statistics(layer):
    return {'mean': np.asarray(layer.mean[...]), 'var': np.asarray(layer.var[...])}


def with_statistics(layer):
    layer.mean[...], layer.var[...] = STATS.values()
    return layer


def leaves(tree):
    """Path, shape, dtype and kind of each leaf, of a State or of any tree."""
    if isinstance(tree, nnx.State):
        flat = nnx.to_flat_state(tree)
        return [(p, v.get_value(), type(v)) for p, v in flat]
    flat = jax.tree_util.tree_leaves_with_path(tree)
    return [(path, leaf, None) for path, leaf in flat]


def assert_same(got, want, rtol=2e-5, atol=1e-5):
    got, want = leaves(got), leaves(want)
    assert [(p, v.shape, v.dtype, k) for p, v, k in got] == [
        (p, v.shape, v.dtype, k) for p, v, k in want
    ]
    for (path, g, _), (_, w, _) in zip(got, want, strict=True):
        g, w = (np.asarray(a, np.float64) for a in (g, w))
        np.testing.assert_allclose(g, w, rtol, atol, err_msg=str(path))


@nnx.jit
def train(layer, x, dy, mask=None):
    """A training step's output, gradients and the state it leaves."""

    def loss(layer, x):
        y = layer(x, mask=mask)
        return (dy * y).sum(), y

    grads, y = nnx.grad(loss, argnums=(0, 1), has_aux=True)(layer, x)
    return y, *grads


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
    first = (np.arange(shape[0]) == 0).reshape(-1, *[1] * (len(shape) - 1))
    mask = np.resize(MASK, shape) | first
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


DTYPES = (None, jnp.bfloat16, jnp.float16, jnp.float32)


def keep_dtypes(values, *, dtype=None):
    return values


@MODES
def test_dtypes_follow_the_rule_of_flax(running):
    def shapes(layer, x, options):
        def f(x):
            made = make(layer, use_running_average=running, **options)
            return made(x), statistics_of(made)

        return jax.eval_shape(f, x)

    def statistics_of(layer):
        return layer.mean[...], layer.var[...]

    promotes = ({}, {'promote_dtype': keep_dtypes})
    for x_dtype, param_dtype, dtype, used, promote in itertools.product(
        DTYPES[1:], DTYPES[1:], DTYPES, (True, False), promotes
    ):
        options = {'dtype': dtype, 'param_dtype': param_dtype, **promote}
        options |= {'use_scale': used, 'use_bias': used}
        x = jax.ShapeDtypeStruct(X.shape, x_dtype)
        got, want = (shapes(layer, x, options) for layer in BOTH)
        assert got == want, f'x {x_dtype.__name__}, {options}'


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


# Where it differs from Flax on purpose.


def test_evaluation_in_bfloat16_does_not_round_the_statistics():
    layer = make(dtype=jnp.bfloat16, use_running_average=True)
    layer.mean[...], layer.var[...] = jnp.full(3, 256.75), jnp.full(3, 1e-4)
    x = np.full((2, 3), 256.72, F32)
    y = layer(x)
    want = oracle.normalize(x, oracle.Stats(F32(256.75), F32(1e-4), None))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(y, F32), want, rtol=1e-2)


def test_training_in_bfloat16_does_not_round_the_input():
    x = 100 + F32(0.01) * X
    layer = make(dtype=jnp.bfloat16, momentum=0.0)
    want, batch = oracle.batch_norm(x)
    np.testing.assert_allclose(np.asarray(layer(x), F32), want, 2**-7, 1e-2)
    np.testing.assert_allclose(layer.var[...], batch.var, rtol=1e-5)


EMPTY = {
    'all masked': (X, np.zeros_like(MASK)),
    'all masked NaN': (X * np.nan, np.zeros_like(MASK)),
    'no rows': (X[:0], None),
}


@pytest.mark.parametrize('x, mask', EMPTY.values(), ids=EMPTY)
def test_an_empty_batch_leaves_statistics_as_they_were(x, mask):
    layer = with_statistics(make())
    out = train(layer, x, np.ones_like(x, F32), mask)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(out))
    assert_same(statistics(layer), STATS, 0, 0)


def test_nan_in_the_padding_reaches_neither_gradients_nor_statistics():
    layer = make()
    y, grads, dx = train(layer, np.where(MASK, X, np.nan), DY, MASK)
    for leaf in jax.tree.leaves((y, grads, nnx.state(layer))):
        assert np.isfinite(leaf).all()
    want = oracle.gradients(np.where(MASK, X, np.nan), np.ones(3), DY, where=MASK)
    np.testing.assert_allclose(dx, want.x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('dtype', [bool, np.uint8, np.int32, F32, jnp.bfloat16])
def test_a_mask_may_have_any_dtype(dtype):
    masked, same = make(), make()
    want = masked(X, mask=MASK)
    np.testing.assert_array_equal(same(X, mask=jnp.asarray(MASK, dtype)), want)
    assert_same(nnx.state(same), nnx.state(masked), 0, 0)


def test_running_variance_is_accurate_far_from_zero():
    x = F32(1e4) + F32(0.1) * X
    layer = make(momentum=0.0)
    layer(x)
    want = oracle.moments(x)
    np.testing.assert_allclose(layer.mean[...], want.mean, rtol=1e-6)
    np.testing.assert_allclose(layer.var[...], want.var, rtol=1e-5)


GROUPS = {'all': None, 'two groups': ((0, 3, 4), (1, 2, 5))}


@pytest.mark.parametrize('groups', GROUPS.values(), ids=GROUPS)
def test_sync_is_weighted_by_the_masks(groups):
    layer = make(axis_name='device', axis_index_groups=groups, momentum=0.0)
    graph, state = nnx.split(layer)

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0, 0), axis_name='device')
    def step(state, x, mask):
        layer = nnx.merge(graph, state)
        return layer(x, mask=mask), layer.mean[...], layer.var[...]

    got = jax.tree.map(np.asarray, step(state, X, MASK))
    for rows in map(list, groups or [range(6)]):
        want, batch = oracle.batch_norm(X[rows], where=MASK[rows])
        np.testing.assert_allclose(got[0][rows], want, rtol=1e-4, atol=1e-5)
        for stat, wanted in zip(got[1:], batch[:2], strict=True):
            np.testing.assert_allclose(stat[rows[0]], wanted, rtol=1e-5, atol=1e-6)
    layer(X, use_running_average=True)  # names no axis


def test_several_axes_hold_num_features_together():
    layer = make(features=12, axis=(1, 2), scale_init=initials, momentum=0.5)
    scale = np.asarray(layer.scale[...]).reshape(4, 3)
    want, batch = oracle.batch_norm(X, scale, axis=(1, 2))
    np.testing.assert_allclose(layer(X), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.mean[...], 0.5 * batch.mean.ravel(), 1e-5, 1e-6)
    assert layer.var[...].shape == (12,)
    theirs = make(nnx.BatchNorm, features=12, axis=(1, 2), scale_init=initials)
    nnx.update(theirs, nnx.state(layer))
    assert_same(layer(X, True), theirs(X, True))  # Flax has it in evaluation alone


@MODES
def test_float64_input_keeps_the_dtype_of_the_statistics(running):
    def f(x):
        layer = make(use_running_average=running)
        return layer(x), layer.mean[...], layer.var[...]

    with jax.enable_x64(True):
        y, *stats = jax.eval_shape(f, jax.ShapeDtypeStruct(X.shape, np.float64))
    assert y.dtype == np.float64
    assert {s.dtype for s in stats} == {np.dtype(F32)}
