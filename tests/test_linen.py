"""bnjax.linen.BatchNorm beside flax.linen.BatchNorm, where Flax is right."""

import dataclasses
import functools
import itertools

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from layers import DTYPES, DY, KEY, MASK, STATS, X, assert_same, initials, mask_of

from bnjax.linen import BatchNorm


@functools.partial(jax.jit, static_argnums=0)
def train_and_evaluate(layer, x, dy, mask=None):
    """Everything two layers could differ in: trees, outputs, gradients, statistics."""
    variables = layer.init(KEY, x, use_running_average=False)
    params = variables.get('params', {})
    stats = variables['batch_stats']

    def train(params, x):
        y, new = layer.apply(
            {'params': params, 'batch_stats': stats},
            x,
            use_running_average=False,
            mask=mask,
            mutable=['batch_stats'],
        )
        return (dy * y).sum(), (y, new)

    grads, (y, new) = jax.grad(train, (0, 1), has_aux=True)(params, x)
    evaluated = layer.apply({'params': params, **new}, x, use_running_average=True)
    return {
        'variables': variables,
        'trained': y,
        'new': new,
        'grads': grads,
        'evaluated': evaluated,
    }


def test_fields_and_defaults_begin_with_those_of_flax():
    def fields(layer):
        return {f.name: f.default for f in dataclasses.fields(layer)}

    ours, theirs = fields(BatchNorm), fields(nn.BatchNorm)
    common = {name: ours.get(name, 'missing') for name in theirs}
    assert {n: v for n, v in common.items() if not callable(v)} == {
        n: v for n, v in theirs.items() if not callable(v)
    }
    names = [n for n in theirs if n not in ('parent', 'name')]
    assert list(ours)[: len(names)] == names


OPTIONS = {
    'defaults': {},
    'axis 1, initialisers': {'axis': 1, 'scale_init': initials, 'bias_init': initials},
    'axes 1 and 2': {'axis': (1, 2)},
    'axes -1 and 0': {'axis': (-1, 0)},
    'no scale': {'use_scale': False},
    'no bias': {'use_bias': False},
    'neither': {'use_scale': False, 'use_bias': False},
    'momentum and epsilon': {'momentum': 0.3, 'epsilon': 0.1},
    'momentum all kept': {'momentum': 1.0},
    'two-pass variance': {'use_fast_variance': False},
}


@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS)
def test_everything_equals_flax(options):
    got, want = (
        train_and_evaluate(layer(**options), X, DY)
        for layer in (BatchNorm, nn.BatchNorm)
    )
    assert_same(got, want)


@pytest.mark.parametrize('shape', [(6, 4, 3), (6, 1, 1), (4, 1)], ids=str)
def test_masked_training_equals_flax(shape):
    got, want = (
        train_and_evaluate(layer(), X, DY, mask_of(shape))
        for layer in (BatchNorm, nn.BatchNorm)
    )
    assert_same(got, want)


@pytest.mark.parametrize(
    'param_dtype', DTYPES[1:], ids=lambda d: f'params {d.__name__}'
)
def test_dtypes_follow_the_rule_of_flax(param_dtype):
    affine = [(dtype, True) for dtype in DTYPES] + [(None, False)]
    for x_dtype, (dtype, used) in itertools.product(DTYPES[1:], affine):
        options = {
            'dtype': dtype,
            'param_dtype': param_dtype,
            'use_scale': used,
            'use_bias': used,
        }
        x = jax.ShapeDtypeStruct(X.shape, x_dtype)
        got, want = (
            jax.eval_shape(lambda x, f=f: train_and_evaluate(f, x, x), x)
            for f in (BatchNorm(**options), nn.BatchNorm(**options))
        )
        assert got == want, f'x {x_dtype.__name__}, {options}'
        options['force_float32_reductions'] = False  # of outputs the dtype is the same
        outputs = [
            jax.eval_shape(lambda x, f=f: f.init_with_output(KEY, x, False)[0], x)
            for f in (BatchNorm(**options), nn.BatchNorm(**options))
        ]
        assert outputs[0] == outputs[1], f'x {x_dtype.__name__}, {options}'


def test_bfloat16_values_equal_flax_to_their_rounding():
    x = jnp.asarray(X + 10, jnp.bfloat16)
    dy = jnp.asarray(DY, jnp.bfloat16)
    got, want = (
        train_and_evaluate(layer(dtype=jnp.bfloat16), x, dy)
        for layer in (BatchNorm, nn.BatchNorm)
    )
    assert_same(got, want, rtol=2**-6, atol=2**-6)


def test_use_running_average_is_a_field_or_an_argument_but_not_both():
    variables = {'batch_stats': STATS}
    options = {'use_scale': False, 'use_bias': False}
    want = oracle.normalize(X, oracle.Stats(*STATS.values(), None))
    field = BatchNorm(use_running_average=True, **options)
    np.testing.assert_allclose(field.apply(variables, X), want, rtol=1e-5, atol=1e-6)
    argument = BatchNorm(**options).apply(variables, X, True)
    np.testing.assert_array_equal(argument, field.apply(variables, X))
    for layer, args in ((field, (True,)), (BatchNorm(**options), ())):
        with pytest.raises(ValueError):
            layer.apply(variables, X, *args)


