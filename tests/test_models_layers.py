"""The convolution and the pooling beside Flax's, and what bfloat16 leaves exact."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import (
    KEY,
    PLACEMENTS,
    SIZES,
    apply,
    close,
    normal,
    parameters,
    shapes_of,
    small,
)

from bnjax.models import Conv3x3, max_pool

IMAGES = [(2, 6, 6, 3), (2, 5, 7, 1), (3, 1, 4, 2), (1, 2, 3, 4), (2, 1, 1, 1)]


@pytest.mark.parametrize(
    ('shape', 'stride', 'use_bias'),
    [
        *((shape, 2, True) for shape in IMAGES),
        *((shape, stride, True) for shape in IMAGES[:2] for stride in (1, 3)),
        (IMAGES[0], 2, False),
    ],
)
def test_convolution_is_flax_convolution(shape, stride, use_bias):
    init = nn.initializers.he_normal()
    ours = Conv3x3(5, use_bias=use_bias, kernel_init=init, stride=stride)
    flax = nn.Conv(5, (3, 3), strides=stride, padding=1, use_bias=use_bias)
    x = normal(*shape)
    params = jax.eval_shape(flax.init, KEY, x)
    assert jax.eval_shape(ours.init, KEY, x) == params
    params = jax.tree.map(lambda p: normal(*p.shape), params)
    dy = normal(*jax.eval_shape(flax.apply, params, x).shape)

    @functools.partial(jax.jit, static_argnums=0)
    def with_gradients(layer, params, x):
        y, gradients = jax.vjp(layer.apply, params, x)
        return y, gradients(dy)

    results = (with_gradients(layer, params, x) for layer in (ours, flax))
    jax.tree.map(close, *results)


@pytest.mark.parametrize('shape', [(2, 4, 6, 3), (2, 5, 7, 1), (1, 2, 3, 2)])
def test_pooling_is_flax_pooling(shape):
    def flax(x):
        return nn.max_pool(x, (2, 2), strides=(2, 2))

    x = normal(*shape)
    y, gradient = jax.vjp(max_pool, x)
    expected, flax_gradient = jax.vjp(flax, x)
    np.testing.assert_array_equal(y, expected)
    dy = normal(*y.shape)
    np.testing.assert_array_equal(gradient(dy)[0], flax_gradient(dy)[0])


each_network = pytest.mark.parametrize('name', list(SIZES))


@each_network
@pytest.mark.parametrize('placement', PLACEMENTS)
def test_with_bfloat16_all_that_is_kept_is_float32(name, placement):
    net, variables, x = small(name, placement=placement, dtype='bfloat16')

    def step(params):
        both = variables | {'params': params}
        logits, changed = net.apply(both, x, True, mutable=True)
        return logits.sum(), (logits, changed)

    kept = jax.eval_shape(jax.grad(step, has_aux=True), variables['params'])
    for value in jax.tree.leaves((kept, shapes_of(net, x.shape))):
        assert value.dtype == jnp.float32


@each_network
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_every_product_but_the_last_is_in_the_asked_dtype(name, dtype):
    net, variables, x = small(name, dtype=dtype)
    jaxpr = jax.make_jaxpr(lambda v: net.apply(v, x, False))(variables)
    products = re.findall(r':(\w+)\[[\d,]*\] = dot_general', str(jaxpr))
    kernels = [v for v in variables['params'].values() if 'kernel' in v]
    short = {'float32': 'f32', 'bfloat16': 'bf16'}[dtype]
    assert sorted(products) == sorted([short] * (len(kernels) - 1) + ['f32'])


@each_network
def test_bfloat16_is_near_float32(name):
    narrow, variables, x = small(name, dtype='bfloat16')
    net = small(name)[0]
    variables['params'] = parameters(net, x)
    (logits, expected), (rounded, changed) = (
        apply(n, variables, x, True, ('batch_stats',)) for n in (net, narrow)
    )
    error = abs(rounded - logits).max() / abs(logits).max()
    assert 0 < error < 0.06
    for a, b in zip(jax.tree.leaves(changed), jax.tree.leaves(expected), strict=True):
        assert abs(a - b).max() < 0.02 * max(1, abs(b).max())
