"""Probes beside their definitions, and what they cost when they are off."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import probes_by_hand
import pytest
from networks import SIZES, apply, small

from bnjax import config, program
from bnjax.data import Dataset, Split
from bnjax.probe_names import NAMES, REESTIMATED
from bnjax.probes import PROBES, Sample, Step, in_depth_order, measure
from bnjax.trial import init, look, step

RNG = np.random.default_rng(0)
CLASSES = 3
FIELDS = config.flatten(config.defaults()) | {
    'batch_size': 10,
    'epochs': 3,
    'optimizer.learning_rate': 0.3,
    'probes.names': tuple(PROBES),
    'probes.every': 1,
}


def images(n):
    x = RNG.normal(size=(n, 2, 2, 1)).astype(np.float32)
    return Split(x, RNG.integers(0, CLASSES, n).astype(np.int32))


# An epoch is one step, whose batch is known but for the order of its images.
BATCH = images(10)
DATA = Dataset(BATCH, images(0), images(5), CLASSES)
CASES = [
    ('mlp', 'before', 'relu', 3),
    ('cnn', 'after', 'sigmoid', 1),
]
each_case = pytest.mark.parametrize(('name', 'placement', 'activation', 'width'), CASES)


def fields_of(name, placement, activation):
    return FIELDS | {
        'model.name': name,
        'model.features': (3,) if name == 'cnn' else (4, 3),
        'model.placement': placement,
        'model.activation': activation,
    }


def compiled(fields, width, data=DATA):
    static, numbers = program.split_fields(fields | {'execution.width': width})
    return program.compile_program(static, numbers, data)


@functools.cache
def trained(name, placement, activation, width, names=tuple(PROBES)):
    """The states from first to last, and the logs of the epochs; both by trial."""
    fields = fields_of(name, placement, activation) | {'probes.names': names}
    numbers = [
        program.split_fields(fields | {'seed': seed})[1] for seed in range(width)
    ]
    states = []
    for snapshot in program.run_chunk(compiled(fields, width), numbers):
        states.append(jax.tree.map(np.array, snapshot.state))
        logs = snapshot.logs
    return [program.by_trial(tree, width) for tree in (states, logs)]


def in_float64(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


@each_case
def test_each_probe_is_what_its_definition_gives(name, placement, activation, width):
    settings = config.build(fields_of(name, placement, activation)).model
    for states, logs in zip(*trained(name, placement, activation, width), strict=True):
        steps = zip(states, states[1:], logs[1:], strict=False)
        for before, after, log in list(steps)[1:]:
            expected = probes_by_hand.probes(
                settings,
                *in_float64((before.params, before.batch_stats, after.params)),
                BATCH,
            )
            assert set(log['probes']) == set(expected) == set(PROBES)
            for probe, by_layer in expected.items():
                assert set(log['probes'][probe]) == set(by_layer)
                for layer, value in by_layer.items():
                    (found,) = log['probes'][probe][layer]
                    where = f'{probe} of {layer}'
                    np.testing.assert_allclose(found, value, 1e-4, 1e-7, err_msg=where)


@each_case
def test_probes_leave_the_training_alone(name, placement, activation, width):
    case = name, placement, activation, width
    (states, logs), (alone, plain) = trained(*case), trained(*case, names=())
    jax.tree.map(np.testing.assert_array_equal, states, alone)
    for a, b in zip(sum(logs, []), sum(plain, []), strict=True):
        for metric in b.keys() - {'probes'}:
            np.testing.assert_array_equal(a[metric], b[metric], metric)


@pytest.mark.parametrize('width', [1, 2])
def test_probes_are_sampled_on_the_multiples_of_every(width):
    # Each image is the same, so that the order of the images does not matter.
    constant = Split(BATCH.x[:1].repeat(40, 0), BATCH.y[:1].repeat(40))
    names = ('activation_mean', 'gradient_change')
    fields = fields_of('mlp', 'none', 'relu')
    fields |= {'probes.every': 3, 'probes.names': names}
    chunk = compiled(fields, width, DATA._replace(train=constant))
    *_, last = program.run_chunk(chunk, [program.split_fields(fields)[1]])
    logs = [program.by_trial(log, 1)[0] for log in last.logs[1:]]
    assert len(logs) == 3

    cfg = config.build(fields)
    batch = Split(constant.x[:10], constant.y[:10])
    state = init(cfg, CLASSES, batch)
    one = jax.jit(functools.partial(measured_step, cfg, names, batch))
    for i in range(12):
        epoch, place = divmod(i, 4)
        seen = jax.tree.map(lambda v, at=place: v[at], logs[epoch]['probes'])
        state, expected = one(state, i)
        assert jax.tree.structure(seen) == jax.tree.structure(expected)
        for a, b in zip(jax.tree.leaves(seen), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, 0 if i % 3 else b, rtol=1e-4, atol=1e-6)
            assert b != 0


def measured_step(cfg, names, batch, state, number):
    after, _ = step(cfg, CLASSES, state, batch, number, 12)

    def there(params):
        return look(cfg, CLASSES, state._replace(params=params), batch, number)

    return after, measure(names, Step(there(state.params), after.params, there))


def text_of(chunk):
    """The instructions of the training program, without where they come from."""
    cells = [cell.cell_contents for cell in chunk.train.__closure__]
    (text,) = (cell.as_text() for cell in cells if hasattr(cell, 'as_text'))
    lines = [line for line in text.splitlines() if ' = ' in line]
    assert any('dot(' in line for line in lines)
    return [re.sub(r',? metadata=\{[^}]*\}', '', line) for line in lines]


def training_program(name, width, names=(), every=1):
    fields = fields_of(name, 'before', 'relu')
    fields |= {'model.features': (3,), 'probes.names': names, 'probes.every': every}
    return text_of(compiled(fields, width))


def test_without_probes_it_does_not_matter_when_they_are_sampled():
    off = training_program('mlp', 1)
    assert off == training_program('mlp', 1, every=7)
    assert off != training_program('mlp', 1, ('zero_fraction',), every=7)


@pytest.mark.parametrize(('name', 'width'), [('mlp', 2), ('rnn', 1)])
def test_what_is_sown_for_probes_costs_nothing_without_them(name, width, monkeypatch):
    def sow_nothing(self, collection, name, value):
        return original(self, collection, name, jax.tree.map(jnp.zeros_like, value))

    original, off = nn.Module.sow, training_program(name, width)
    monkeypatch.setattr(nn.Module, 'sow', sow_nothing)
    assert off == training_program(name, width)


def sample(**fields):
    return Sample(**dict.fromkeys(Sample._fields) | fields)


@pytest.mark.parametrize('shape', [(7, 4), (4, 7), (3, 3, 2, 5), (1, 6)])
@pytest.mark.parametrize('size', [1, 1e-30])
def test_norms_of_gradients_of_any_shape_and_size(shape, size):
    kernel = RNG.normal(size=shape).astype(np.float32) * np.float32(size)
    made = sample(gradients={'a': {'kernel': kernel}, 'b': {'bias': kernel}})
    found = measure(('gradient_norm', 'gradient_spectral_norm'), Step(made, {}, None))
    exact = kernel.astype(np.float64)
    expected = {
        'gradient_norm': {'a': np.linalg.norm(exact)},
        'gradient_spectral_norm': {'a': probes_by_hand.spectral(exact)},
    }
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-6), found, expected
    )


def test_the_spectral_norm_is_near_even_where_many_values_are():
    left, right = (np.linalg.qr(RNG.normal(size=(50, 50)))[0] for _ in 'ab')
    for lowest, error in ((1.0, 1e-6), (0.99, np.log(50) / 2048)):
        kernel = left @ np.diag(np.linspace(1, lowest, 50)) @ right
        made = sample(gradients={'a': {'kernel': jnp.array(kernel, jnp.float32)}})
        assert abs(PROBES['gradient_spectral_norm'](made)['a'] - 1) < error


@pytest.mark.parametrize('value', [0.0, np.nan, np.inf])
def test_the_spectral_norm_of_what_has_none(value):
    made = sample(gradients={'a': {'kernel': jnp.full((3, 2), value)}})
    found = PROBES['gradient_spectral_norm'](made)['a']
    np.testing.assert_array_equal(found, 0 if value == 0 else np.nan)


def test_a_unit_is_dead_that_is_zero_at_every_position_of_every_image():
    image = np.ones((2, 3, 3, 4))
    image[..., 0] = 0
    image[:, 0, 0] = 0
    values = {'dense': jnp.array([[0.0, 0, 1], [0, 2, 0]]), 'conv': jnp.array(image)}
    found = PROBES['dead_fraction'](sample(activations=values))
    np.testing.assert_allclose([found['dense'], found['conv']], [1 / 3, 1 / 4])


def test_a_unit_splits_a_batch_from_5_to_95_percent_on():
    positive = np.array([0, 1, 10, 19, 20])
    z = np.where(np.arange(20)[:, np.newaxis] < positive, 1.0, -1.0)
    made = sample(preactivations={'a': jnp.array(z), 'b': jnp.zeros((2, 3, 3, 4))})
    found = PROBES['split_fraction'](made)
    np.testing.assert_allclose([found['a'], found['b']], [3 / 5, 0], rtol=1e-6)


def test_a_quadratic_loss_overshoots_by_its_curvature():
    """To the bottom of a parabola a step wins half of what the slope promises."""

    def there(params):
        w = params['a']['kernel']
        gradients = {'a': {'kernel': w}}
        return sample(params=params, gradients=gradients, loss=(w**2).sum() / 2)

    w = jnp.array([3.0, -4.0])
    params, bottom = ({'a': {'kernel': v}} for v in (w, 0 * w))
    found = PROBES['overshoot'](Step(there(params), bottom, there))
    expected = {'x0.5': 0.25, 'x1': 0.5, 'x2': 1, 'x4': 2}
    assert found.keys() == expected.keys()
    for share, value in expected.items():
        np.testing.assert_allclose(found[share], value, 1e-6)


@pytest.mark.parametrize('name', SIZES)
def test_every_nonlinearity_has_what_goes_into_it(name):
    net, variables, x = small(name, placement='before')
    names = ('batch_stats', 'activations', 'preactivations', 'slopes')
    seen = jax.eval_shape(lambda v: apply(net, v, x, True, names), variables)[1]
    assert seen['preactivations'] == seen['slopes'] == seen['activations']
    assert len(seen['slopes']) > 0


def test_the_nonlinearity_of_a_recurrent_network_is_tanh():
    net, variables, x = small('rnn', placement='before')
    names = ('activations', 'preactivations', 'slopes')
    seen = apply(net, variables, x, True, ('batch_stats', *names))[1]
    for layer in ('activation_0', 'activation_1'):
        after, before, slope = (np.float64(seen[name][layer][0]) for name in names)
        np.testing.assert_allclose(after, np.tanh(before), 1e-5, 1e-6)
        np.testing.assert_allclose(slope, 1 - np.tanh(before) ** 2, 1e-4, 1e-6)


def test_the_statistics_of_a_batch_in_parts_are_those_of_all_its_images():
    fields = fields_of('mlp', 'before', 'relu') | {'micro_batches': 2}
    cfg = config.build(fields)
    state = init(cfg, CLASSES, BATCH)
    seen = jax.jit(lambda state: look(cfg, CLASSES, state, BATCH, 0).batch)(state)
    whole = probes_by_hand.look(cfg.model, *in_float64(state[:2]), BATCH).normalised[0]
    np.testing.assert_allclose(seen['norm_0']['mean'], whole.mean(0), 1e-5, 1e-6)
    np.testing.assert_allclose(seen['norm_0']['var'], whole.var(0), 1e-5)


def test_layers_in_depth_order():
    names = ['output', 'hidden_10', 'hidden_2', 'hidden_0', 'hidden_11', 'hidden_1']
    assert in_depth_order(dict.fromkeys(names)) == [
        *('hidden_0', 'hidden_1', 'hidden_2', 'hidden_10', 'hidden_11', 'output'),
    ]
    assert in_depth_order(dict.fromkeys(['x4', 'x1', 'x0.5'])) == ['x0.5', 'x1', 'x4']


def test_the_probes_are_those_that_the_fields_allow():
    assert config.FIELDS['probes.names'].metadata['choices'] == NAMES
    assert set(NAMES) == {*PROBES, REESTIMATED}
