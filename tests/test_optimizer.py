"""Update rules and learning rates beside Optax's and beside their formulas."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bnjax import config
from bnjax.optimizer import SCHEDULES, learning_rate, update_rule

RNG = np.random.default_rng(0)
SHAPES = {'hidden': {'kernel': (3, 2), 'bias': (2,)}, 'norm': {'scale': (2,)}}
NORMS = {'norm': {'mean': np.zeros(2), 'var': np.ones(2)}}
schedules = pytest.mark.parametrize('schedule', SCHEDULES)


def settings(**fields):
    return dataclasses.replace(config.Optimizer(), **fields)


def like_params():
    return filled(lambda shape: jnp.float32(RNG.normal(size=shape)), SHAPES)


def filled(of_shape, shapes):
    """The tree with an array for each shape."""
    return jax.tree.map(of_shape, shapes, is_leaf=lambda s: isinstance(s, tuple))


PARAMS = like_params()
GRADIENTS = [like_params() for _ in range(4)]


def rates(total, **fields):
    at = jax.jit(jax.vmap(lambda i: learning_rate(settings(**fields), i, total)))
    return np.asarray(at(jnp.arange(total)))


def close(actual, desired):
    jax.tree.map(lambda a, d: np.testing.assert_allclose(a, d, 2e-5), actual, desired)


# The learning rate.


def test_the_schedules_are_those_of_the_config():
    assert tuple(SCHEDULES) == config.FIELDS['optimizer.schedule'].metadata['choices']


def test_by_default_the_learning_rate_is_constant_to_the_last_bit():
    at = jax.jit(lambda rate, i: learning_rate(settings(learning_rate=rate), i, 9))
    for rate in np.float32([0.1, 0.3, 1e-5, 7.7]):
        assert all(at(rate, i) == rate for i in range(9))


@pytest.mark.parametrize('warmup', [0, 10, 25])
def test_cosine_is_that_of_optax(warmup):
    fields = {'schedule': 'cosine', 'warmup_percent': warmup, 'learning_rate': 0.3}
    optax_rate = optax.warmup_cosine_decay_schedule(0, 0.3, warmup * 40 // 100, 40)
    expected = jax.jit(jax.vmap(optax_rate))(jnp.arange(40))
    np.testing.assert_allclose(rates(40, **fields), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize('total', [10, 40, 1000])
def test_one_cycle_is_that_of_optax(total):
    # Which ends at 1 / 250 000 of the peak and not at 0.
    optax_rate = optax.cosine_onecycle_schedule(total, 0.3)
    expected = jax.jit(jax.vmap(optax_rate))(jnp.arange(total))
    found = rates(total, schedule='one_cycle', learning_rate=0.3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=3e-6)
    assert found.argmax() == 0.3 * total and found.max() == np.float32(0.3)


@pytest.mark.parametrize(
    ('total', 'half', 'three_quarters'),
    [(64, 32, 48), (7, 4, 6), (2, 1, 2), (1, 1, 1)],
)
def test_steps_divide_by_ten_at_a_half_and_three_quarters(total, half, three_quarters):
    expected = np.full(total, 0.5)
    expected[half:] = 0.05
    expected[three_quarters:] = 0.005
    found = rates(total, schedule='step', learning_rate=0.5)
    np.testing.assert_allclose(found, expected, 1e-6)


def test_steps_are_counted_exactly_where_floats_cannot():
    total = 2**31 - 1
    cfg = settings(schedule='step', learning_rate=1.0)
    boundary = (total + 1) // 2
    at = jax.jit(lambda i: learning_rate(cfg, i, total))
    assert at(boundary - 1) == 1 and at(boundary) == np.float32(0.1)


@schedules
def test_warm_up_multiplies_what_the_schedule_says(schedule):
    warm = rates(20, schedule=schedule, warmup_percent=25.0)
    factor = np.minimum(np.arange(20) / 5, 1)
    if schedule == 'cosine':  # which begins when the warm-up ends
        cold = np.concatenate([np.full(5, 0.1), rates(15, schedule=schedule)])
    else:
        cold = rates(20, schedule=schedule)
    np.testing.assert_allclose(warm, factor * cold, rtol=1e-5, atol=1e-8)
    assert warm[0] == 0


@schedules
@pytest.mark.parametrize('total', [1, 2, 3, 5, 40])
def test_no_rate_is_above_the_one_given_or_below_zero(schedule, total):
    def at(warmup, i):
        fields = {'warmup_percent': warmup, 'learning_rate': 2.0}
        return learning_rate(settings(schedule=schedule, **fields), i, total)

    warmups = np.float32([0, 1e-30, 1, 50, 99.99999])
    each = jax.vmap(jax.vmap(at, (None, 0)), (0, None))
    found = jax.jit(each)(warmups, np.arange(total))
    assert found.shape == (5, total) and np.isfinite(found).all()
    assert found.min() >= 0 and found.max() <= 2


@schedules
def test_learning_rate_and_warm_up_may_be_traced(schedule):
    def at(rate, warmup, i):
        fields = {'learning_rate': rate, 'warmup_percent': warmup}
        return learning_rate(settings(schedule=schedule, **fields), i, 12)

    trials = np.float32([[0.1, 0.0], [0.3, 50.0], [0.0, 20.0]])
    steps = np.arange(12)
    every_step = jax.vmap(at, (None, None, 0))
    found = jax.jit(jax.vmap(every_step, (0, 0, None)))(*trials.T, steps)
    alone = [every_step(float(rate), float(warmup), steps) for rate, warmup in trials]
    np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-8)


# The direction.


def moved(rule, rate=0.05):
    """The parameters after each of the gradients, at one learning rate."""
    params, state, path = PARAMS, rule.init(PARAMS), []
    for gradients in GRADIENTS:
        direction, state = rule.update(gradients, state, params)
        params = jax.tree.map(lambda p, d: p - rate * d, params, direction)
        path.append(params)
    return path


def moved_by_optax(rule):
    params, state, path = PARAMS, rule.init(PARAMS), []
    for gradients in GRADIENTS:
        updates, state = rule.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return path


@pytest.mark.parametrize('nesterov', [False, True])
def test_sgd_follows_its_formula(nesterov):
    found = moved(update_rule(settings(momentum=0.7, nesterov=nesterov), NORMS))
    for layer, shapes in SHAPES.items():
        for name in shapes:
            p = np.float64(PARAMS[layer][name])
            velocity = np.zeros_like(p)
            for gradients, params in zip(GRADIENTS, found, strict=True):
                gradient = np.float64(gradients[layer][name])
                velocity = 0.7 * velocity + gradient
                ahead = gradient + 0.7 * velocity
                p = p - 0.05 * (ahead if nesterov else velocity)
                np.testing.assert_allclose(params[layer][name], p, 2e-5)


@pytest.mark.parametrize('nesterov', [False, True])
@pytest.mark.parametrize(
    ('name', 'by_optax'),
    [
        ('sgd', lambda n: optax.sgd(0.05, 0.6, nesterov=n)),
        (
            'rmsprop',
            lambda n: optax.rmsprop(0.05, eps_in_sqrt=False, momentum=0.6, nesterov=n),
        ),
        ('adam', lambda n: (optax.nadam if n else optax.adam)(0.05, 0.6)),
    ],
)
def test_each_rule_is_that_of_optax(name, by_optax, nesterov):
    cfg = settings(name=name, momentum=0.6, nesterov=nesterov)
    found = moved(update_rule(cfg, NORMS))
    close(found, moved_by_optax(by_optax(nesterov)))
    other = moved(update_rule(dataclasses.replace(cfg, nesterov=not nesterov), NORMS))
    kernels = [path[-1]['hidden']['kernel'] for path in (found, other)]
    assert not np.allclose(*kernels, rtol=1e-3)


@pytest.mark.parametrize('epsilon', [1e-8, 0.3])
@pytest.mark.parametrize('name', ['rmsprop', 'adam'])
def test_epsilon_is_added_to_the_root_and_not_under_it(name, epsilon):
    found = moved(
        update_rule(settings(name=name, momentum=0.6, epsilon=epsilon), NORMS)
    )
    p = np.float64(PARAMS['hidden']['kernel'])
    velocity, square = np.zeros((2, *p.shape))
    for i, (gradients, params) in enumerate(zip(GRADIENTS, found, strict=True), 1):
        g = np.float64(gradients['hidden']['kernel'])
        if name == 'rmsprop':
            square = 0.9 * square + 0.1 * g**2
            velocity = 0.6 * velocity + g / (np.sqrt(square) + epsilon)
            p = p - 0.05 * velocity
        else:
            square = 0.999 * square + 0.001 * g**2
            velocity = 0.6 * velocity + 0.4 * g
            mean, root = velocity / (1 - 0.6**i), np.sqrt(square / (1 - 0.999**i))
            p = p - 0.05 * mean / (root + epsilon)
        np.testing.assert_allclose(params['hidden']['kernel'], p, 5e-5)


@pytest.mark.parametrize('name', ['rmsprop', 'adam'])
def test_epsilon_may_be_traced(name):
    def first(epsilon):
        return moved(update_rule(settings(name=name, epsilon=epsilon), NORMS))[0]

    found = jax.jit(jax.vmap(first))(np.float32([1e-8, 0.3]))
    for i, epsilon in enumerate((1e-8, 0.3)):
        close(jax.tree.map(lambda a, i=i: a[i], found), first(epsilon))


LAYERS = {
    'hidden_0': {'kernel': (3, 3, 1, 2), 'bias': (2,)},
    'norm_0': {'scale': (2,), 'bias': (2,)},
    'stage': {'norm': {'bias': (2,)}, 'dense': {'kernel': (2, 2), 'bias': (2,)}},
    'recurrent': {'scale': (2,)},
    'gain': {'scale': (2,)},
}
STATISTICS = {
    'norm_0': {'mean': np.zeros(2), 'var': np.ones(2)},
    'stage': {'norm': {'mean': np.zeros(2), 'var': np.ones(2)}},
    'recurrent': {'mean': np.zeros((5, 2)), 'var': np.ones((5, 2))},  # by time step
}
WEIGHTS = {('hidden_0', 'kernel'), ('stage', 'dense', 'kernel')}
OF_NORMS = {
    *(('norm_0', 'scale'), ('norm_0', 'bias'), ('stage', 'norm', 'bias')),
    ('recurrent', 'scale'),
}


@pytest.mark.parametrize('name', ['sgd', 'rmsprop', 'adam'])
@pytest.mark.parametrize('decay_norm', [False, True])
def test_weight_decay_leaves_batch_norm_alone_unless_asked(name, decay_norm):
    """Without gradients, what moves is what decays."""
    params = filled(jnp.ones, LAYERS)
    cfg = settings(name=name, weight_decay=0.25, decay_norm=decay_norm)
    rule = update_rule(cfg, STATISTICS)
    nothing = jax.tree.map(jnp.zeros_like, params)
    direction, _ = rule.update(nothing, rule.init(params), params)
    decayed = {
        tuple(key.key for key in path)
        for path, value in jax.tree_util.tree_flatten_with_path(direction)[0]
        if (value != 0).all()
    }
    assert decayed == (WEIGHTS | OF_NORMS if decay_norm else WEIGHTS)
    if name != 'rmsprop':
        np.testing.assert_array_equal(direction['hidden_0']['kernel'], 0.25)
