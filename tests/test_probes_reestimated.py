"""Scores by re-estimated statistics, beside the same in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import ByHand
from probes_by_hand import cross_entropy, units

from bnjax import config, devices, program
from bnjax.data import Dataset, Split
from bnjax.probe_names import REESTIMATED
from bnjax.reestimated import reestimated
from bnjax.trial import init

RNG = np.random.default_rng(0)
CLASSES = 3


def images(n):
    x = RNG.normal(size=(n, 2, 2, 1)).astype(np.float32)
    return Split(x, RNG.integers(0, CLASSES, n).astype(np.int32))


DATA = Dataset(images(23), images(4), images(13), CLASSES)


def trained(fields, width):
    """The last state and logs of the last trial."""
    static, numbers = program.split_fields(fields | {'execution.width': width})
    chunk = program.compile_program(static, numbers, DATA)
    trials = [numbers | {'seed': seed} for seed in range(width)]
    *_, (state, logs) = program.run_chunk(chunk, trials)
    return [program.by_trial(tree, width)[-1] for tree in (state, logs)]


def population(settings, params, stats):
    """The statistics of the two whole batches, each normalised by itself."""
    seen = []
    for x in (DATA.train.x[:10], DATA.train.x[10:20]):
        net = ByHand(settings, {'params': params, 'batch_stats': stats}, train=True)
        net(x)
        seen.append({layer: units(x) for layer, (x,) in net.seen.items()})
    new = {}
    for layer in stats:
        means, squares = (
            np.mean([(s[layer] ** power).mean(0) for s in seen], axis=0)
            for power in (1, 2)
        )
        new[layer] = {'mean': means, 'var': squares - means**2}
    return new


@pytest.mark.parametrize(
    ('name', 'placement', 'width'),
    [('mlp', 'before', 1), ('cnn', 'after', 2)],
)
def test_scores_by_reestimated_statistics(name, placement, width):
    fields = config.flatten(config.defaults()) | {
        'model.name': name,
        'model.features': (3,) if name == 'cnn' else (4, 3),
        'model.placement': placement,
        'batch_size': 10,
        'epochs': 2,
        'probes.names': (REESTIMATED,),
    }
    settings = config.build(fields).model
    state, logs = trained(fields, width)
    stats = population(settings, state.params, state.batch_stats)
    for split, held_out in (('validation', DATA.validation), ('test', DATA.test)):
        for prefix, by in (('', state.batch_stats), ('reestimated_', stats)):
            variables = {'params': state.params, 'batch_stats': by}
            logits = ByHand(settings, variables, train=False)(held_out.x)
            loss = cross_entropy(logits, held_out.y).mean()
            accuracy = (logits.argmax(-1) == held_out.y).mean()
            found = [logs[-1][f'{prefix}{split}_{m}'] for m in ('loss', 'accuracy')]
            np.testing.assert_allclose(found, [loss, accuracy], 1e-4)
    assert logs[1]['probes'] == {REESTIMATED: {}}
    gap = logs[-1]['test_loss'] - logs[-1]['reestimated_test_loss']
    assert gap != 0


def test_statistics_are_reestimated_without_noise():
    """For so is the network that they are for."""
    fields = config.flatten(config.defaults()) | {'batch_size': 10}
    noise = {'model.norm': 'noisy', 'model.dropout_percent': 30}
    plain, noisy = (config.build(fields | more) for more in ({}, noise))
    train = Split(*map(jnp.array, DATA.train))
    state, one = init(plain, CLASSES, train), devices.mesh(1, 10)
    found, expected = (
        reestimated(cfg, CLASSES, state, train, one).batch_stats
        for cfg in (noisy, plain)
    )
    jax.tree.map(np.testing.assert_array_equal, found, expected)
