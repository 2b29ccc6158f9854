"""The networks beside plain Flax layers and a forward pass by hand in float64."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax import config
from bnjax.data import Split
from bnjax.models import Conv3x3, max_pool, network
from bnjax.trial import init, step

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
IMAGES = {'mlp': (5, 3, 2, 1), 'cnn': (5, 4, 5, 2)}
BY_HAND = {
    'relu': lambda x: np.maximum(x, 0),
    'sigmoid': lambda x: 1 / (1 + np.exp(-x)),
}
SQUARE = ((0, 0), (0, 1), (1, 0), (1, 1))
BOTH = (True, False)
each_network = pytest.mark.parametrize('name', ['mlp', 'cnn'])
each_placement = pytest.mark.parametrize('placement', ['none', 'before', 'after'])


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def close(actual, desired, rtol=1e-5):
    np.testing.assert_allclose(actual, desired, rtol=rtol, atol=rtol)


def two_layers(name, **fields):
    """A net of two hidden layers with every variable random, and images for it."""
    features = (4, 3) if name == 'mlp' else (3,)
    net = network(config.Model(name=name, features=features, **fields), classes=3)
    x = normal(*IMAGES[name])
    shapes = dict(jax.eval_shape(lambda: net.init(KEY, x, train=False)))
    shapes.pop('activations')
    variables = jax.tree.map(lambda v: normal(*v.shape), shapes)
    if 'batch_stats' in variables:
        for stats in variables['batch_stats'].values():
            stats['var'] = stats['var'] ** 2
    return net, variables, x


@functools.partial(jax.jit, static_argnums=0)
def apply(net, variables, x):
    """Logits and changed variables, in training and in evaluation."""
    return [net.apply(variables, x, train, mutable=['batch_stats']) for train in BOTH]


# By hand, in float64.


def linear(layer, x):
    kernel = layer['kernel']
    if kernel.ndim == 2:
        y = x @ kernel
    else:
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
        y = np.einsum('nhwcij,ijco->nhwo', windows, kernel)
    return y + layer.get('bias', 0)


def normalized(settings, layer, stats, x, train):
    """The output, and the running statistics afterwards."""
    axes = tuple(range(x.ndim - 1))
    mean, var = stats['mean'], stats['var']
    m, new = settings.momentum, stats
    if train:
        new = {
            'mean': m * mean + (1 - m) * x.mean(axes),
            'var': m * var + (1 - m) * x.var(axes),
        }
        mean, var = x.mean(axes), x.var(axes)
    y = (x - mean) / np.sqrt(var + settings.epsilon)
    return y * layer.get('scale', 1) + layer.get('bias', 0), new


def forward(settings, variables, x, train):
    variables = jax.tree.map(lambda v: np.asarray(v, np.float64), variables)
    params, new = variables['params'], {}
    x = np.asarray(x, np.float64)
    x = x.reshape(len(x), -1) if settings.name == 'mlp' else x
    for i in range(2):

        def norm(x, name=f'norm_{i}'):
            stats = variables['batch_stats'][name]
            y, new[name] = normalized(settings, params.get(name, {}), stats, x, train)
            return y

        x = linear(params[f'hidden_{i}'], x)
        x = norm(x) if settings.placement == 'before' else x
        x = BY_HAND[settings.activation](x)
        x = norm(x) if settings.placement == 'after' else x
    if settings.name == 'cnn':
        n, h, w, c = x.shape
        squares = [x[:, i : h // 2 * 2 : 2, j : w // 2 * 2 : 2] for i, j in SQUARE]
        x = np.max(squares, axis=0).mean((1, 2))
    return linear(params['output'], x), new


@each_network
@each_placement
@pytest.mark.parametrize(
    ('activation', 'affine'), [('relu', True), ('relu', False), ('sigmoid', True)]
)
def test_forward_by_hand(name, placement, activation, affine):
    net, variables, x = two_layers(
        name,
        placement=placement,
        activation=activation,
        use_scale=affine,
        use_bias=affine,
        momentum=0.7,
        epsilon=0.01,
    )
    for train, (logits, changed) in zip(BOTH, apply(net, variables, x), strict=True):
        expected, new = forward(net.settings, variables, x, train)
        close(logits, expected, rtol=1e-4)
        if placement == 'none':
            assert not changed
        else:
            assert set(changed['batch_stats']) == set(new) == {'norm_0', 'norm_1'}
            jax.tree.map(close, changed['batch_stats'], new)


@each_network
@each_placement
def test_hidden_layers_have_a_bias_unless_batch_norm_follows(name, placement):
    _, variables, _ = two_layers(name, placement=placement)
    hidden = {'kernel'} if placement == 'before' else {'kernel', 'bias'}
    params = variables['params']
    assert set(params['hidden_0']) == set(params['hidden_1']) == hidden
    assert set(params['output']) == {'kernel', 'bias'}
    if placement == 'none':
        assert set(variables) == {'params'}
        assert set(params) == {'hidden_0', 'hidden_1', 'output'}


@each_network
@pytest.mark.parametrize('placement', ['before', 'after'])
@pytest.mark.parametrize('use_scale', BOTH)
@pytest.mark.parametrize('use_bias', BOTH)
def test_scale_and_bias_go_one_by_one(name, placement, use_scale, use_bias):
    _, full, _ = two_layers(name, placement=placement)
    _, variables, _ = two_layers(
        name, placement=placement, use_scale=use_scale, use_bias=use_bias
    )
    learned = {'scale': use_scale, 'bias': use_bias}
    for i in range(2):
        norm = variables['params'].pop(f'norm_{i}', {})
        assert set(norm) == {parameter for parameter, on in learned.items() if on}
        assert set(full['params'].pop(f'norm_{i}')) == {'scale', 'bias'}
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, full)


def test_every_activation_trains():
    x = normal(8, 2, 2, 1)

    @jax.jit
    def gradients(params):
        def of(activation):
            net = network(config.Model(features=(4,), activation=activation), classes=2)

            def loss_of(params):
                logits, _ = net.apply({'params': params}, x, True, mutable=True)
                return (logits**2).sum()

            return jax.grad(loss_of)(params)

        return {activation: of(activation) for activation in config.activations()}

    net = network(config.Model(features=(4,)), classes=2)
    for activation, tree in gradients(net.init(KEY, x, False)['params']).items():
        for gradient in jax.tree.leaves(tree):
            assert jnp.isfinite(gradient).all(), activation


@pytest.mark.parametrize('rule', ['he_normal', 'glorot_uniform', 'lecun_normal'])
def test_kernels_come_from_the_named_initialiser(rule):
    net = network(config.Model(name='cnn', features=(64,), init=rule), classes=50)
    params = net.init(KEY, normal(1, 4, 4, 9), train=False)['params']
    for layer in ('hidden_0', 'output'):
        kernel = params[layer]['kernel']
        reference = getattr(nn.initializers, rule)()(KEY, kernel.shape)
        assert 0.92 < kernel.std() / reference.std() < 1.08
        assert 'normal' in rule or abs(kernel).max() < 1.01 * abs(reference).max()


# The convolution and the pooling beside Flax's.


@pytest.mark.parametrize('use_bias', BOTH)
@pytest.mark.parametrize(
    'shape', [(2, 6, 6, 3), (2, 5, 7, 1), (3, 1, 4, 2), (1, 2, 3, 4), (2, 1, 1, 1)]
)
def test_convolution_is_flax_convolution(shape, use_bias):
    ours = Conv3x3(5, use_bias=use_bias, kernel_init=nn.initializers.he_normal())
    flax = nn.Conv(5, (3, 3), padding='SAME', use_bias=use_bias)
    x, dy = normal(*shape), normal(*shape[:3], 5)
    params = jax.eval_shape(flax.init, KEY, x)
    assert jax.eval_shape(ours.init, KEY, x) == params
    params = jax.tree.map(lambda p: normal(*p.shape), params)

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


@each_placement
def test_no_convolution_is_left_in_a_training_step(placement):
    flat = config.flatten(config.defaults())
    flat |= {'model.name': 'cnn', 'model.placement': placement, 'model.features': (3,)}
    cfg, batch = config.build(flat), Split(normal(4, 4, 4, 1), np.arange(4))
    state = jax.eval_shape(lambda: init(cfg, 4, batch))
    jaxpr = str(jax.make_jaxpr(functools.partial(step, cfg, 4))(state, batch))
    assert 'dot_general' in jaxpr
    assert 'conv_general' not in jaxpr


@pytest.mark.parametrize('size', [(1, 8), (8, 1), (4, 4)])
def test_an_image_too_small_to_halve_is_refused(size):
    net = network(config.Model(name='cnn', features=(2, 2, 2)), classes=2)
    with pytest.raises(ValueError, match=r'model\.features .* halved again'):
        net.init(KEY, normal(1, *size, 1), train=False)
