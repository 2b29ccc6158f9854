"""Effects of preprocessing, and of norms in recurrent networks, by the register.

Of the studies preprocessing and recurrent.
"""

import numpy as np
from planted import accuracy, only, steps, tuned

from bnjax.verdict import CONFIRMED, REFUTED, UNDECIDED

PREPROCESSED = 'raw', 'unit', 'center', 'zscore', 'zca'


def inputs(arm):
    """The images, the network, and what is done to their pixels."""
    return arm.data, arm.network, arm.preprocess


def speeds(mnist, cifar=None, noise=0.005):
    """Steps to 92 % of MNIST and 30 % of CIFAR-10: raw, unit, centre, z-score, ZCA."""
    parts = (0.92, 'mnist', 'mlp', mnist), (0.3, 'cifar10', 'cnn', cifar or mnist)
    ways = [
        steps(target, inputs, named(data, net, own), noise)
        for target, data, net, own in parts
    ]
    return lambda arm: ways[0](arm) | ways[1](arm)


def named(data, net, numbers):
    pairs = zip(PREPROCESSED, numbers, strict=True)
    return {(data, net, arm): number for arm, number in pairs}


def ends(mnist, cifar=None):
    """Test accuracy: raw, unit, centre, z-score, ZCA."""
    own = named('mnist', 'mlp', mnist) | named('cifar10', 'cnn', cifar or mnist)
    return accuracy(inputs, own)


def planes(rho, first=None, share=0.5):
    """Shares of units that split the data, and test accuracies that go with them.

    Rho is of all layers alike; first, by data set or of both, of the first layer, which
    the others contradict. Arms with a larger share end worse, all in all.
    """

    def outcome(arm):
        drawn = np.random.default_rng([arm.seed, len(arm.preprocess), arm.layers])
        one, other = drawn.normal(size=2)
        link = of(rho if first is None else first, arm)
        layers = np.full(arm.layers * (2 if arm.network == 'cnn' else 1), one)
        layers[1:] *= 1 if first is None else -10
        apart = 0.05 * (arm.preprocess in PREPROCESSED[2:])
        right = link * one + (1 - link**2) ** 0.5 * other
        return {
            'test_accuracy': 0.5 - apart + 0.01 * right,
            'probe/split_fraction': of(share, arm) + apart + 0.001 * layers,
        }

    return only(lambda arm: arm.decides, outcome)


def of(number, arm):
    return number[arm.data] if isinstance(number, dict) else number


FASTER = 900, 700, 600, 500, 400  # each step is faster by 1.17 or more
BETTER = 0.80, 0.81, 0.82, 0.83, 0.84
LEVEL = 0.80, 0.81, 0.82, 0.83, 0.83
PREPROCESSING = {
    'S39': [
        (CONFIRMED, speeds((600, 400, 400, 300, 400))),
        (CONFIRMED, speeds((5000, 400, 400, 300, 400))),  # never reached with raw ones
        (REFUTED, speeds((300, 400, 400, 600, 400))),
        (REFUTED, speeds((600, 400, 400, 300, 400), (400, 400, 400, 400, 400))),
        (REFUTED, speeds((400, 400, 400, 400, 400), (600, 400, 400, 300, 400))),
        (UNDECIDED, speeds((600, 400, 400, 300, 400), (500, 400, 400, 400, 400))),
        (UNDECIDED, speeds((600, 400, 400, 300, 400), noise=1.0)),
    ],
    'S61': [
        (CONFIRMED, speeds((400, 600, 400, 400, 400))),
        (REFUTED, speeds((400, 400, 600, 600, 600))),
        (REFUTED, speeds((400, 600, 400, 400, 700))),
        (REFUTED, speeds((400, 600, 400, 400, 400), (400, 600, 700, 400, 400))),
        (UNDECIDED, speeds((400, 600, 400, 600, 400))),
        (UNDECIDED, speeds((400, 550, 400, 500, 400))),
    ],
    'S67': [
        (CONFIRMED, speeds(FASTER), ends(BETTER)),
        (REFUTED, speeds(FASTER[::-1]), ends(BETTER)),
        (REFUTED, speeds(FASTER), ends(BETTER[::-1])),
        (REFUTED, speeds(FASTER, (900, 700, 600, 500, 600)), ends(BETTER)),
        (REFUTED, speeds(FASTER), ends(BETTER, (0.8, 0.83, 0.82, 0.84, 0.85))),
        (UNDECIDED, speeds((900, 700, 600, 500, 500)), ends(BETTER)),
        (UNDECIDED, speeds((900, 550, 500, 400, 300)), ends(BETTER)),
        (UNDECIDED, speeds(FASTER), ends(BETTER, LEVEL)),
    ],
    'S18': [
        (CONFIRMED, planes(0.5)),
        (CONFIRMED, planes(0.8, share={'mnist': 0.99, 'cifar10': 0.5})),
        (REFUTED, planes(-0.8)),
        (REFUTED, planes(0.0)),
        (REFUTED, planes(0.8, share=0.99)),
        (UNDECIDED, planes(0.3)),
    ],
    'S63': [
        (CONFIRMED, planes(None, first=0.8)),
        (REFUTED, planes(None, first=-0.8)),
        (REFUTED, planes(None, first={'mnist': 0.8, 'cifar10': -0.5})),
        (REFUTED, planes(None, first={'mnist': -0.5, 'cifar10': 0.8})),
        (UNDECIDED, planes(None, first={'mnist': 0.8, 'cifar10': 0.3})),
    ],
}


def normed(arm):
    """The recurrent network, and what its norm does."""
    if arm.placement == 'none':
        return arm.network, 'none'
    if arm.norm == 'layer' or arm.statistics == 'shared' or arm.scale != 1:
        return arm.network, 'other'
    return arm.network, arm.epsilon_of_norm


def recurrent(rnn, lstm, better=1e-5, noise=0.0005):
    """What batch norm of each step adds with the epsilon that is better in tuning.

    With the other one it does harm, with shared statistics and with layer norm good.
    """
    values = {}
    for network, gain in (('rnn', rnn), ('lstm', lstm)):
        own = {'none': 0.85, 'other': 0.9 if gain < 0.01 else 0.5}
        own |= {1e-5: 0.7 if gain > 0.003 else 0.9, 1e-3: 0.7 if gain > 0.003 else 0.9}
        own[better] = 0.85 + gain
        values |= {(network, kind): right for kind, right in own.items()}
    found = accuracy(normed, values, noise)

    def validated(arm):
        own = tuned(arm).get('validation_accuracy', 0.5)
        return {'validation_accuracy': own + 0.05 * (normed(arm)[1] == better)}

    return lambda arm: found(arm) | validated(arm)


RECURRENT = {
    'S31': [
        (CONFIRMED, recurrent(0.005, 0.005)),
        (CONFIRMED, recurrent(0.02, 0.02, better=1e-3)),
        (REFUTED, recurrent(-0.02, -0.02)),
        (REFUTED, recurrent(0.02, 0.0)),
        (REFUTED, recurrent(0.0, 0.02, better=1e-3)),
        (UNDECIDED, recurrent(0.02, 0.003)),
        (UNDECIDED, recurrent(0.02, 0.02, noise=0.05)),
    ],
}

EFFECTS = PREPROCESSING | RECURRENT
