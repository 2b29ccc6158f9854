"""Residual networks: their size, their shortcuts, and which depths there are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import KEY, apply, normal, small

from bnjax import config
from bnjax.models import network
from bnjax.models.residual import shortcut

CIFAR = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)


def of_cifar(depth, **fields):
    """The network of the papers, and the shapes of its variables."""
    fields = {'features': (16, 32, 64), 'depth': depth} | fields
    net = network(config.Model(name='resnet', **fields), classes=10)
    return net, jax.eval_shape(lambda x: net.init(KEY, x, train=False), CIFAR)


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize('block', ['post', 'pre', 'addition'])
def test_resnet_20_has_as_many_parameters_as_counted_by_hand(block):
    first = 9 * 3 * 16
    stages = 6 * 9 * 16 * 16 + (16 + 5 * 32) * 9 * 32 + (32 + 5 * 64) * 9 * 64
    norms = 2 * (7 * 16 + 6 * 32 + 6 * 64)
    output = 64 * 10 + 10
    assert first + stages + norms + output == 269_722
    assert size(of_cifar(20, block=block)[1]['params']) == 269_722


# He et al. 2015, table 6.
@pytest.mark.parametrize(
    ('depth', 'millions'), [(20, '0.27'), (32, '0.46'), (56, '0.85'), (110, '1.7')]
)
def test_each_depth_has_the_published_number_of_parameters(depth, millions):
    net, variables = of_cifar(depth)
    digits = len(millions.partition('.')[2])
    assert f'{size(variables["params"]) / 1e6:.{digits}f}' == millions
    kernels = [v for k, v in variables['params'].items() if 'kernel' in v]
    assert len(kernels) == depth
    variables.pop('activations')
    logits = jax.eval_shape(lambda v, x: net.apply(v, x, False), variables, CIFAR)
    assert logits.shape == (2, 10)


def test_each_stage_halves_the_image():
    sown = of_cifar(20)[1]['activations']
    shapes = [sown[f'activation_{i}'][0].shape[1:] for i in range(19)]
    assert shapes == [(32, 32, 16)] * 7 + [(16, 16, 32)] * 6 + [(8, 8, 64)] * 6


def test_a_shortcut_takes_every_second_position_and_adds_zeros():
    x = normal(2, 5, 4, 3)
    y = shortcut(x, width=7, stride=2)
    np.testing.assert_array_equal(y[..., :3], x[:, ::2, ::2])
    assert y.shape == (2, 3, 2, 7)
    assert not y[..., 3:].any()
    np.testing.assert_array_equal(shortcut(x, width=3, stride=1), x)


@pytest.mark.parametrize('block', ['post', 'addition'])
def test_a_block_whose_convolutions_give_nothing_is_its_shortcut(block):
    net, variables, x = small('resnet', placement='none', block=block)
    params = variables['params']
    for name, layer in params.items():
        if name not in ('hidden_0', 'output'):
            params[name] = jax.tree.map(np.zeros_like, layer)
    _, seen = apply(net, variables, x, True, ('activations',))
    first, last = (seen['activations'][f'activation_{i}'][0] for i in (0, 4))
    np.testing.assert_array_equal(last, shortcut(first, width=5, stride=2))


@pytest.mark.parametrize('placement', ['none', 'after'])
def test_without_batch_norm_before_the_activation_two_arrangements_are_one(placement):
    post, variables, x = small('resnet', placement=placement, block='post')
    addition = small('resnet', placement=placement, block='addition')[0]
    pre = small('resnet', placement=placement, block='pre')[0]
    post, addition, pre = (
        apply(net, variables, x, False)[0] for net in (post, addition, pre)
    )
    np.testing.assert_array_equal(post, addition)
    assert not np.allclose(post, pre)


@pytest.mark.parametrize(
    ('depth', 'features', 'nearest'),
    [
        (21, (16, 32, 64), '20 and 26'),
        (109, (16, 32), '106 and 110'),
        (4, (16, 32, 64), '8'),
        (20, (64, 64), '18 and 22'),
    ],
)
def test_a_depth_that_does_not_fit_is_answered_by_those_that_do(
    depth, features, nearest
):
    said = rf'^model\.depth={depth} must be .*; the nearest: {nearest}(\n|$)'
    with pytest.raises(ValueError, match=said):
        of_cifar(depth, features=features)
    for number in map(int, nearest.split(' and ')):
        of_cifar(number, features=features)


@pytest.mark.parametrize('features', [(), (32, 16)])
def test_stages_cannot_be_none_or_become_narrower(features):
    with pytest.raises(ValueError, match=r'model\.features='):
        of_cifar(20, features=features)
