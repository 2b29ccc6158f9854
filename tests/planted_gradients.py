"""Effects on the gradients of deep networks, as the rules of the register have them.

Of the studies gradient_table and vanishing.
"""

import math

import numpy as np
from planted import accuracy, only, prepared, wiggle

from bnjax.verdict import CONFIRMED, REFUTED, UNDECIDED


def document(factor=1.0, noise=0.02, **layers):
    """The document's gradients at iterations 10 to 50, times a factor by layer.

    At other iterations they are something else.
    """
    table = prepared('gradient_table')[0].source.module.DOCUMENT

    def outcome(arm):
        rows = [[float(n) for n in row.split()] for row in table[arm.placement]]
        found = np.full((50, 11), 7.0)
        found[9::10] = rows
        for layer in range(11):
            own = layers.get(f'{arm.placement}_{layer + 1}', factor)
            own *= math.exp(noise * wiggle(arm.seed, (arm.placement, layer)))
            found[9::10, layer] *= own
        return {'probe/gradient_spectral_norm': found}

    return outcome


GRADIENT_TABLE = {
    'S80': [
        (CONFIRMED, document()),
        (CONFIRMED, document(1.1, none_1=0.9, before_11=0.85)),
        (CONFIRMED, document(before_5=1.2, noise=0.12)),
        (REFUTED, document(none_1=2.0)),
        (REFUTED, document(before_11=0.5)),
        (REFUTED, document(2.0)),
        (UNDECIDED, document(before_5=1.32, noise=0.05)),
        (UNDECIDED, document(noise=1.5)),
    ],
}


def at_start(arm):
    return arm.placement, arm.activation, arm.layers


def falls(sigmoid, tanh):
    """The factor a layer by which gradients fall to the first of ten, without it.

    With batch norm, in other depths and in other layers they rise.
    """
    values = {('none', 'sigmoid', 10): sigmoid, ('none', 'tanh', 10): tanh}

    def outcome(arm):
        factor = values.get(at_start(arm), 0.5)
        factor *= 1 + 0.02 * wiggle(arm.seed, at_start(arm))
        layers = np.append(factor ** np.arange(arm.layers, dtype=float), 1e3)
        return {'probe/gradient_norm': layers}

    return only(lambda arm: arm.images, outcome)


def first_over_last(sigmoid=0.3, tanh=0.3, relu=-0.3, linear=0.0):
    """Its log10 of fifty layers with batch norm; elsewhere it is -8."""
    names = 'sigmoid', 'tanh', 'relu', 'identity'
    values = {
        ('before', name, 50): own
        for name, own in zip(names, (sigmoid, tanh, relu, linear), strict=True)
    }

    def outcome(arm):
        own = values.get(at_start(arm), -8) + 0.1 * wiggle(arm.seed, at_start(arm))
        return {'probe/gradient_norm': ends(own, arm.layers)}

    return only(lambda arm: arm.images, outcome)


def ends(ratio, layers):
    """Gradients with this log10 of the first over the last layer; the output's is 7."""
    return np.append(10 ** np.linspace(ratio, 0, layers), 7)


def trains(arm):
    return arm.placement, arm.rule, arm.frozen


def active(none, before, noise=0.001, vanished=(-5, -5)):
    """Share in [.1, .9] and slope, at the start and after 500 steps: four numbers.

    And the log10 of the first over the last gradient, without batch norm, at both.
    """
    values = {('none', 'rmsprop', 0): none, ('before', 'rmsprop', 0): before}

    def outcome(arm):
        shares, slopes = np.array(values[trains(arm)], float).reshape(2, 2)
        own = noise * wiggle(arm.seed, trains(arm))
        other = [0.5]  # at step 1000, which does not count
        return {
            'probe/middle_fraction': np.append(shares + own, other)[:, None],
            'probe/activation_slope': np.append(slopes + own, other)[:, None],
            'probe/gradient_norm': over_time(arm, vanished),
        }

    return only(lambda arm: arm.decides and trains(arm) in values, outcome)


def over_time(arm, ratios):
    own = 0.1 * wiggle(arm.seed, 'gradient')
    own = own if arm.placement == 'none' else own + 5
    return np.array([ends(ratio + own, arm.layers) for ratio in (*ratios, 0)])


def outside(start, later, layer=3, vanished=(-5, -5)):
    """The share outside [.1, .9] in one layer, in others none, without batch norm."""

    def outcome(arm):
        inside = np.full((3, arm.layers), 0.999)
        own = 0.005 * wiggle(arm.seed)
        inside[:, layer] = 1 - np.array([start, later, 0.9]) + own
        return {
            'probe/middle_fraction': inside,
            'probe/gradient_norm': over_time(arm, vanished),
        }

    return only(lambda arm: arm.decides and trains(arm) == RMSPROP, outcome)


