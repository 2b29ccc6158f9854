"""A folded layer beside the layer and its batch norm in float64."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.fold import fold
from bnjax.moments import Moments

RNG = np.random.default_rng(0)
EPSILON = 1e-3
LAYERS = {
    'dense': nn.Dense(6),
    'dense without bias': nn.Dense(6, use_bias=False),
    'conv': nn.Conv(6, (3, 3)),
    'conv 1d': nn.Conv(6, (3,), padding='CAUSAL'),
    'conv without bias': nn.Conv(6, (3, 3), use_bias=False),
    'strided': nn.Conv(6, (3, 2), strides=(2, 1)),
    'dilated': nn.Conv(6, (3, 3), kernel_dilation=2),
    'grouped': nn.Conv(6, (3, 3), feature_group_count=2),
    'depthwise': nn.Conv(8, (3, 3), feature_group_count=4),
    'transposed': nn.ConvTranspose(6, (3, 3), strides=(2, 2)),
}
NEXT = {
    'dense': (nn.Dense(6), 'VALID'),
    'dense without bias': (nn.Dense(6, use_bias=False), 'VALID'),
    'conv': (nn.Conv(6, (3, 3), padding='VALID'), 'VALID'),
    'strided, dilated': (
        nn.Conv(6, (3, 3), strides=2, padding=0, kernel_dilation=2),
        0,
    ),
    'cropped': (nn.Conv(6, (3, 3), padding=((0, -1), (-2, 0))), ((0, -1), (-2, 0))),
    'cropped alike': (nn.Conv(6, (3, 3), padding=-1), -1),
    'grouped': (nn.Conv(6, (3, 3), padding='VALID', feature_group_count=2), 'VALID'),
    'depthwise': (nn.Conv(8, (3, 3), padding='VALID', feature_group_count=4), 'VALID'),
    'circular': (nn.Conv(6, (3, 3), padding='CIRCULAR'), 'CIRCULAR'),
    'reflecting': (nn.Conv(6, (3, 3), padding='REFLECT'), 'REFLECT'),
    'one by one': (nn.Conv(6, (1, 1), strides=2, padding='SAME'), 'SAME'),
}


@pytest.fixture(scope='module', autouse=True)
def _forget_what_was_traced_in_float64():
    yield
    jax.clear_caches()


def trained(layer, features_of_batch_norm=None):
    """An input, parameters far from their initial ones, and running moments."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 9, 4) if layer is LAYERS['conv 1d'] else (2, 9, 9, 4))
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)['params']
    params = jax.tree.map(lambda p: rng.normal(size=p.shape).astype('f4'), shapes)
    n = features_of_batch_norm or params['kernel'].shape[-1]
    scale, shift, mean = rng.normal(size=(3, n)).astype('f4')
    var = rng.uniform(0.1, 4, size=n).astype('f4')
    return x, params, scale, shift, Moments(mean, var, np.ones(n, 'f4'))


def in_float64(layer, params, x):
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda p: jnp.asarray(p, 'f8'), params)
        y = layer.apply({'params': wide}, jnp.asarray(x, 'f8'))
        assert y.dtype == 'f8'
        return np.asarray(y)


def batch_norm(x, scale, shift, moments):
    mean, var, _ = (v.astype('f8') for v in moments)
    y = (x - mean) / np.sqrt(var + EPSILON)
    return y * (1 if scale is None else scale) + (0 if shift is None else shift)


def assert_folded(layer, params, x, want, *arguments, **options):
    bias = params.get('bias')
    kernel, bias = fold(params['kernel'], bias, *arguments, epsilon=EPSILON, **options)
    assert kernel.shape == params['kernel'].shape
    assert kernel.dtype == bias.dtype == 'f4'
    biased = layer.clone(use_bias=True)
    got = in_float64(biased, {'kernel': kernel, 'bias': bias}, x)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6 * np.abs(want).max())


@pytest.mark.parametrize('affine', [True, False], ids=['affine', 'plain'])
@pytest.mark.parametrize('name', LAYERS)
def test_batch_norm_after_a_layer_folds_into_it(name, affine):
    layer = LAYERS[name]
    x, params, scale, shift, running = trained(layer)
    if not affine:
        scale = shift = None
    want = batch_norm(in_float64(layer, params, x), scale, shift, running)
    assert_folded(layer, params, x, want, scale, shift, running)


