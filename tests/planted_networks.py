"""Effects of networks that are run: small ones, whose parameters are planted.

Of the studies batch_size and after_training, and of the noise in covariate_shift.
"""

import functools
import math
from types import SimpleNamespace

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from made_records import shapes_of, state
from planted import accuracy, number, only, steps, wiggle

from bnjax import config
from bnjax.data import Dataset, Split
from bnjax.models import network
from bnjax.verdict import CONFIRMED, REFUTED, UNDECIDED

SIDE, UPPER = 28, 28 * 14


def images(name, **_):
    """In place of ``bnjax.data.load``: two numbers an image, of upper and lower half.

    In training the upper half grows from image to image, and the lower one runs
    through the same numbers in each 32. In the test the upper half is lighter by 0.2,
    and the images grow lighter from label 0 to label 2.
    """

    def split(upper, lower, labels):
        rows = [
            np.full((len(upper), 14 * SIDE), 1.0) * h[:, None] for h in (upper, lower)
        ]
        x = np.concatenate(rows, axis=1).reshape(-1, SIDE, SIDE, 1)
        return Split(np.float32(x), np.int32(labels))

    i, light = np.arange(200), np.linspace(0.25, 0.75, 100)
    train = split((i + 0.5) / 200, (13 * i % 32 + 0.5) / 32, 0 * i)
    labels = np.repeat([0, 1, 2], [15, 30, 55])
    return Dataset(train, train, split(light + 0.1, light - 0.1, labels), 10)


@functools.cache
def compiled(settings, classes):
    """In place of ``bnjax.models.network``, which is slow operation by operation."""
    own = network(settings, classes)
    return SimpleNamespace(apply=jax.jit(own.apply, static_argnames=FORMS))


FORMS = 'train', 'mutable'
READS = {
    'lightness': np.ones(SIDE**2) / SIDE**2,
    'upper': np.repeat([1, 0], UPPER) / UPPER,
    'lower': np.repeat([0, 1], UPPER) / UPPER,
    'no contrast': np.repeat([-1, 1], UPPER) / UPPER,
    'noise': np.tile([1, -1], UPPER) / SIDE,
}


def blank(arm, answer=2):
    """A network that gives every image the same answer."""
    model = config.build(arm.fields).model
    shapes = flatten_dict({'state': shapes_of(model, arm.data)}, sep='/')
    ones = '/scale', '/var'
    found = {n: np.full(s.shape, 1.0 * n.endswith(ones)) for n, s in shapes.items()}
    found['state/params/output/bias'][answer] = 1.0
    return found


def fires(arm, reads, above=0.0, beta=0.0, says=0, else_says=2):
    """One unit a layer that is on where what it reads is above something.

    That is of the image, or, for beta below 0, of deviations above the mean.
    """
    found = blank(arm, else_says)
    found['state/params/hidden_0/kernel'][:, 0] = READS[reads]
    for layer in range(1, arm.layers):
        found[f'state/params/hidden_{layer}/kernel'][0, 0] = 1.0
    found['state/batch_stats/norm_0/mean'][0] = above
    found['state/params/norm_0/bias'][0] = beta
    found['state/params/output/kernel'][0, says] = 1e6
    return found


def wrong_if(reads, above):
    """Networks that err where what they read is above something, of the seed."""
    return lambda arm: fires(arm, reads, above(arm.seed)) if arm.keep_state else {}


def shifted_wrong(percent, spread):
    """So many images in a hundred are wrong if shifted by a deviation."""
    light = images('mnist').test.x

    def above(seed):
        count = round(percent + spread * wiggle(seed))
        return 0.75 + light.std() + 0.0025 - count * 0.5 / 99

    return wrong_if('lightness', above)


AFTER_TRAINING = {
    'S58': [
        (CONFIRMED, wrong_if('lightness', lambda seed: 2.0)),
        (CONFIRMED, shifted_wrong(0.3, 0.4)),
        (REFUTED, shifted_wrong(20, 2)),
        (REFUTED, wrong_if('no contrast', lambda seed: -0.15)),
        (REFUTED, wrong_if('noise', lambda seed: 0.1)),
        (UNDECIDED, shifted_wrong(1, 0.8)),
        (UNDECIDED, shifted_wrong(4, 6)),
    ],
}


