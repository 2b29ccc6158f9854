"""One trial beside plain Flax layers and an Optax loop."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bnjax import config
from bnjax.data import Split
from bnjax.trial import evaluate, init, step

RNG = np.random.default_rng(0)
CLASSES = 3
ARMS = [
    {'model.placement': placement, 'model.activation': activation}
    for placement in ('none', 'before', 'after')
    for activation in ('sigmoid', 'relu')
]
each_optimizer = pytest.mark.parametrize('rule', ['sgd', 'rmsprop', 'adam'])


def trial(**fields):
    dotted = {name.replace('__', '.'): value for name, value in fields.items()}
    return config.build(config.flatten(config.defaults()) | SMALL | dotted)


SMALL = {'model.features': (4, 3), 'batch_size': 4, 'optimizer.learning_rate': 0.03}


def images(n, size=(2, 3, 1)):
    x, y = RNG.normal(size=(n, *size)), RNG.integers(0, CLASSES, n)
    return Split(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32))


def close(actual, desired):
    assert jax.tree.structure(actual) == jax.tree.structure(desired)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=2e-6),
        actual,
        desired,
    )


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


class Plain(nn.Module):
    """Two hidden layers, with batch norm as `placement` says; Flax only."""

    settings: config.Model

    @nn.compact
    def __call__(self, x, train):
        s = self.settings
        x = x if s.name == 'cnn' else x.reshape(len(x), math.prod(x.shape[1:]))
        for i in range(2):
            use_bias = s.placement != 'before'
            if s.name == 'cnn':
                layer = nn.Conv(3, (3, 3), use_bias=use_bias, name=f'hidden_{i}')
            else:
                layer = nn.Dense((4, 3)[i], use_bias=use_bias, name=f'hidden_{i}')
            norm = functools.partial(
                nn.BatchNorm,
                use_running_average=not train,
                momentum=s.momentum,
                epsilon=s.epsilon,
                name=f'norm_{i}',
            )
            x = layer(x)
            x = norm()(x) if s.placement == 'before' else x
            x = {'relu': jax.nn.relu, 'sigmoid': jax.nn.sigmoid}[s.activation](x)
            x = norm()(x) if s.placement == 'after' else x
        if s.name == 'cnn':
            x = nn.max_pool(x, (2, 2), strides=(2, 2)).mean((1, 2))
        return nn.Dense(CLASSES, name='output')(x)


def scores_of(logits, y):
    """Cross entropy and correctness of each image."""
    log_p = logits - jnp.log(jnp.exp(logits).sum(-1, keepdims=True))
    return -log_p[jnp.arange(len(y)), y], logits.argmax(-1) == y


def update_rule(settings):
    s = settings

    def kernels(params):
        return {m: {p: p == 'kernel' for p in ps} for m, ps in params.items()}

    decay = optax.add_decayed_weights(s.weight_decay, kernels)
    rules = {
        'sgd': lambda: optax.chain(decay, optax.sgd(s.learning_rate, s.momentum)),
        'rmsprop': lambda: optax.chain(
            decay, optax.rmsprop(s.learning_rate, momentum=s.momentum)
        ),
        'adam': lambda: optax.adamw(
            s.learning_rate, s.momentum, weight_decay=s.weight_decay, mask=kernels
        ),
    }
    return rules[s.name]()


def plain_loop(cfg, state, batches):
    """Parameters, statistics, and the scores of each step, by Flax and Optax."""
    net, tx = Plain(cfg.model), update_rule(cfg.optimizer)

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
    one = jax.jit(lambda state, batch: step(cfg, CLASSES, state, batch)[:2])
    scores = []
    for batch in batches:
        state, score = one(state, batch)
        scores.append(tuple(score))
    return state, scores


@pytest.mark.parametrize(
    ('name', 'placement', 'rule'),
    [('mlp', p, 'sgd') for p in ('none', 'before', 'after')]
    + [('mlp', 'after', 'rmsprop'), ('mlp', 'before', 'adam')]
    + [('cnn', 'before', 'sgd'), ('cnn', 'after', 'adam')],
)
def test_five_steps_are_those_of_a_plain_loop(name, placement, rule):
    cfg = trial(
        model__name=name,
        model__features=(4, 3) if name == 'mlp' else (3,),
        model__placement=placement,
        model__momentum=0.8,
        model__epsilon=1e-3,
        optimizer__name=rule,
        optimizer__momentum=0.7,
        optimizer__weight_decay=0.02,
    )
    batches = [images(8, (4, 4, 1)) for _ in range(5)]
    state = init(cfg, CLASSES, batches[0])
    after, scores = our_loop(cfg, state, batches)
    params, stats, plain_scores = plain_loop(cfg, state, batches)
    close(scores, plain_scores)
    close(after.params, params)
    close(after.batch_stats, stats)


@each_optimizer
def test_weight_decay_acts_on_kernels_only(rule):
    batches = [images(8)]
    plain, decayed = (
        trial(
            optimizer__name=rule,
            optimizer__weight_decay=decay,
            model__placement='after',
        )
        for decay in (0.0, 0.5)
    )
    state = init(plain, CLASSES, batches[0])
    one, other = (our_loop(cfg, state, batches)[0].params for cfg in (plain, decayed))
    for layer, parameters in one.items():
        for name, value in parameters.items():
            equal = np.array_equal(value, other[layer][name])
            assert equal == (name != 'kernel'), f'{layer}.{name}'


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


def test_layers_of_one_shape_start_different():
    params = init(trial(model__features=(6, 6, 6)), CLASSES, images(1)).params
    assert not np.isin(params['hidden_1']['kernel'], params['hidden_2']['kernel']).any()


def test_the_images_do_not_change_the_first_state():
    assert same(*(init(trial(), CLASSES, images(n)) for n in (1, 9)))


def trained(cfg):
    """A state with statistics that no batch has."""
    state = init(cfg, CLASSES, images(1))
    return jax.tree.map(lambda v: jnp.abs(v + 0.3), state)


@pytest.mark.parametrize(
    ('n', 'placement'),
    [(n, 'before') for n in (0, 1, 3, 4, 8, 10)] + [(10, 'none'), (10, 'after')],
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
    assert np.isnan(loss.mean()) == np.isnan(accuracy.mean()) == (n == 0)


def test_evaluation_of_an_image_does_not_depend_on_the_others():
    cfg, split = trial(), images(10)
    state = trained(cfg)
    alone = evaluate(cfg, CLASSES, state, Split(split.x[9:], split.y[9:]))
    close(alone.loss, evaluate(cfg, CLASSES, state, split).loss[9:])