@pytest.mark.parametrize('affine', [True, False], ids=['affine', 'plain'])
@pytest.mark.parametrize('name', NEXT)
def test_batch_norm_before_a_layer_folds_into_it(name, affine):
    layer, padding = NEXT[name]
    x, params, scale, shift, running = trained(layer, features_of_batch_norm=4)
    if not affine:
        scale = shift = None
    want = in_float64(layer, params, batch_norm(x, scale, shift, running))
    options = {'next_groups': getattr(layer, 'feature_group_count', 1)}
    options['next_padding'] = padding
    assert_folded(layer, params, x, want, scale, shift, running, **options)


def test_a_dense_layer_upon_flattened_features_folds_as_a_convolution():
    x, params, scale, shift, running = trained(nn.Conv(6, (9, 9)), 4)
    flat = params | {'kernel': params['kernel'].reshape(-1, 6)}
    normal = batch_norm(x, scale, shift, running)
    want = in_float64(nn.Dense(6), flat, normal.reshape(2, -1))
    options = {'epsilon': EPSILON, 'next_padding': 'VALID'}
    kernel, bias = fold(
        params['kernel'], params['bias'], scale, shift, running, **options
    )
    folded = {'kernel': kernel.reshape(-1, 6), 'bias': bias}
    got = in_float64(nn.Dense(6), folded, x.reshape(2, -1))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6 * np.abs(want).max())


def test_an_ensemble_folds_in_one_compiled_call():
    kernel, mean = RNG.normal(size=(5, 4, 3)), RNG.normal(size=(5, 3))
    running = Moments(mean, mean**2, mean)
    folded = jax.jit(jax.vmap(lambda k, m: fold(k, None, None, None, m)))
    want = [
        fold(k, None, None, None, Moments(m, m**2, m))[1]
        for k, m in zip(kernel, mean, strict=True)
    ]
    np.testing.assert_allclose(folded(kernel, running)[1], want, rtol=1e-5)


def test_narrow_kernels_are_rounded_once():
    kernel = jnp.asarray(RNG.normal(size=(4, 3)), 'bfloat16')
    mean, var = RNG.normal(size=3).astype('f4'), np.full(3, 0.3, 'f4')
    got, bias = fold(kernel, None, None, None, Moments(mean, var, mean))
    wide, _ = fold(kernel.astype('f4'), None, None, None, Moments(mean, var, mean))
    assert got.dtype == bias.dtype == 'bfloat16'
    np.testing.assert_array_equal(got, wide.astype('bfloat16'))


@pytest.mark.parametrize(
    'padding', ['SAME', 'same', 'SAME_LOWER', 'CAUSAL', 1, (0, 1), ((0, 0), (0, 1))]
)
def test_zeros_around_the_output_of_batch_norm_are_refused(padding):
    x, params, scale, shift, running = trained(nn.Conv(6, (3, 3)), 4)
    kernel, bias = params['kernel'], params['bias']
    with pytest.raises(ValueError, match='puts zeros around .*; keep the batch norm'):
        fold(kernel, bias, scale, shift, running, next_padding=padding)


def test_zeros_around_are_refused_for_kernels_of_one_position_if_asked_for():
    running = Moments(*np.ones((3, 4), 'f4'))
    with pytest.raises(ValueError, match='next_padding=1 puts zeros'):
        fold(np.ones((1, 1, 4, 6), 'f4'), None, None, None, running, next_padding=1)


@pytest.mark.parametrize('padding', [None, 'VALID'], ids=['after', 'before'])
def test_nothing_is_promoted_unseen(padding):
    kernel, bias = RNG.normal(size=(3, 3, 4, 4)), RNG.normal(size=4)
    layer = jnp.asarray(kernel, 'bfloat16'), jnp.asarray(bias, 'float16')
    running = Moments(*RNG.uniform(1, 2, size=(3, 4)).astype('f4'))
    affine = jnp.asarray([1, 2, 3, 4], 'bfloat16'), jnp.asarray([1, 2, 3, 4], 'f4')
    options = {'epsilon': jnp.bfloat16(0.25), 'next_padding': padding}
    want = fold(*layer, *affine, running, **options)
    with jax.numpy_dtype_promotion('strict'), jax.numpy_rank_promotion('raise'):
        got = fold(*layer, *affine, running, **options)
        fold(layer[0], None, None, None, running, next_padding=padding)
    assert [v.dtype for v in got] == ['bfloat16', 'float16']
    jax.tree.map(np.testing.assert_array_equal, got, want)