def dense(arm):
    return arm.network == 'mlp' and arm.keep_state


def cuts(start, end):
    """By 'batches' or 'units', without batch norm, at the start and after training.

    A unit cuts images that are darker than its own limit.
    """

    def outcome(arm):
        if not dense(arm) or arm.placement != 'none':
            return {}
        by = start if arm.steps == 1 else end
        by = by if isinstance(by, str) else by(arm.seed)
        found, limits = blank(arm), np.linspace(0.1, 0.9, 100)
        by_batch = by == 'batches'
        of = READS['upper' if by_batch else 'lower']
        found['state/params/hidden_0/kernel'][:] = of[:, None]
        limits = 0.5 + 0.1 * (limits - 0.5) if by_batch else limits
        found['state/params/hidden_0/bias'][:] = -limits
        for layer in range(1, arm.layers):
            found[f'state/params/hidden_{layer}/kernel'][:] = np.eye(100)
        return found

    return outcome


def one_in_five(seed):
    return 'batches' if wiggle(seed) > 1 else 'units'


def shifted_units(count, spread=0.0):
    """So many units in a hundred that are zero for 12 or 20 of 32 images.

    The others, in each layer, are zero for 14 or 18 of them.
    """

    def outcome(arm):
        if not dense(arm) or arm.steps != 1 or arm.placement == 'none':
            return {}
        signs = np.repeat([1.0, -1.0], 50)
        found = blank(arm)
        found['state/params/hidden_0/kernel'][:] = np.outer(READS['lower'], signs)
        for layer in range(arm.layers):
            if layer:
                kernel = found[f'state/params/hidden_{layer}/kernel']
                kernel[0], kernel[50] = signs, -signs
            number = round(count + spread * wiggle(arm.seed))
            units = np.array([unit for unit in range(100) if unit not in (0, 50)])
            of_32 = np.where(np.arange(98) < number, 4, 2) * (-1) ** units
            shifts = of_32 / 32 * 12**0.5  # the images' lower halves are uniform
            found[f'state/params/norm_{layer}/bias'][units] = shifts
        return found

    return outcome


def groups(best=16, noise=0.0005, **values):
    """Test accuracy by the size of the groups, one of them best by validation."""
    values = {int(name.removeprefix('of_')): own for name, own in values.items()}
    found = accuracy(lambda arm: arm.group, values, noise)

    def validated(arm):
        return {'validation_accuracy': 0.9 if arm.group == best else 0.8}

    return only(
        lambda arm: dense(arm) and arm.placement == 'before',
        lambda arm: validated(arm) | found(arm),
    )


def image_by_image(right, answer):
    """Test accuracy by running statistics; by those of an image it is an answer's."""
    found = number('test_accuracy', lambda arm: arm.group, {1: right}, 0.01)
    return only(
        lambda arm: arm.network == 'cnn' and arm.keep_state and arm.group == 1,
        lambda arm: blank(arm, answer) | found(arm),
    )


def by_statistics(moving, beta_at_2=None, says=0, noise=0.0005):
    """Networks with 55 % right, and test accuracies by the moving average, by group.

    With a beta, those of groups of 2 have a unit that fires more often by the smaller,
    biased variance.
    """

    def outcome(arm):
        if not dense(arm) or arm.placement == 'none':
            return {}
        found = blank(arm)
        if beta_at_2 and arm.group == 2:
            found = fires(arm, 'upper', beta=beta_at_2, says=says, else_says=2 - says)
        right = moving.get(arm.group, 0.55) + noise * wiggle(arm.seed, arm.group)
        return found | {'test_accuracy': right}

    return outcome


