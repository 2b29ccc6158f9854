"""One trial beside plain Flax layers and an Optax loop."""

import jax
import numpy as np
import optax
import pytest
from plain import CLASSES, Plain, close, images, same, scores_of, trained, trial

from bnjax.data import Split
from bnjax.errors import UserError
from bnjax.trial import evaluate, init, step

ARMS = [{'model.placement': placement} for placement in ('none', 'before', 'after')]
ARMS += [{'model.activation': 'sigmoid'}]


def update_rule(settings, total):
    s, rate = settings, settings.learning_rate
    if s.schedule == 'cosine':
        warmup = int(s.warmup_percent * total / 100)
        rate = optax.warmup_cosine_decay_schedule(0, rate, warmup, total)

    def kernels(params):
        return {m: {p: p == 'kernel' for p in ps} for m, ps in params.items()}

    decay = optax.add_decayed_weights(s.weight_decay, kernels)
    rules = {
        'sgd': lambda: optax.chain(decay, optax.sgd(rate, s.momentum, s.nesterov)),
        'rmsprop': lambda: optax.chain(
            decay, optax.rmsprop(rate, momentum=s.momentum, eps_in_sqrt=False)
        ),
        'adam': lambda: optax.adamw(
            rate, s.momentum, weight_decay=s.weight_decay, mask=kernels
        ),
    }
    return rules[s.name]()


def plain_loop(cfg, state, batches):
    """Parameters, statistics, and the scores of each step, by Flax and Optax."""
    net, tx = Plain(cfg.model), update_rule(cfg.optimizer, len(batches))

    @jax.jit
    def one(params, stats, opt_state, batch):
        def loss_of(params):
            variables = {'params': params, 'batch_stats': stats}
            logits, new = net.apply(variables, batch.x, True, mutable=['batch_stats'])
            loss, right = scores_of(logits, batch.y)
            return loss.mean(), (right.mean(), new)

        grad = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (accuracy, new)), gradients = grad(params)
        updates, opt_state = tx.update(gradients, opt_state, params)
        params = optax.apply_updates(params, updates)
        return params, new.get('batch_stats', {}), opt_state, (loss, accuracy)

    params, stats, opt_state = state.params, state.batch_stats, tx.init(state.params)
    scores = []
    for batch in batches:
        params, stats, opt_state, score = one(params, stats, opt_state, batch)
        scores.append(score)
    return params, stats, scores


def our_loop(cfg, state, batches):
    total, scores = len(batches), []
    one = jax.jit(lambda state, b, i: step(cfg, CLASSES, state, b, i, total)[:2])
    for i, batch in enumerate(batches):
        state, score = one(state, batch, i)
        scores.append(tuple(score))
    return state, scores


@pytest.mark.parametrize(
    ('name', 'placement', 'rule', 'schedule'),
    [
        ('mlp', 'none', 'sgd', 'constant'),
        ('mlp', 'before', 'sgd', 'cosine'),
        ('mlp', 'after', 'rmsprop', 'constant'),
        ('mlp', 'before', 'adam', 'cosine'),
        ('cnn', 'before', 'sgd', 'constant'),
        ('cnn', 'after', 'adam', 'constant'),
    ],
)
def test_five_steps_are_those_of_a_plain_loop(name, placement, rule, schedule):
    """Weight decay acts on the kernels alone; a cosine is warmed up."""
    cfg = trial(
        model__name=name,
        model__features=(4, 3) if name == 'mlp' else (3,),
        model__placement=placement,
        model__momentum=0.8,
        model__epsilon=1e-3,
        optimizer__name=rule,
        optimizer__momentum=0.7,
        optimizer__nesterov=(rule, schedule) == ('sgd', 'cosine'),
        optimizer__schedule=schedule,
        optimizer__warmup_percent=40.0 if schedule == 'cosine' else 0.0,
        optimizer__weight_decay=0.02,
    )
    batches = [images(8, (4, 4, 1)) for _ in range(5)]
    state = init(cfg, CLASSES, batches[0])
    after, scores = our_loop(cfg, state, batches)
    params, stats, plain_scores = plain_loop(cfg, state, batches)
    close(scores, plain_scores)
    close(after.params, params)
    close(after.batch_stats, stats)