def test_evaluation_leaves_statistics_alone_and_has_their_gradient():
    variables = BatchNorm(True).init(KEY, X)
    y, new = BatchNorm(True).apply(variables, X, mutable=['batch_stats'])
    assert_same(new['batch_stats'], variables['batch_stats'], 0, 0)
    grads = [
        jax.grad(lambda v, f=f: (DY * f(True).apply(v, X)).sum())(
            {**variables, 'batch_stats': STATS}
        )
        for f in (BatchNorm, nn.BatchNorm)
    ]
    assert_same(*grads)


class Net(nn.Module):
    norm: type

    @nn.compact
    def __call__(self, x, train):
        for width in (5, 4):
            x = nn.Dense(width)(x)
            x = nn.relu(self.norm(use_running_average=not train)(x))
        return x


def test_a_swapped_layer_keeps_the_names_of_a_network():
    ours, theirs = (
        jax.jit(lambda key, n=norm: Net(n).init(key, X, True))(KEY)
        for norm in (BatchNorm, nn.BatchNorm)
    )
    assert_same(ours, theirs, 0, 0)
    got, want = (
        jax.jit(lambda v, n=norm: Net(n).apply(v, X, True, mutable=['batch_stats']))(
            ours
        )
        for norm in (BatchNorm, nn.BatchNorm)
    )
    assert_same(got, want)


def test_init_does_not_update_statistics():
    for train in (False, True):
        stats = BatchNorm().init(KEY, 100 + 9 * X, not train)['batch_stats']
        assert_same(stats, {'mean': jnp.zeros(3), 'var': jnp.ones(3)}, 0, 0)


def test_training_without_mutable_statistics_raises():
    layer = BatchNorm(use_running_average=False)
    with pytest.raises(flax.errors.ModifyScopeVariableError):
        layer.apply(layer.init(KEY, X), X)


def test_statistics_over_five_steps_follow_the_oracle():
    layer = BatchNorm(use_running_average=False, momentum=0.7)
    variables = layer.init(KEY, X)
    expected = oracle.Stats(np.zeros(3), np.ones(3), np.ones(3))
    step = jax.jit(lambda v, x, m: layer.apply(v, x, mask=m, mutable=['batch_stats']))
    for i in range(5):
        x, mask = X * (i + 1) + 100 * i, np.roll(MASK, i, 0)
        mask = mask if i != 2 else np.zeros_like(mask)
        y, new = step(variables, x, mask)
        variables = {**variables, **new}
        expected = oracle.update(expected, oracle.moments(x, where=mask), 0.7)
        want = oracle.batch_norm(x, where=mask)[0]
        if i != 2:
            np.testing.assert_allclose(y, want, rtol=1e-4, atol=2e-6 * (1 + 100 * i))
    stats = variables['batch_stats']
    np.testing.assert_allclose(stats['mean'], expected.mean, rtol=1e-5)
    np.testing.assert_allclose(stats['var'], expected.var, rtol=2e-5)


def test_rematerialisation_updates_statistics_once():
    plain, again = (
        f(use_running_average=False) for f in (BatchNorm, nn.remat(BatchNorm))
    )
    variables = plain.init(KEY, X)

    def f(layer):
        def loss(params):
            both = {**variables, 'params': params}
            y, new = layer.apply(both, X, mutable=['batch_stats'])
            return (DY * y).sum(), new

        return jax.grad(loss, has_aux=True)(variables['params'])

    assert_same(f(again), f(plain))


def test_a_summary_shows_the_layer_and_nothing_inside_it():
    how = {'show_repeated': True, 'compute_flops': True}
    shown = Net(BatchNorm).tabulate(KEY, X, True, **how)
    assert 'BatchNorm' in shown and '_statistics' not in shown


def test_collections_that_are_all_mutable_do_not_grow():
    layer = BatchNorm(use_running_average=False)
    variables = layer.init(KEY, X)
    for mutable in (True, nn.DenyList('params'), ['batch_stats']):
        _, new = layer.apply(variables, X, mutable=mutable)
        assert set(new) <= set(variables)
    _, new = layer.apply(variables, X, mutable=['batch_stats', 'moments'])
    assert set(new) == {'batch_stats', 'moments'}


def test_a_scope_that_is_shared_may_hold_other_variables():
    class Shared(nn.Module):
        @nn.compact
        def __call__(self, x):
            self.param('kernel', nn.initializers.zeros, (4, 7))
            norm = BatchNorm(use_running_average=True)
            nn.share_scope(self, norm)
            return norm(x)

    variables = Shared().init(KEY, X)
    assert Shared().apply(variables, X).shape == X.shape


@pytest.mark.parametrize('debias', [False, True])
def test_statistics_of_flax_go_on_in_a_layer_that_counts(debias):
    """A count that is not there is 1, as theirs is."""
    theirs = BatchNorm(False, momentum=0.9)
    variables = theirs.init(KEY, X)
    ours = BatchNorm(False, momentum=0.9 if debias else None, debias=debias)
    _, want = theirs.apply(variables, X, mutable=['batch_stats'])
    _, got = ours.apply(variables, X, mutable=['batch_stats'])
    if debias:
        assert_same(got['batch_stats']['var'], want['batch_stats']['var'])
    np.testing.assert_allclose(got['batch_stats']['count'], 1.0 if debias else 2.0)
    in_evaluation = BatchNorm(True, debias=debias).apply(variables, X)
    assert_same(in_evaluation, nn.BatchNorm(True).apply(variables, X))