SIZES = 2, 4, 8, 16, 32, 128
EQUAL = {f'of_{size}': 0.95 for size in SIZES}
BATCH_SIZE = {
    'S4': [
        (CONFIRMED, cuts('batches', 'batches')),
        (REFUTED, cuts('units', 'units')),
        (REFUTED, cuts('batches', 'units')),
        (REFUTED, cuts('units', 'batches')),
        (UNDECIDED, cuts('batches', one_in_five)),
    ],
    'S11': [
        (CONFIRMED, shifted_units(2)),
        (REFUTED, shifted_units(30)),
        (UNDECIDED, shifted_units(10, spread=4)),
    ],
    'S44': [
        (CONFIRMED, groups(**EQUAL)),
        (CONFIRMED, groups(**EQUAL | {'of_2': 0.5, 'of_4': 0.99})),
        (CONFIRMED, groups(**EQUAL | {'of_32': 0.947})),
        (REFUTED, groups(**EQUAL | {'of_16': 0.97})),
        (REFUTED, groups(**EQUAL | {'of_32': 0.944})),
        (
            UNDECIDED,
            groups(2, **EQUAL | {'of_128': 0.94, 'of_16': 0.94}),
        ),
        (UNDECIDED, groups(**EQUAL | {'of_32': 0.945})),
    ],
    'S45': [
        (CONFIRMED, image_by_image(0.15, answer=0)),
        (REFUTED, image_by_image(0.15, answer=2)),
        (REFUTED, image_by_image(0.65, answer=0)),
        (UNDECIDED, image_by_image(0.15, answer=1)),
        (UNDECIDED, image_by_image(0.20, answer=0)),
        (UNDECIDED, image_by_image(0.50, answer=0)),
    ],
    'S75': [
        (CONFIRMED, by_statistics({2: 0.54})),
        (CONFIRMED, by_statistics({2: 0.44}, beta_at_2=-62)),
        (REFUTED, by_statistics({})),
        (REFUTED, by_statistics(dict.fromkeys(SIZES, 0.60))),
        (REFUTED, by_statistics({2: 0.9}, beta_at_2=-62, says=2)),
        (UNDECIDED, by_statistics({32: 0.50})),
        (UNDECIDED, by_statistics({4: 0.548})),
    ],
}


NOISE_OF = 10, 11, 12  # seeds: others' networks are not run, which takes long


def noisy(drift, noisy_steps, none_steps=800, noise=0.02, **others):
    """None's drift in a step, and steps to 93 %; others are of noisy, by activation.

    Noise moves the mean of these networks by 1.1 to 1.3 deviations.
    """

    def kind(arm):
        return 'none' if arm.placement == 'none' else arm.norm, arm.activation

    values = {('none', a): none_steps for a in ('relu', 'tanh')}
    values |= {('noisy', a): others.get(a, noisy_steps) for a in ('relu', 'tanh')}
    late = steps(0.93, kind, values, noise)

    def outcome(arm):
        found = late(arm)
        if arm.placement == 'none':
            own = drift[arm.activation] if isinstance(drift, dict) else drift
            own *= math.exp(noise * wiggle(arm.seed))
            found['probe/activation_mean_drift'] = own
        if arm.keep_state and arm.seed in NOISE_OF:
            made = np.random.default_rng(arm.seed)
            found |= state(config.build(arm.fields), made)
        return found

    return outcome


COVARIATE_SHIFT = {
    'S28': [
        (CONFIRMED, noisy(0.001, noisy_steps=950)),
        (REFUTED, noisy(0.6, noisy_steps=400)),
        (REFUTED, noisy(0.001, noisy_steps=950, tanh=500)),
        (UNDECIDED, noisy(100.0, noisy_steps=950)),
        (UNDECIDED, noisy(100.0, noisy_steps=400)),
        (UNDECIDED, noisy(1.0, noisy_steps=400)),
        (UNDECIDED, noisy({'relu': 0.001, 'tanh': 100.0}, noisy_steps=400)),
        (UNDECIDED, noisy(0.001, noisy_steps=640)),
        (UNDECIDED, noisy(0.001, noisy_steps=950, relu=800)),
    ],
}

EFFECTS = AFTER_TRAINING | BATCH_SIZE | COVARIATE_SHIFT