@pytest.mark.parametrize('name', ['mlp', 'cnn'])
def test_a_seed_gives_every_arm_the_same_kernels(name):
    def kernels(seed, arm):
        cfg = trial(model__name=name, seed=seed, **arm)
        params = init(cfg, CLASSES, images(1, (4, 4, 1))).params
        return {k: v['kernel'] for k, v in params.items() if 'kernel' in v}

    by_seed = [[kernels(seed, arm) for arm in ARMS] for seed in (0, 1, 2**32 - 1)]
    for arms in by_seed:
        assert all(same(arms[0], arm) for arm in arms)
    for a, b in ((0, 1), (1, 2), (0, 2)):
        for layer, kernel in by_seed[a][0].items():
            assert not np.isin(kernel, by_seed[b][0][layer]).any()


FROZEN = [
    ({'model__name': 'mlp', 'model__placement': 'after'}, 'sgd'),
    ({'model__name': 'resnet', 'model__depth': 4, 'model__features': (3,)}, 'rmsprop'),
    ({'model__name': 'lstm'}, 'adam'),
    ({'model__name': 'rnn', 'model__norm': 'layer'}, 'adam'),
]


@pytest.mark.parametrize(('fields', 'rule'), FROZEN, ids=lambda v: str(v)[:24])
def test_frozen_layers_stay_as_drawn_and_the_others_do_not_know(fields, rule):
    fields |= {'optimizer__name': rule, 'optimizer__weight_decay': 0.1}
    free, half = (
        trial(optimizer__frozen=n, optimizer__decay_norm=True, **fields) for n in (0, 1)
    )
    batches = [images(4, (4, 4, 1)) for _ in range(2)]
    first = init(half, CLASSES, batches[0])
    assert same(first.params, init(free, CLASSES, batches[0]).params)
    once = our_loop(half, first, batches[:1])[0].params
    plain = our_loop(free, init(free, CLASSES, batches[0]), batches[:1])[0].params
    last = our_loop(half, first, batches)[0]
    for module, values in last.params.items():
        if module.startswith(('hidden_0', 'norm_0')):
            assert same(values, first.params[module])
        else:
            close(once[module], plain[module])
            for name, value in values.items():
                assert (value != first.params[module][name]).any(), (module, name)
    for module, stats in last.batch_stats.items():
        assert not same(stats, first.batch_stats[module])


def test_more_frozen_layers_than_there_are_are_refused():
    for name, most in (('mlp', 2), ('lstm', 2), ('cnn', 4)):
        cfg = trial(model__name=name, optimizer__frozen=most)
        state = init(cfg, CLASSES, images(1, (4, 4, 1)))
        assert set(state.params)
        with pytest.raises(
            UserError, match=f'frozen={most + 1} must be at most {most}'
        ):
            init(
                trial(model__name=name, optimizer__frozen=most + 1),
                CLASSES,
                images(1, (4, 4, 1)),
            )


def test_layers_of_one_shape_start_different():
    params = init(trial(model__features=(6, 6, 6)), CLASSES, images(1)).params
    assert not np.isin(params['hidden_1']['kernel'], params['hidden_2']['kernel']).any()


def test_the_images_do_not_change_the_first_state():
    assert same(*(init(trial(), CLASSES, images(n)) for n in (1, 9)))


@pytest.mark.parametrize(
    ('n', 'placement'),
    [(n, 'before') for n in (1, 3, 10)] + [(10, 'none'), (10, 'after')],
)
def test_evaluation_scores_every_image(n, placement):
    cfg, split = trial(model__placement=placement), images(n)
    state = trained(cfg)
    loss, accuracy = evaluate(cfg, CLASSES, state, split)
    assert loss.shape == accuracy.shape == (n,)
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    logits = Plain(cfg.model).apply(variables, split.x, train=False)
    expected_loss, right = scores_of(logits, split.y)
    close(loss, expected_loss)
    np.testing.assert_array_equal(accuracy, right)


def test_evaluation_of_an_image_does_not_depend_on_the_others():
    cfg, split = trial(), images(10)
    state = trained(cfg)
    alone = evaluate(cfg, CLASSES, state, Split(split.x[9:], split.y[9:]))
    close(alone.loss, evaluate(cfg, CLASSES, state, split).loss[9:])
