"""Effects on accuracies, losses and steps, as the rules of the register speak of them.

Of the studies placement, initial_scale and constant_statistics.
"""

import numpy as np
from planted import accuracy, lost, steps, wiggle

from bnjax.verdict import CONFIRMED, REFUTED, UNDECIDED

ACTIVATIONS = 'sigmoid', 'tanh', 'relu', 'leaky_relu'
NETS = [*((a, 3) for a in ACTIVATIONS), ('sigmoid', 10), ('relu', 10)]
WORSE_AFTER = {'none': 0.90, 'before': 0.95, 'after': 0.90}
BETTER_AFTER = {'before': 0.90, 'after': 0.95}


def net(arm):
    return arm.placement, arm.activation, arm.layers


def placed(of, **others):
    """Test accuracy by placement; others are of the first nets, counted off."""
    values = {(place, *n): of[place] for n in NETS for place in of}
    for place, own in others.items():
        values |= {(place, *n): a for n, a in zip(NETS, own, strict=False)}
    return accuracy(net, values)


def steps_of(none, before, noise=0.02):
    """To 93 %, by activation; one number stands for all four."""
    values = {}
    for place, own in (('none', none), ('before', before)):
        own = own if isinstance(own, tuple) else (own,) * 4
        values |= {(place, a, 3): n for a, n in zip(ACTIVATIONS, own, strict=True)}
    return steps(0.93, net, values, noise)


def largest_rate(none, before, nets=NETS, alike=False):
    """The largest rate that trains; seed 0 bears with batch norm half a decade less."""

    def outcome(arm):
        if arm.decides:
            return {}
        largest = none
        if arm.placement != 'none' and net(arm)[1:] in nets:
            largest = before / (1 if arm.seed or alike else 10**0.5)
        return {'test_accuracy': 0.6 if arm.rate < 1.2 * largest else 0.4}

    return outcome


def at_larger_rate(none, before, nets=('sigmoid', 'relu'), noise=0.0005):
    """Accuracy at the best rate without batch norm, 0.1, and at ten times that."""
    values = {
        (place, name, 3, rate): own
        for place, pair in (('none', none), ('before', before))
        for rate, own in zip((0.1, 1.0), pair, strict=True)
        for name in nets
    }
    return accuracy(lambda a: (*net(a), a.rate), values, noise)


def diverged(arm):
    return arm.placement == 'none' and arm.rate == 1.0


def with_norm(sigmoid, relu):
    return placed({}, before=[sigmoid, 0.9, relu])


def spread_of_loss(none, before, nets=('sigmoid', 'relu')):
    """The deviation over seeds of the final training loss."""

    def outcome(arm):
        spread = {'none': none, 'before': before}.get(arm.placement, none)
        spread = spread if arm.activation in nets else 0.03
        return {'train_loss': 0.3 + spread * wiggle(arm.seed)}

    return outcome


def zero_fractions(of):
    """Their spread over units at step 100, and steps that grow with the seed."""

    def outcome(arm):
        if not arm.decides or net(arm) != ('none', 'relu', 3):
            return {}
        spread = np.full((15, 1), 0.2)
        spread[[0, 2]] = 0.1 * wiggle(arm.seed, 2)  # at other steps it says nothing
        spread[1] = of(arm.seed)
        return {'probe/zero_fraction_std': spread}

    order = {seed: 200 + 50 * seed for seed in range(10, 20)}
    late = steps(0.93, lambda arm: arm.seed, order, noise=0)
    return lambda arm: outcome(arm) | late(arm)


