"""Compiled programs beside a Python loop over their step."""

import functools

import jax
import numpy as np
import pytest

from bnjax import config, program
from bnjax.data import Dataset, Split
from bnjax.errors import UserError
from bnjax.trial import evaluate, init, look, step

RNG = np.random.default_rng(0)
CLASSES = 3
FIELDS = config.flatten(config.defaults()) | {
    'model.features': (4, 3),
    'batch_size': 4,
    'epochs': 2,
    'optimizer.learning_rate': 0.1,
}
TRIALS = [
    {'seed': 0},
    {'seed': 1, 'optimizer.learning_rate': 0.03, 'optimizer.momentum': 0.5},
    {'seed': 2, 'model.epsilon': 0.1, 'optimizer.weight_decay': 0.1},
    {'seed': 2**32 - 1, 'model.momentum': 0.5},
]
COMPILATIONS = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: COMPILATIONS.append(event) if 'compile' in event else None
)


def images(n, size):
    x = RNG.normal(size=(n, size, size, 1)).astype(np.float32)
    return Split(x, RNG.integers(0, CLASSES, n).astype(np.int32))


def dataset(train=20, validation=3, test=5, size=2):
    return Dataset(*(images(n, size) for n in (train, validation, test)), CLASSES)


DATA = dataset()


def compiled(data=DATA, width=1, **fields):
    static, numbers = program.split_fields(FIELDS | fields | {'execution.width': width})
    return program.compile_program(static, numbers, data)


def numbers_of(trial):
    return program.split_fields(FIELDS | trial)[1]


def stacked(trials):
    numbers = [numbers_of(trial) for trial in trials]
    return {
        k: np.array([n[k] for n in numbers], np.uint32 if k == 'seed' else np.float32)
        for k in numbers[0]
    }


def run(compiled, trials):
    """The logs of each trial, epoch by epoch."""
    chunk = program.run_chunk(compiled, [numbers_of(t) for t in trials])
    logs = [program.by_trial(snapshot.logs[-1], len(trials)) for snapshot in chunk]
    return list(zip(*logs, strict=True))


def same(a, b):
    return jax.tree.all(
        jax.tree.map(lambda x, y: np.array_equal(x, y, equal_nan=True), a, b)
    )


def order(trials, epochs, width=None, images=20, **fields):
    """Which images were in each batch: (trial, epoch, step, place in the batch)."""

    def spy(cfg, classes, state, batch, number):
        shown = {f'hidden_{i}': image for i, image in enumerate(batch.x)}
        return look(cfg, classes, state, batch, number)._replace(activations=shown)

    numbered = np.arange(images, dtype=np.float32).reshape(-1, 1, 1, 1)
    split = Split(numbered, np.zeros(images, np.int32))
    fields = {'probes.names': ('activation_mean',), 'probes.every': 1} | fields
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, 'look', spy)
        data = Dataset(split, split, split, CLASSES)
        chunk = compiled(data, width or len(trials), epochs=epochs, **fields)
        logs = run(chunk, trials)
    by_place = [
        [list(log['probes']['activation_mean'].values()) for log in trial[1:]]
        for trial in logs
    ]
    return np.moveaxis(np.array(by_place), 2, 3).astype(int)


@functools.partial(jax.jit, static_argnums=0)
def one_step(static, numbers, state, batch):
    return step(config.build(dict(static) | numbers), CLASSES, state, batch, 0, 1)[:2]


def loop(trial, batches, data=DATA, **fields):
    """The configuration, the state at the end and the loss of each batch."""
    static, numbers = program.split_fields(FIELDS | fields | trial)
    cfg = config.build(FIELDS | fields | trial)
    numbers['seed'] = np.uint32(numbers['seed'])
    state, losses = init(cfg, CLASSES, data.train), []
    for rows in batches:
        batch = Split(data.train.x[rows], data.train.y[rows])
        state, scores = one_step(static, numbers, state, batch)
        losses.append(float(scores.loss))
    return cfg, state, losses


def test_each_image_is_seen_at_most_once_in_an_epoch():
    seen = order(TRIALS, epochs=6, images=22).reshape(4, 6, 20)
    assert seen.min() >= 0 and seen.max() < 22
    for epoch in seen.reshape(-1, 20):
        assert len(set(epoch)) == 20
    # The two images left out are others each time, and so is the order.
    assert len({tuple(epoch) for epoch in seen.reshape(-1, 20)}) == 4 * 6
    assert len(np.unique(seen[0])) == 22


def test_a_seed_gives_every_arm_the_same_order():
    arms = [
        order([{'seed': 7}], epochs=2, **{'model.placement': p, 'model.activation': a})
        for p, a in (('none', 'relu'), ('before', 'sigmoid'))
    ]
    assert same(arms[0], arms[1])
    other_width = order([{'seed': 7}], epochs=2, width=2, **{'optimizer.name': 'adam'})
    assert same(arms[0], other_width)


