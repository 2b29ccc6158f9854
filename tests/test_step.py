"""What a step does on request: crops, smoothed labels, micro-batches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain import CLASSES, Plain, close, images, same, scores_of, trained, trial

from bnjax import trial as trials
from bnjax.augment import crop_and_mirror
from bnjax.errors import UserError
from bnjax.population import layers_of
from bnjax.trial import check, init


@functools.partial(jax.jit, static_argnums=(0, 4))
def step(cfg, state, batch, number=0, total=1):
    """State, scores, and what probes look at on the way there."""
    taken = trials.step(cfg, CLASSES, state, batch, number, total)
    return *taken, trials.look(cfg, CLASSES, state, batch, number)


def test_a_step_augments_by_its_seed_and_number():
    cfg, plain = (trial(data__augment=on, seed=9) for on in (True, False))
    batch = images(8, (9, 9, 1))
    state = init(plain, CLASSES, batch)
    for number in (0, 3):
        moved = batch._replace(x=crop_and_mirror(9, number, batch.x))
        close(step(cfg, state, batch, number, 5), step(plain, state, moved, number, 5))


@functools.partial(jax.jit, static_argnums=0)
def plain_pass(cfg, state, batch, smoothing=0.0):
    """Gradients, new statistics and scores, by Flax; the loss by its definition."""

    def loss_of(params):
        variables = {'params': params, 'batch_stats': state.batch_stats}
        logits, new = Plain(cfg.model).apply(
            variables, batch.x, True, mutable=['batch_stats']
        )
        log_p = logits - jax.scipy.special.logsumexp(logits, -1, keepdims=True)
        labels = jnp.eye(CLASSES)[batch.y] * (1 - smoothing) + smoothing / CLASSES
        loss, right = scores_of(logits, batch.y)
        scores = loss.mean(), right.mean()
        return -(labels * log_p).sum(-1).mean(), (new.get('batch_stats', {}), scores)

    gradients, (stats, scores) = jax.grad(loss_of, has_aux=True)(state.params)
    return gradients, stats, scores


@pytest.mark.parametrize('smoothing', [0.1, 0.7])
def test_smoothed_labels_are_what_is_learned_and_not_what_is_reported(smoothing):
    cfg, batch = trial(label_smoothing=smoothing), images(8)
    state = init(cfg, CLASSES, batch)
    gradients, _, scores = plain_pass(cfg, state, batch, smoothing)
    _, found, sample = step(cfg, state, batch)
    close(sample.gradients, gradients)
    close(tuple(found), scores)
    plain = step(trial(), state, batch)
    assert same(found, plain[1]) and not same(sample.gradients, plain[2].gradients)


def test_without_smoothing_a_class_may_be_impossible():
    batch = images(8)
    batch = batch._replace(y=batch.y % 2)
    state = init(trial(), CLASSES, batch)
    state.params['output']['bias'] = jnp.array([0.0, 0.0, -jnp.inf])
    _, scores, sample = step(trial(), state, batch)
    assert np.isfinite(scores.loss)
    assert jax.tree.all(jax.tree.map(lambda g: np.isfinite(g).all(), sample.gradients))


@pytest.mark.parametrize(
    ('name', 'placement'),
    [('mlp', 'none'), ('mlp', 'before'), ('mlp', 'after'), ('cnn', 'before')],
)
def test_micro_batches_are_normalised_apart_and_averaged(name, placement):
    fields = {'model.name': name, 'model.placement': placement, 'batch_size': 12}
    fields |= {'model.features': (3,) if name == 'cnn' else (4, 3)}
    cfg = trial(micro_batches=3, model__momentum=0.8, label_smoothing=0.2, **fields)
    batch = images(12, (4, 4, 1))
    state = trained(cfg, batch)
    passes = [plain_pass(cfg, state, part, 0.2) for part in cut(batch, 3)]
    gradients, stats, scores = (
        jax.tree.map(lambda *values: sum(values) / 3, *each)
        for each in zip(*passes, strict=True)
    )
    after, found, sample = step(cfg, state, batch)
    close(sample.gradients, gradients)
    close(tuple(found), scores)
    assert jax.tree.structure(after.batch_stats) == jax.tree.structure(stats)
    for layer, old in state.batch_stats.items():
        expected = pooled(old, [stats[layer] for _, stats, _ in passes], kept=0.8)
        close(after.batch_stats[layer], expected)


def cut(batch, parts):
    return [jax.tree.map(lambda a, i=i: a[i::parts], batch) for i in range(parts)]


def pooled(old, new, kept):
    """One update of a layer by all that went into several, of as many values each."""
    mean, var = (
        (np.array([n[k] for n in new], 'f8') - kept * np.float64(old[k])) / (1 - kept)
        for k in ('mean', 'var')
    )
    mean, var = mean.mean(0), var.mean(0) + mean.var(0)
    return {
        'mean': kept * old['mean'] + (1 - kept) * mean,
        'var': kept * old['var'] + (1 - kept) * var,
    }


@pytest.mark.parametrize(
    'fields',
    [
        {'model.name': 'resnet', 'model.depth': 4, 'model.features': (3,)},
        {'model.name': 'rnn', 'model.features': (3,)},
        {'model.name': 'lstm', 'model.features': (3,), 'model.statistics': 'per_step'},
    ],
    ids=lambda fields: fields['model.name'],
)
def test_every_network_takes_micro_batches(fields):
    fields |= {'batch_size': 6, 'model.momentum': 0.8}
    whole, batch = trial(**fields), images(6, (4, 4, 1))
    state = trained(whole, batch)
    halves = [step(whole, state, half) for half in cut(batch, 2)]
    after, _, sample = step(trial(micro_batches=2, **fields), state, batch)
    close(
        sample.gradients,
        jax.tree.map(
            lambda a, b: (a + b) / 2, *(sample.gradients for *_, sample in halves)
        ),
    )
    assert layers_of(after.batch_stats)
    for path, found in layers_of(after.batch_stats).items():
        new = [layers_of(each.batch_stats)[path] for each, *_ in halves]
        expected = pooled(layers_of(state.batch_stats)[path], new, kept=0.8)
        close(found, expected)


def test_the_sample_of_a_step_has_every_micro_batch_in_its_order():
    cfg, batch = trial(micro_batches=2, batch_size=8), images(8)
    state = init(cfg, CLASSES, batch)
    apart = [step(trial(), state, half)[2] for half in cut(batch, 2)]
    together = step(cfg, state, batch)[2]
    assert set(together.activations) == {'hidden_0', 'hidden_1'}
    for layer, found in together.activations.items():
        for i, half in enumerate(apart):
            np.testing.assert_allclose(found[i::2], half.activations[layer], 1e-5)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        (
            {'micro_batches': 3, 'batch_size': 64},
            'micro_batches=3 must divide batch_size=64',
        ),
        ({'micro_batches': 8}, 'micro_batches=8 must divide batch_size=4'),
        (
            {'data.augment': True, 'data.preprocess': 'pca'},
            'data.augment=True needs images',
        ),
    ],
)
def test_fields_that_do_not_go_together_are_refused_in_a_line(fields, message):
    with pytest.raises(UserError, match=message) as caught:
        check(trial(**fields))
    assert '\n' not in str(caught.value)


def test_fields_that_go_together_pass():
    check(trial())
    check(trial(micro_batches=4, data__augment=True, data__preprocess='zca'))
