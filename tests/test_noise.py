"""Dropout and noise in a step: by seed and number, the same in every arm."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import KEY, SIZES, small
from plain import CLASSES, close, images, same, trained, trial

from bnjax import devices
from bnjax import trial as trials
from bnjax.config import FIELDS, Model
from bnjax.models import network, norms
from bnjax.probes import PROBES, Step, measure
from bnjax.reestimated import reestimated
from bnjax.trial import evaluate, init, look

RNGS = {'noise': KEY}


def of_ones(placement, percent, units=400):
    """A network whose hidden layer gives ones, which its output passes on."""
    fields = {'features': (units,), 'placement': placement, 'dropout_percent': percent}
    net = network(Model(**fields), classes=units)
    x = np.zeros((50, 1, 1, 1), 'f4')
    variables = net.init(KEY, x, False)
    params = jax.tree.map(jnp.zeros_like, variables['params'])
    last = 'hidden_0' if placement == 'none' else 'norm_0'
    params[last]['bias'] += 1.0
    params['output']['kernel'] += jnp.eye(units)
    return net, variables | {'params': params}, x


@pytest.mark.parametrize('placement', ['none', 'before', 'after'])
@pytest.mark.parametrize('percent', [1, 25, 80])
def test_dropout_leaves_out_a_share_and_makes_up_for_it(placement, percent):
    net, variables, x = of_ones(placement, percent)
    out, _ = net.apply(variables, x, True, rngs=RNGS, mutable=['batch_stats'])
    kept = np.float32(100 / (100 - percent))
    np.testing.assert_allclose(np.unique(out), [0, kept], rtol=1e-6)
    share = np.mean(np.array(out) == 0)
    assert abs(share - percent / 100) < 5 * np.sqrt(0.25 / out.size)
    # Anew for each image.
    assert percent == 1 or len(np.unique(out, axis=0)) == len(x)
    for train, rngs in ((False, RNGS), (True, {})):
        out, _ = net.apply(variables, x, train, rngs=rngs, mutable=['batch_stats'])
        np.testing.assert_array_equal(out, 1)


@pytest.mark.parametrize('name', SIZES)
def test_every_network_drops_in_training_alone(name):
    (net, variables, x), (plain, _, _) = small(name, dropout_percent=50), small(name)

    def computed(net, train, rngs):
        def logits(variables):
            mutable = ['batch_stats']
            return net.apply(variables, x, train, rngs=rngs, mutable=mutable)[0]

        return re.sub(r'0x[0-9a-f]+', '', str(jax.make_jaxpr(logits)(variables)))

    for train, rngs in ((False, RNGS), (True, {})):
        assert computed(net, train, rngs) == computed(plain, train, rngs)
    hidden = [k for k in variables['params'] if k.removeprefix('hidden_').isdigit()]
    assert computed(net, True, RNGS).count('name=_bernoulli') == len(hidden)
    assert 'bernoulli' not in computed(plain, True, RNGS)


def keys_of(monkeypatch, number, seed=5, **fields):
    """By layer, the noise of a step: its key, from which all of it comes."""
    cfg = trial(seed=seed, model__norm='noisy', **fields)
    batch, seen, noise = images(4), [], norms.noise

    def spy(key, shape):
        seen.append(key)
        return noise(key, shape)

    @jax.jit
    def keys():
        state = init(cfg, CLASSES, batch)
        trials.step(cfg, CLASSES, state, batch, number, 9)
        return [jax.random.key_data(key) for key in seen]

    with monkeypatch.context() as patch:
        patch.setattr(norms, 'noise', spy)
        return [tuple(map(int, key)) for key in keys()]


def test_noise_is_the_same_in_every_arm_of_a_seed_and_new_at_each_step(monkeypatch):
    arms = [
        {'model__placement': 'before'},
        {'model__placement': 'after', 'model__activation': 'sigmoid'},
        {'optimizer__learning_rate': 0.5, 'model__dropout_percent': 20},
    ]
    first, *others = (keys_of(monkeypatch, number=3, **arm) for arm in arms)
    later = keys_of(monkeypatch, number=4)
    of_other_seed = keys_of(monkeypatch, number=3, seed=6)
    assert len(first) == 2 and all(other == first for other in others)
    assert len({*first, *later, *of_other_seed}) == 6


NOISE = {'model__norm': 'noisy', 'model__dropout_percent': 40}
each_noise = pytest.mark.parametrize('name', NOISE)


@each_noise
def test_micro_batches_have_noise_of_their_own_and_are_averaged(name):
    cfg = trial(batch_size=8, micro_batches=2, seed=3, **{name: NOISE[name]})
    batch = images(8)
    state, key = trained(cfg, batch), jax.random.fold_in(jax.random.key(3), 2**32 - 2)
    key = jax.random.fold_in(key, 7)

    @jax.jit
    def found(batch):
        return look(cfg, CLASSES, state, batch, 7).gradients

    @jax.jit
    def alone(half, i):
        own = jax.random.fold_in(key, i)
        return trials._backward(cfg, CLASSES, state, half, own).gradients

    halves = [jax.tree.map(lambda a, i=i: a[i::2], batch) for i in (0, 1)]
    expected = jax.tree.map(lambda a, b: (a + b) / 2, *map(alone, halves, (0, 1)))
    close(found(batch), expected)
    # With one key for both, equal halves would give the gradients of one.
    twice = jax.tree.map(lambda a: jnp.repeat(a, 2, axis=0), halves[0])
    assert not np.allclose(
        found(twice)['output']['kernel'], alone(halves[0], 0)['output']['kernel']
    )


@each_noise
def test_what_probes_see_has_the_noise_of_the_step_and_evaluation_none(name):
    cfg, plain = trial(**{name: NOISE[name]}), trial()
    batch = images(4)
    state = trained(cfg, batch)

    @jax.jit
    def losses(state):
        steps = [trials.step(c, CLASSES, state, batch, 2, 9)[1] for c in (cfg, plain)]
        seen = look(cfg, CLASSES, state, batch, 2)
        return seen.loss, *(scores.loss for scores in steps)

    seen, noisy, quiet = losses(state)
    np.testing.assert_allclose(seen, noisy, rtol=1e-6)
    assert abs(noisy - quiet) > 1e-3
    assert same(*(evaluate(c, CLASSES, state, batch) for c in (cfg, plain)))


@pytest.mark.parametrize(
    ('name', 'kinds'),
    [
        ('mlp', FIELDS['model.norm'].metadata['choices']),
        *((name, ('noisy', 'layer')) for name in ('cnn', 'resnet', 'darknet')),
        *((name, ('layer',)) for name in ('rnn', 'lstm')),
    ],
)
def test_every_network_takes_its_variants_with_all_that_a_step_has(name, kinds):
    """Only traced: what each computes is tested by itself."""
    split = images(4, (4, 4, 1))
    fields = {'model__name': name, 'model__features': (3,), 'model__depth': 4}
    fields |= {'micro_batches': 2, 'optimizer__frozen': 1}
    for kind in kinds:
        cfg = trial(model__norm=kind, model__dropout_percent=30, **fields)

        def all_of_it(cfg=cfg):
            state = init(cfg, CLASSES, split)
            after, _ = trials.step(cfg, CLASSES, state, split, 1, 9)

            def there(params):
                return look(cfg, CLASSES, state._replace(params=params), split, 1)

            taken = Step(there(state.params), after.params, there)
            again = reestimated(cfg, CLASSES, after, split, devices.mesh(1, 4))
            evaluate(cfg, CLASSES, again, split)
            return state, after, again, measure(tuple(PROBES), taken)

        state, after, again, measured = jax.eval_shape(all_of_it)
        assert state == after == again
        assert set(measured) == set(PROBES)
        of_norms = measured['norm_variance_min'], measured['running_batch_gap']
        assert all(bool(by_layer) == (kind != 'layer') for by_layer in of_norms)
        assert measured['norm_scale']