RMSPROP = 'none', 'rmsprop', 0


def frozen(rmsprop, sgd, noise=0.0005):
    """Test accuracy, all trained and seven left as drawn; of others it is 1 or 0."""
    values = {('none', 'rmsprop', 4): 0.2, ('before', 'rmsprop', 4): 0.2}
    values |= {('before', 'rmsprop', 0): 0.9, ('before', 'rmsprop', 7): 0.2}
    for rule, pair in (('rmsprop', rmsprop), ('sgd', sgd)):
        values |= {('none', rule, n): a for n, a in zip((0, 7), pair, strict=True)}
    return accuracy(trains, values, noise)


LESS, MORE = (0.8, 0.7, 0.15, 0.10), (0.9, 0.9, 0.22, 0.20)
VANISHING = {
    'S7': [
        (CONFIRMED, falls(sigmoid=3.0, tanh=2.0)),
        (REFUTED, falls(sigmoid=0.4, tanh=0.4)),
        (REFUTED, falls(sigmoid=3.0, tanh=1.0)),
        (REFUTED, falls(sigmoid=1.0, tanh=2.0)),
        (UNDECIDED, falls(sigmoid=3.0, tanh=1.5)),
        (UNDECIDED, falls(sigmoid=2.0, tanh=2.0)),
        (UNDECIDED, falls(sigmoid=1.5, tanh=2.0)),
    ],
    'S29': [
        (CONFIRMED, first_over_last()),
        (REFUTED, first_over_last(relu=4.5)),
        (REFUTED, first_over_last(sigmoid=-3.0)),
        (REFUTED, first_over_last(linear=2.0)),
        (UNDECIDED, first_over_last(tanh=1.0)),
        (UNDECIDED, first_over_last(tanh=-1.0)),
    ],
    'S19': [
        (CONFIRMED, active(none=LESS, before=MORE)),
        (CONFIRMED, active(none=LESS, before=MORE, vanished=(0, 0))),
        (REFUTED, active(none=MORE, before=LESS)),
        (REFUTED, active(none=(*LESS[:2], 0.24, 0.10), before=MORE, vanished=(-5, 0))),
        (UNDECIDED, active(none=MORE, before=LESS, vanished=(0, -5))),
        (UNDECIDED, active(none=(0.8, 0.95, 0.15, 0.10), before=MORE)),
        (UNDECIDED, active(none=(0.95, 0.7, 0.15, 0.10), before=MORE)),
        (UNDECIDED, active(none=(0.8, 0.7, 0.15, 0.20), before=MORE)),
        (UNDECIDED, active(none=LESS, before=MORE, noise=0.2)),
    ],
    'E26': [
        (CONFIRMED, outside(start=0.3, later=0.3)),
        (CONFIRMED, outside(start=0.0, later=0.3)),
        (CONFIRMED, outside(start=0.3, later=0.0, layer=9)),
        (REFUTED, outside(start=0.02, later=0.02)),
        (REFUTED, outside(start=0.02, later=0.3, vanished=(-5, -2))),
        (REFUTED, outside(start=0.3, later=0.02, vanished=(-2, -4))),
        (UNDECIDED, outside(start=0.3, later=0.3, vanished=(-2, -2))),
        (UNDECIDED, outside(start=0.1, later=0.02)),
        (UNDECIDED, outside(start=0.3, later=0.3, vanished=(-3, -3))),
    ],
    'S79': [
        (CONFIRMED, frozen(rmsprop=(0.9, 0.9), sgd=(0.9, 0.9))),
        (CONFIRMED, frozen(rmsprop=(0.9, 0.95), sgd=(0.4, 0.1))),
        (REFUTED, frozen(rmsprop=(0.9, 0.5), sgd=(0.9, 0.5))),
        (REFUTED, frozen(rmsprop=(0.9, 0.9), sgd=(0.9, 0.5))),
        (REFUTED, frozen(rmsprop=(0.6, 0.5), sgd=(0.4, 0.4))),
        (UNDECIDED, frozen(rmsprop=(0.9, 0.89), sgd=(0.9, 0.9))),
        (UNDECIDED, frozen(rmsprop=(0.4, 0.1), sgd=(0.4, 0.4))),
    ],
}

EFFECTS = GRADIENT_TABLE | VANISHING