@pytest.mark.parametrize(
    ('name', 'placement', 'rule'), [('mlp', 'before', 'sgd'), ('cnn', 'after', 'adam')]
)
def test_widths_agree_with_a_python_loop(name, placement, rule):
    # One step an epoch: the log of each epoch is the loss of one step.
    fields = {'model.name': name, 'model.placement': placement, 'optimizer.name': rule}
    fields |= {'batch_size': 8, 'epochs': 20, 'model.features': (3,)}
    data = dataset(train=12, test=7, size=4)  # held out: a batch and two images
    chunk, padded = (compiled(data, width, **fields) for width in (4, 3))
    alone = compiled(data, 1, **fields | {'execution.convolution': 'direct'})
    logs = run(chunk, TRIALS)
    by_width = [
        logs,
        run(padded, TRIALS[:3]) + run(padded, TRIALS[3:]),
        [run(alone, [trial])[0] for trial in TRIALS],
    ]
    batches = order(TRIALS, epochs=20, images=12, **{'batch_size': 8})[:, :, 0]
    for i, trial in enumerate(TRIALS):
        cfg, state, losses = loop(trial, batches[i], data, **fields)
        scores = evaluate(cfg, CLASSES, state, on_device(data.test))
        for width in by_width:
            found = [log['train_loss'] for log in width[i][1:]]
            np.testing.assert_allclose(found, losses, rtol=1e-5)
            found = [width[i][-1][f'test_{metric}'] for metric in ('loss', 'accuracy')]
            expected = [scores.loss.mean(), scores.accuracy.mean()]
            np.testing.assert_allclose(found, expected, rtol=1e-4)


def on_device(split):
    return jax.tree.map(jax.numpy.asarray, split)


@pytest.mark.parametrize('width', [1, 2])
def test_steps_end_exactly_where_they_should(width):
    trials, steps = TRIALS[1 : 1 + width], 7
    chunk = compiled(width=width, steps=steps)
    assert chunk.epochs == 2
    assert program.steps_in(config.build(FIELDS | {'steps': 7}), 23) == (5, 7)
    numbers = stacked(trials)
    rows = order(trials, epochs=2).reshape(width, 2, 20)
    state = chunk.init(numbers)
    state, first = chunk.train(numbers, state, rows[:, 0], np.int32(0))
    state, last = chunk.train(numbers, state, rows[:, 1], np.int32(1))
    for i, trial in enumerate(trials):
        _, own, losses = loop(trial, rows[i].reshape(10, 4)[:steps])
        close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
        jax.tree.map(close, jax.tree.map(lambda v, i=i: v[i], state), own)
        assert first['train_loss'][i] == pytest.approx(np.mean(losses[:5]), rel=1e-5)
        assert last['train_loss'][i] == pytest.approx(np.mean(losses[5:]), rel=1e-5)


# One program for many trials.


def test_floats_and_the_seed_are_traced():
    static, traced = program.split_fields(FIELDS)
    assert set(traced) == {
        *('model.momentum', 'model.epsilon', 'seed', 'optimizer.momentum'),
        *('optimizer.learning_rate', 'optimizer.weight_decay'),
        *('optimizer.warmup_percent', 'optimizer.epsilon', 'label_smoothing'),
        *('model.scale', 'model.init_scale', 'model.bias_std'),
    }
    assert dict(static) | traced == FIELDS
    assert len(static) + len(traced) == len(FIELDS)
    assert {program.split_fields(FIELDS | trial)[0] for trial in TRIALS} == {static}


@pytest.mark.parametrize('width', [1, 2])
def test_nothing_is_compiled_after_the_program(width):
    chunk = compiled(width=width, epochs=3)
    assert COMPILATIONS
    COMPILATIONS.clear()
    for i in range(0, 4, width):
        run(chunk, TRIALS[i : i + width])
    run(chunk, TRIALS[:1])
    assert not COMPILATIONS


def test_a_padded_chunk_gives_the_same_bits_as_a_full_one():
    chunk = compiled(width=4)
    full = run(chunk, TRIALS)
    for n in (1, 3):
        assert same(run(chunk, TRIALS[:n]), full[:n])
    assert same(run(chunk, TRIALS[3:]), full[3:])


@pytest.mark.parametrize('placement', ['none', 'before'])
def test_a_diverging_trial_leaves_its_neighbours_alone(placement):
    chunk = compiled(width=3, **{'model.placement': placement})
    wild = {'seed': 5, 'optimizer.learning_rate': 1e30, 'optimizer.weight_decay': 1.0}
    alone = run(chunk, [TRIALS[0], TRIALS[1], TRIALS[2]])
    logs = run(chunk, [TRIALS[0], wild, TRIALS[2]])
    assert same((logs[0], logs[2]), (alone[0], alone[2]))
    assert all(log['bad_step'] == -1 for log in logs[0][1:])
    batches = order([wild], epochs=2)[0].reshape(10, 4)
    _, _, losses = loop(wild, batches, **{'model.placement': placement})
    finite = np.isfinite(losses)
    bad = int(np.argmin(finite))
    assert not finite.all() and bad < 5
    assert [log['bad_step'] for log in logs[1][1:]] == [bad, 5]
    first = logs[1][1]['train_loss']
    assert first == pytest.approx(np.mean(losses[:bad]), rel=1e-4)


def test_a_log_has_the_mean_of_each_split():
    for empty in ('validation', 'test'):
        data = DATA._replace(**{empty: images(0, 2)})
        log = run(compiled(data, epochs=1), TRIALS[:1])[0][1]
        for split in ('train', 'validation', 'test'):
            for metric in ('loss', 'accuracy'):
                assert np.isnan(log[f'{split}_{metric}']) == (split == empty)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(UserError, match='batch_size=21 must be at most 20'):
        compiled(batch_size=21)