CONV, DENSE = (3, 3, 4, 6), (4, 6)


@pytest.mark.parametrize(
    'padding',
    [
        {},
        {'low': 0},
        False,
        True,
        0.0,
        b'VALID',
        np.zeros(2, int),
        (),
        (0,),
        (0, 0, 0),
        (0, 0.0),
        (0, False),
        (0, None),
        [('a', 'b')],
        [('a', 'b'), 0],
        ['VALID', 'VALID'],
        ((0, 0), (0, 0, 0)),
        ((0, 0), ((0, 0), 0)),
    ],
    ids=repr,
)
def test_padding_that_flax_would_not_take_is_refused(padding):
    running = Moments(*np.ones((3, 4), 'f4'))
    message = f'next_padding={padding!r} does not fit a kernel of shape (3, 3, 4, 6); '
    with pytest.raises(ValueError, match=re.escape(message)):
        fold(np.ones(CONV, 'f4'), None, None, None, running, next_padding=padding)


@pytest.mark.parametrize('padding', [-1, 1, (0, 0)])
def test_a_dense_layer_has_nothing_to_pad_or_to_crop(padding):
    running = Moments(*np.ones((3, 4), 'f4'))
    with pytest.raises(ValueError, match=r'does not fit a kernel of shape \(4, 6\)'):
        fold(np.ones(DENSE, 'f4'), None, None, None, running, next_padding=padding)
    fold(np.ones(DENSE, 'f4'), None, None, None, running, next_padding=0)


@pytest.mark.parametrize(
    ('kernel', 'bias', 'scale', 'mean', 'padding', 'message'),
    [
        (DENSE, None, None, 4, None, r'mean has shape (4,), but with a kernel of sha'),
        (DENSE, (4,), None, 6, None, 'bias has shape (4,), but with a kernel of shape'),
        (DENSE, None, (1,), 6, None, 'scale has shape (1,)'),
        (DENSE, None, (), 6, None, 'scale has shape (), but with a kernel of shape (4'),
        (CONV, (9, 9, 6), None, 6, None, 'bias has shape (9, 9, 6)'),
        ((6,), None, None, 6, None, 'kernel has shape (6,); its last two axes'),
        (
            DENSE,
            None,
            None,
            6,
            'VALID',
            'mean has shape (6,), but with a kernel',
        ),
        (DENSE, None, None, 8, 'VALID', 'mean has shape (8,)'),
        (CONV, None, None, 2, 'VALID', 'mean has shape (2,)'),
        (CONV, None, None, 0, 'VALID', 'mean has shape (0,)'),
        (CONV, None, None, 16, 'VALID', 'mean has shape (16,)'),
        (CONV, (4,), None, 4, 'VALID', 'it must be (6,), one value per feature'),
        (CONV, None, (6,), 4, 'VALID', 'it must be (4,), one value per feature'),
        (CONV, None, None, 4, 'SAMEY', "next_padding='SAMEY' is none of VALID"),
    ],
)
def test_shapes_that_do_not_go_together(kernel, bias, scale, mean, padding, message):
    ones = [None if s is None else np.ones(s, 'f4') for s in (kernel, bias, scale)]
    running = Moments(*np.ones((3, mean), 'f4'))
    with pytest.raises(ValueError, match=re.escape(message)):
        fold(*ones, None, running, next_padding=padding)


def test_groups_of_the_next_layer_are_not_guessed():
    running = Moments(*np.ones((3, 16), 'f4'))
    grouped = np.ones((3, 3, 4, 8), 'f4'), None, None, None, running
    fold(*grouped, next_padding='VALID', next_groups=4)
    for groups in (1, 2, 8):
        with pytest.raises(ValueError, match=r'mean has shape \(16,\)'):
            fold(*grouped, next_padding='VALID', next_groups=groups)
    with pytest.raises(ValueError, match='next_groups=4 must divide the 6 outputs'):
        fold(np.ones((4, 6), 'f4'), *grouped[1:], next_padding=0, next_groups=4)


def test_integers_and_a_vanishing_epsilon_are_refused():
    running = Moments(*np.ones((3, 6), 'f4'))
    with pytest.raises(TypeError, match='kernel has dtype int8'):
        fold(np.ones((4, 6), 'int8'), None, None, None, running)
    with pytest.raises(ValueError, match='epsilon=0 must be'):
        fold(np.ones((4, 6), 'f4'), None, None, None, running, epsilon=0)
