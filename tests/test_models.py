"""The networks beside a forward pass by hand in float64."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import (
    BOTH,
    CLASSES,
    KEY,
    PLACEMENTS,
    SIZES,
    ByHand,
    apply,
    close,
    normal,
    parameters,
    small,
)

from bnjax import config, execution
from bnjax.config import ACTIVATIONS
from bnjax.models import NETWORKS, Network, network
from bnjax.population import update_layers

nearly = functools.partial(close, rtol=1e-4)
each_network = pytest.mark.parametrize('name', list(SIZES))
each_placement = pytest.mark.parametrize('placement', PLACEMENTS)
VARIANTS = [
    *({'name': name} for name in SIZES),
    *({'name': 'resnet', 'block': block} for block in ('pre', 'addition')),
    *({'name': name, 'statistics': 'per_step'} for name in ('rnn', 'lstm')),
]
each_variant = pytest.mark.parametrize(
    'variant', VARIANTS, ids=lambda v: '-'.join(v.values())
)


def check_by_hand(net, variables, x):
    for train in BOTH:
        logits, changed = apply(net, variables, x, train)
        by_hand = ByHand(net.settings, variables, train)
        assert logits.dtype == jnp.float32
        close(logits, by_hand(x), rtol=1e-4)
        assert set(by_hand.seen) == set(changed.get('batch_stats', {}))
        for name, expected in by_hand.new_stats().items():
            jax.tree.map(nearly, changed['batch_stats'][name], expected)


@each_variant
@each_placement
def test_forward_by_hand(variant, placement):
    check_by_hand(*small(**variant, placement=placement, momentum=0.7, epsilon=0.1))


@pytest.mark.parametrize('name', ['mlp', 'cnn'])
@each_placement
@pytest.mark.parametrize(('activation', 'affine'), [('relu', False), ('sigmoid', True)])
def test_forward_without_scale_and_bias_or_by_another_activation(
    name, placement, activation, affine
):
    fields = {'activation': activation, 'use_scale': affine, 'use_bias': affine}
    check_by_hand(*small(name, placement=placement, **fields))


def test_forward_with_two_blocks_in_a_stage():
    check_by_hand(*small('resnet', block='pre', depth=10))


def loss_of(net, variables, x, y):
    """The cross entropy, and the collections that the step changes."""
    collections = ['batch_stats', 'activations']
    logits, changed = net.apply(variables, x, True, mutable=collections)
    log_p = jax.nn.log_softmax(logits)
    return -log_p[jnp.arange(len(y)), y].mean(), changed


@functools.cache
def traced(**fields):
    """The gradient of a step as a program, and what it sows of which variables."""
    net, variables, x = small(**fields)
    y = np.zeros(len(x), int)
    gradient = jax.grad(lambda v: loss_of(net, v, x, y), has_aux=True)
    jaxpr, (_, changed) = jax.make_jaxpr(gradient, return_shape=True)(variables)
    return str(jaxpr), changed['activations'], variables


@each_variant
@each_placement
def test_a_hidden_layer_has_its_activation_and_batch_norm(variant, placement):
    _, sown, variables = traced(**variant, placement=placement)
    kernels = {k for k, v in variables['params'].items() if 'kernel' in v}
    hidden = {k for k in kernels if not k.endswith('_recurrent')} - {'output'}
    numbers = {k.removeprefix('hidden_') for k in hidden}
    assert numbers == {str(i) for i in range(len(hidden))}
    assert {k.removeprefix('activation_') for k in sown} == numbers
    for (activation,) in sown.values():
        assert activation.shape[0] == SIZES[variant['name']][0][0]
        assert activation.dtype == jnp.float32
    norms = {k.split('_')[1] for k in variables.get('batch_stats', {})}
    assert norms == (set() if placement == 'none' else numbers)


@each_network
@each_placement
def test_hidden_layers_have_a_bias_unless_batch_norm_follows(name, placement):
    params = small(name, placement=placement)[1]['params']
    for layer, values in params.items():
        if layer.endswith('_recurrent') or (name == 'lstm' and layer[-1].isdigit()):
            expected = {'kernel'}  # one bias for the sum of two products
        elif layer == 'output' or placement != 'before':
            expected = {'kernel', 'bias'}
        else:
            expected = {'kernel'}
        if not layer.startswith('norm_') and not layer.endswith('_cell'):
            assert set(values) == expected, layer
    assert placement != 'none' or not any(k.startswith('norm_') for k in params)


@each_network
@pytest.mark.parametrize('placement', ['before', 'after'])
@pytest.mark.parametrize(
    ('use_scale', 'use_bias'), [(True, False), (False, True), (False, False)]
)
def test_scale_and_bias_go_one_by_one(name, placement, use_scale, use_bias):
    full = small(name, placement=placement)[1]
    fields = {'use_scale': use_scale, 'use_bias': use_bias}
    variables = small(name, placement=placement, **fields)[1]
    learned = {'scale': use_scale, 'bias': use_bias}
    for norm in variables['batch_stats']:
        had = set(full['params'].pop(norm))
        has = set(variables['params'].pop(norm, {}))
        assert has == {parameter for parameter in had if learned[parameter]}
        no_shift = norm.endswith(('_input', '_recurrent'))
        assert had == ({'scale'} if no_shift else {'scale', 'bias'})
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, full)


@each_network
def test_one_key_gives_every_arm_the_same_weights(name, monkeypatch):
    def of_key(key, shape, dtype=jnp.float32):  # compiled once for all layers
        return jnp.full(shape, jax.random.uniform(key), dtype)

    monkeypatch.setattr(nn.initializers, 'he_normal', lambda: of_key)

    def weights(**arm):
        net, _, x = small(name, **arm)
        params = parameters(net, x)
        return {k: v['kernel'] for k, v in params.items() if 'kernel' in v}

    first = weights(placement='none')
    arms = [{'placement': placement} for placement in PLACEMENTS]
    arms += [variant for variant in VARIANTS if variant['name'] == name]
    for arm in arms:
        others = weights(**{k: v for k, v in arm.items() if k != 'name'})
        assert set(others) == set(first)
        for layer, kernel in others.items():
            np.testing.assert_array_equal(kernel, first[layer])
    assert len({float(kernel.max()) for kernel in first.values()}) == len(first)


@each_variant
def test_one_update_from_the_sown_moments_is_that_of_the_network(variant):
    net, variables, x = small(**variant, placement='after', momentum=0.7, epsilon=0.1)
    _, changed = apply(net, variables, x, True)
    new = update_layers(variables['batch_stats'], changed['moments'], momentum=0.7)
    jax.tree.map(close, new, dict(changed['batch_stats']))


ONE_STAGE = {'features': (4,), 'depth': 4}


@each_variant
def test_a_short_training_lowers_the_loss(variant):
    several = variant == {'name': 'resnet'}  # which is enough, and one compiles sooner
    net, variables, x = small(**{} if several else ONE_STAGE, **variant)
    y = jnp.arange(len(x)) % CLASSES

    def descend(params, _):
        loss, gradients = jax.value_and_grad(
            lambda params: loss_of(net, variables | {'params': params}, x, y)[0]
        )(params)
        return jax.tree.map(lambda p, g: p - 0.2 * g, params, gradients), loss

    train = jax.jit(lambda params: jax.lax.scan(descend, params, length=30)[1])
    losses = train(parameters(net, x))
    assert losses[-1] < 0.9 * losses[0]


@each_variant
@each_placement
def test_no_convolution_is_left_in_a_training_step(variant, placement):
    jaxpr, _, _ = traced(**variant, placement=placement)
    assert 'dot_general' in jaxpr
    assert 'conv_general' not in jaxpr


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

        return {activation: of(activation) for activation in ACTIVATIONS}

    net = network(config.Model(features=(4,)), classes=2)
    for activation, tree in gradients(net.init(KEY, x, False)['params']).items():
        for gradient in jax.tree.leaves(tree):
            assert jnp.isfinite(gradient).all(), activation


@pytest.mark.parametrize('name', ['cnn', 'darknet'])
@pytest.mark.parametrize('size', [(1, 8), (8, 1), (2, 2)])
def test_an_image_too_small_to_halve_is_refused(name, size):
    net = network(config.Model(name=name, features=(2, 2, 2, 2)), classes=2)
    with pytest.raises(ValueError, match=r'model\.features .* halved again'):
        jax.eval_shape(lambda: net.init(KEY, normal(1, *size, 1), train=False))


def test_every_name_has_a_network_and_a_width_on_every_platform():
    names = config.FIELDS['model.name'].metadata['choices']
    assert tuple(NETWORKS) == names == tuple(SIZES)
    assert all(issubclass(net, Network) for net in NETWORKS.values())
    for widths in execution.WIDTH.values():
        assert set(widths) == set(names)
