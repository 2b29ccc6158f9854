"""Networks that were kept, evaluated again: against a way forward by hand."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from bnjax import config
from bnjax.claims import trained
from bnjax.models import network
from bnjax.records import METRICS, Record

EPSILON = 0.1  # large, so that it counts


@pytest.fixture(scope='module')
def record():
    """A small network on digits with other scales, shifts and statistics than drawn."""
    fields = config.flatten(config.defaults()) | {
        'model.features': (5, 4),
        'model.epsilon': EPSILON,
        'data.images': 200,
        'data.validation_percent': 5,
    }
    net = network(config.build(fields).model, classes=10)
    variables = net.init(jax.random.key(0), np.zeros((1, 8, 8, 1)), train=False)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda a: np.asarray(a) + rng.uniform(0.1, 1, a.shape).astype(np.float32),
        {name: variables[name] for name in ('params', 'batch_stats')},
    )
    curves = flatten_dict({'state': variables}, sep='/')
    unknown = dict.fromkeys(METRICS, 0.5)
    return Record('0' * 12, 'done', fields, unknown, 1, 0.0, curves=curves)


def by_hand(record, x, statistics=None):
    """Logits (n, 10), and means and variances of the batch x by layer."""
    curves, h, seen = record.curves, x.reshape(len(x), -1), []
    for i in range(2):
        z = h @ curves[f'state/params/hidden_{i}/kernel']
        seen.append((z.mean(0), z.var(0)))
        mean, var = statistics[i] if statistics else seen[i]
        z = (z - mean) / np.sqrt(var + EPSILON)
        scale, shift = (curves[f'state/params/norm_{i}/{k}'] for k in ('scale', 'bias'))
        h = np.maximum(scale * z + shift, 0)
    kernel, bias = (curves[f'state/params/output/{k}'] for k in ('kernel', 'bias'))
    return h @ kernel + bias, seen


def test_the_images_are_those_of_its_fields(record):
    images = trained.images_of(record)
    assert len(images.train.y) == 200
    assert len(images.validation.y) == 71  # 5 % of 1437


def test_in_training_form_each_group_is_normalised_by_itself(record):
    groups = trained.images_of(record).train.x[:60].reshape(3, 20, 8, 8, 1)
    seen = trained.in_training(record, groups)
    expected = [by_hand(record, group)[0] for group in groups]
    np.testing.assert_allclose(seen['logits'], expected, rtol=1e-4, atol=1e-4)
    assert seen['activations']['activation_1'][0].shape == (3, 20, 4)


def test_statistics_are_means_over_groups_and_the_factor_is_of_variances(record):
    groups = trained.images_of(record).train.x[:60].reshape(3, 20, 8, 8, 1)
    moments = trained.in_training(record, groups)['moments']
    found = trained.statistics(moments, factor=20 / 19)
    by_group = [by_hand(record, group)[1] for group in groups]
    for i in range(2):
        mean = np.mean([layers[i][0] for layers in by_group], 0)
        var = np.mean([layers[i][1] for layers in by_group], 0)
        np.testing.assert_allclose(found[f'norm_{i}']['mean'], mean, rtol=1e-4)
        np.testing.assert_allclose(found[f'norm_{i}']['var'], var * 20 / 19, rtol=1e-4)


def test_it_is_tested_by_its_running_statistics_or_by_others(record):
    x, y = trained.images_of(record).test
    own = [
        [record.curves[f'state/batch_stats/norm_{i}/{k}'] for k in ('mean', 'var')]
        for i in range(2)
    ]
    logits = by_hand(record, x, own)[0]
    found = trained.tested(record, x)
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-4)
    right = (logits.argmax(1) == y).mean()
    assert trained.accuracy_of(found, y) == pytest.approx(right)

    names = 'mean', 'var'
    other = [[2 * values for values in layer] for layer in own]
    by = {f'norm_{i}': dict(zip(names, other[i], strict=True)) for i in range(2)}
    expected = by_hand(record, x, other)[0]
    np.testing.assert_allclose(
        trained.tested(record, x, by), expected, rtol=1e-4, atol=1e-4
    )