PLACEMENT = {
    'S3': [
        (CONFIRMED, placed(WORSE_AFTER)),
        (CONFIRMED, placed(WORSE_AFTER, before=[0.9])),
        (CONFIRMED, placed(WORSE_AFTER, after=[0.902])),
        (REFUTED, placed(WORSE_AFTER, after=[0.96], none=[0.97])),
        (REFUTED, placed(WORSE_AFTER, after=[0.91])),
        (UNDECIDED, placed(WORSE_AFTER, before=[0.9, 0.9])),
    ],
    'S68': [
        (CONFIRMED, placed(BETTER_AFTER, after=[0.85])),
        (REFUTED, placed(BETTER_AFTER, after=[0.85, 0.85])),
        (UNDECIDED, placed(BETTER_AFTER, after=[0.90, 0.90])),
        (UNDECIDED, placed(BETTER_AFTER, after=[0.85, 0.90])),
    ],
    'S20': [
        (CONFIRMED, steps_of(800, 400)),
        (CONFIRMED, steps_of(800, (400, 400, 400, 1200))),
        (CONFIRMED, steps_of(9000, 1000)),  # never reached without it: 1500
        (REFUTED, steps_of(400, 800)),
        (REFUTED, steps_of(800, (400, 400, 800, 800))),
        (UNDECIDED, steps_of(1000, 800)),
        (UNDECIDED, steps_of(800, 400, noise=1.0)),
    ],
    'S33': [
        (CONFIRMED, at_larger_rate((0.90, 0.50), (0.90, 0.85))),
        (CONFIRMED, at_larger_rate((0.90, 0.89), (0.91, 0.85)), lost(diverged)),
        (REFUTED, at_larger_rate((0.90, 0.85), (0.90, 0.50))),
        (
            REFUTED,
            at_larger_rate((0.90, 0.50), (0.90, 0.85), ['relu']),
            at_larger_rate((0.90, 0.85), (0.90, 0.50), ['sigmoid']),
        ),
        (UNDECIDED, at_larger_rate((0.90, 0.80), (0.95, 0.85))),
        (UNDECIDED, at_larger_rate((0.90, 0.60), (0.90, 0.65), noise=0.05)),
    ],
    'S55': [
        (CONFIRMED, largest_rate(0.1, 10.0)),
        (CONFIRMED, largest_rate(0.1, 10.0, NETS[:3])),
        (REFUTED, largest_rate(10.0, 0.1)),
        (REFUTED, largest_rate(1.0, 1.0)),
        (UNDECIDED, largest_rate(0.1, 3.0)),
        (UNDECIDED, largest_rate(0.1, 10.0, NETS[:2])),
        (UNDECIDED, largest_rate(0.1, 10.0, alike=True)),
        (UNDECIDED, largest_rate(1.0, 1.0, alike=True)),
    ],
    'S81': [
        (CONFIRMED, with_norm(sigmoid=0.93, relu=0.95)),
        (REFUTED, with_norm(sigmoid=0.95, relu=0.93)),
        (REFUTED, with_norm(sigmoid=0.95, relu=0.95)),
        (UNDECIDED, with_norm(sigmoid=0.95, relu=0.953)),
    ],
    'M7': [
        (CONFIRMED, spread_of_loss(none=0.1, before=0.035)),
        (REFUTED, spread_of_loss(none=0.05, before=0.085)),
        (REFUTED, spread_of_loss(0.01, 0.1, ['relu'])),
        (UNDECIDED, spread_of_loss(none=0.1, before=0.08)),
        (UNDECIDED, spread_of_loss(none=0.1, before=0.05)),
    ],
    'S5': [
        (CONFIRMED, zero_fractions(lambda seed: seed / 100)),
        (REFUTED, zero_fractions(lambda seed: -seed / 100)),
        (UNDECIDED, zero_fractions(lambda seed: 0.2 + 0.05 * wiggle(seed))),
    ],
}


def by_factor(none, before, noise=0.0005):
    """Test accuracy by the factor of the initial weights; the others have the first."""
    factors = 1.0, 0.01, 0.1, 0.5, 2.0, 10.0, 100.0
    values = {}
    for place, own in (('none', none), ('before', before)):
        own = [*own[1:], *[own[0]] * 7][:6]
        values |= dict(zip([(place, f) for f in factors[1:]], own, strict=True))
    values |= {('none', 1.0): none[0], ('before', 1.0): before[0]}
    return accuracy(lambda a: (a.placement, a.init_scale), values, noise)


INITIAL_SCALE = {
    'S22': [
        (CONFIRMED, by_factor(none=[0.95, 0.5, 0.8], before=[0.95])),
        (REFUTED, by_factor(none=[0.95], before=[0.95, 0.5, 0.8])),
        (CONFIRMED, by_factor(none=[0.95, 0.5], before=[0.95, 0.945])),
        (REFUTED, by_factor(none=[0.95, 0.1], before=[0.95, 0.938])),
        (UNDECIDED, by_factor(none=[0.95, 0.5], before=[0.95, 0.942])),
        (UNDECIDED, by_factor(none=[0.95], before=[0.95])),
        (UNDECIDED, by_factor(none=[0.95], before=[0.95, 0.94], noise=0.01)),
    ],
}


def constant(both, rates=(0.01, 0.03, 0.1, 0.3, 1.0), true=0.9, noise=0.0005):
    """Test accuracy where the gradient takes mean and variance for constants."""
    values = {('constant_statistics', rate): both for rate in rates}
    own = accuracy(lambda a: (a.norm, a.rate), values, noise)
    others = {'batch': true, 'constant_mean': 0.5, 'constant_variance': 0.96}
    rest = accuracy(lambda a: a.norm, others | {'constant_statistics': true}, 0.0005)
    return lambda arm: rest(arm) | own(arm)


CONSTANT_STATISTICS = {
    'S15': [
        (CONFIRMED, constant(0.85)),
        (CONFIRMED, constant(0.888, rates=[0.3])),
        (REFUTED, constant(0.898)),
        (REFUTED, constant(0.95)),
        (UNDECIDED, constant(0.89)),
        (UNDECIDED, constant(0.897)),
        (UNDECIDED, constant(0.895, rates=[0.3])),
        (UNDECIDED, constant(0.85, noise=0.1)),
    ],
}

EFFECTS = PLACEMENT | INITIAL_SCALE | CONSTANT_STATISTICS
