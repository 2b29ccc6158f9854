"""Probes beside a computation by hand, and what they cost when they are off."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax import config, program
from bnjax.data import Dataset, Split
from bnjax.probes import PROBES, in_depth_order, measure
from bnjax.trial import init, step

RNG = np.random.default_rng(0)
CLASSES = 3
FIELDS = config.flatten(config.defaults()) | {
    'model.features': (4, 3),
    'batch_size': 10,
    'epochs': 5,
    'probes.names': tuple(PROBES),
    'probes.every': 1,
}
HIDDEN = ['hidden_0', 'hidden_1']


def images(n):
    x = RNG.normal(size=(n, 2, 2, 1)).astype(np.float32)
    return Split(x, RNG.integers(0, CLASSES, n).astype(np.int32))


DATA = Dataset(images(40), images(0), images(5), CLASSES)


def compiled(width=1, data=DATA, **fields):
    static, numbers = program.split_fields(FIELDS | fields | {'execution.width': width})
    return program.compile_program(static, numbers, data)


def run(width=1, data=DATA, **fields):
    """The logs of one trial: before training, then one an epoch."""
    numbers = program.split_fields(FIELDS | fields)[1]
    chunk = compiled(width, data, **fields)
    return [logs[0] for logs in program.run_chunk(chunk, [numbers])]


def hidden_layers(settings, params, x):
    """Activations and logits in training mode, written out."""
    activations, x = [], x.reshape(len(x), -1)

    def norm(x, layer):
        y = (x - x.mean(0)) / jnp.sqrt(x.var(0) + settings.epsilon)
        return y * layer['scale'] + layer['bias']

    for i in range(2):
        layer = params[f'hidden_{i}']
        x = x @ layer['kernel'] + layer.get('bias', 0)
        if settings.placement == 'before':
            x = norm(x, params[f'norm_{i}'])
        x = jnp.maximum(x, 0) if settings.activation == 'relu' else jnp.tanh(x)
        activations.append(x)
        if settings.placement == 'after':
            x = norm(x, params[f'norm_{i}'])
    return activations, x @ params['output']['kernel'] + params['output']['bias']


def by_hand(cfg, params, batch):
    """Every probe of one batch: name, then layer, to a number."""

    def loss_of(params):
        log_p = nn.log_softmax(hidden_layers(cfg.model, params, batch.x)[1])
        return -log_p[jnp.arange(len(batch.y)), batch.y].mean()

    gradients = jax.grad(loss_of)(params)
    activations = hidden_layers(cfg.model, params, batch.x)[0]
    values = {
        layer: np.asarray(a, np.float64)
        for layer, a in zip(HIDDEN, activations, strict=True)
    }
    norms = {
        layer: np.sqrt((np.asarray(gradients[layer]['kernel'], np.float64) ** 2).sum())
        for layer in [*HIDDEN, 'output']
    }
    return {
        'gradient_norm': norms,
        'activation_mean': {k: v.mean() for k, v in values.items()},
        'activation_std': {k: v.std() for k, v in values.items()},
        'zero_fraction': {k: (v == 0).mean() for k, v in values.items()},
    }


def close(actual, desired):
    assert jax.tree.structure(actual) == jax.tree.structure(desired)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(desired), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize(
    ('placement', 'activation'),
    [('none', 'relu'), ('before', 'relu'), ('after', 'relu'), ('before', 'tanh')],
)
def test_a_probe_measures_the_batch_of_its_step(placement, activation):
    fields = {'model.placement': placement, 'model.activation': activation}
    cfg, batch = config.build(FIELDS | fields), images(10)
    state = init(cfg, CLASSES, batch)
    one = jax.jit(lambda state: step(cfg, CLASSES, state, batch, 0, 1))
    for _ in range(3):
        after, _, sample = one(state)
        measured = measure(tuple(PROBES), sample)
        close(measured, by_hand(cfg, state.params, batch))
        state = after
    zeros = measured['zero_fraction'].values()
    assert all(0 < z < 1 for z in zeros) if activation == 'relu' else not any(zeros)


def test_the_cnn_is_measured_layer_by_layer():
    fields = {'model.name': 'cnn', 'model.features': (3,), 'model.placement': 'none'}
    cfg, batch = config.build(FIELDS | fields), images(6)
    state = init(cfg, CLASSES, batch)
    sample = step(cfg, CLASSES, state, batch, 0, 1)[2]
    x = batch.x
    for layer in HIDDEN:
        conv = nn.Conv(3, (3, 3))
        x = jax.nn.relu(conv.apply({'params': state.params[layer]}, x))
        expected = {'activation_mean': x.mean(), 'activation_std': x.std()}
        expected['zero_fraction'] = (x == 0).mean()
        for name, value in expected.items():
            close(measure((name,), sample)[name][layer], value)
    assert set(measure(('gradient_norm',), sample)['gradient_norm']) == {
        *HIDDEN,
        'output',
    }


@pytest.mark.parametrize('width', [1, 2])
def test_probes_are_sampled_on_the_multiples_of_every(width):
    # Each image is the same, so that the order of the images does not matter.
    alike = Split(np.tile(DATA.train.x[:10], (4, 1, 1, 1)), np.tile([0, 1, 2, 0], 10))
    constant = Split(alike.x[:1].repeat(40, 0), alike.y[:1].repeat(40))
    fields = {'probes.every': 3, 'model.placement': 'none'}
    logs = run(width, DATA._replace(train=constant), **fields)[1:]
    assert len(logs) == 5

    cfg = config.build(FIELDS | fields)
    batch = Split(constant.x[:10], constant.y[:10])
    state = init(cfg, CLASSES, batch)
    one = jax.jit(lambda state: step(cfg, CLASSES, state, batch, 0, 1))
    for i in range(20):
        epoch, place = divmod(i, 4)
        seen = jax.tree.map(lambda v, at=place: v[at], logs[epoch]['probes'])
        state, _, sample = one(state)
        expected = jax.device_get(measure(tuple(PROBES), sample))
        nothing = jax.tree.map(np.zeros_like, expected)
        close(seen, nothing if i % 3 else expected)


def text_of(chunk):
    """The instructions of the training program, without where they come from."""
    cells = [cell.cell_contents for cell in chunk.train.__closure__]
    (text,) = (cell.as_text() for cell in cells if hasattr(cell, 'as_text'))
    lines = [line for line in text.splitlines() if ' = ' in line]
    assert any('dot(' in line for line in lines)
    return [re.sub(r',? metadata=\{[^}]*\}', '', line) for line in lines]


@pytest.mark.parametrize('width', [1, 2])
def test_probes_that_are_off_cost_nothing(width, monkeypatch):
    off = {'probes.names': ()}
    text = text_of(compiled(width, **off, **{'probes.every': 1}))
    assert text == text_of(compiled(width, **off, **{'probes.every': 7}))
    assert text != text_of(compiled(width, **{'probes.every': 7}))

    def sow_nothing(self, collection, name, value):
        return original(self, collection, name, jnp.zeros(()))

    original = nn.Module.sow
    monkeypatch.setattr(nn.Module, 'sow', sow_nothing)
    assert text == text_of(compiled(width, **off))


@pytest.mark.parametrize('width', [1, 2])
def test_probes_leave_the_training_alone(width):
    on, off = run(width), run(width, **{'probes.names': ()})
    for a, b in zip(on, off, strict=True):
        for name in ('train_loss', 'train_accuracy', 'test_loss', 'test_accuracy'):
            if name in b:
                np.testing.assert_allclose(a[name], b[name], rtol=1e-6)
    assert 'probes' in on[1] and not off[1]['probes']


def test_layers_in_depth_order():
    names = ['output', 'hidden_10', 'hidden_2', 'hidden_0', 'hidden_11', 'hidden_1']
    assert in_depth_order(dict.fromkeys(names)) == [
        *('hidden_0', 'hidden_1', 'hidden_2', 'hidden_10', 'hidden_11', 'output'),
    ]


def test_the_probes_are_those_that_the_fields_allow():
    assert set(PROBES) == set(config.FIELDS['probes.names'].metadata['choices'])
