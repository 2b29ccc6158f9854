"""Effects of batch norm beside other tricks of training, as the register has them.

Of the studies regularisation and cifar_cnn.
"""

import math

import numpy as np
from planted import accuracy, only, wiggle

from bnjax.verdict import CONFIRMED, REFUTED, UNDECIDED

FEW, MANY = 1024, 10_240
HALVINGS = {FEW: (9, 16), MANY: (7, 8)}  # of the loss, none's and batch norm's


def regularised(arm):
    """The images and what regularises, of a trial of regularisation."""
    if arm.weight_decay:
        return arm.images, 'decay'
    if arm.dropout_percent:
        return arm.images, f'dropout {arm.dropout_percent}'
    return arm.images, arm.group if arm.placement == 'before' else 'none'


def at_equal_loss(few, many, noise=0.0005):
    """What batch norm adds to accuracy at training losses of .1, .03 and .01.

    It halves the loss sooner. At losses far from these it does harm, and accuracies
    rise as the loss falls, whatever is done.
    """
    gains = {(FEW, 128): few, (MANY, 128): many}

    def outcome(arm):
        kind = regularised(arm)
        gain = gains.get(kind, 0.0)
        gain = gain if isinstance(gain, tuple) else (gain,) * 3
        own = noise * wiggle(arm.seed, kind)
        halvings = HALVINGS[arm.images][kind in gains]

        def loss(at):
            return 0.5 ** (halvings * at / at[-1])

        def right(at):
            added = np.full(len(at), -0.05 * (kind in gains))
            for target, here in zip((0.1, 0.03, 0.01), gain, strict=True):
                added[abs(np.log(loss(at) / target)) < math.log(1.26)] = here
            return 0.5 - 0.04 * np.log(loss(at)) + added + own

        return {'train_loss': loss, 'test_accuracy': right}

    return only(lambda arm: arm.decides, outcome)


def of_few(noise=0.0005, **others):
    """Test accuracy on 1024 images: of batch norm, and of what else is given."""
    names = {'batch_norm': 128, 'dropout_20': 'dropout 20', 'dropout_50': 'dropout 50'}
    names |= {f'groups_of_{n}': n for n in (2, 8, 32)}
    values = {(FEW, names.get(name, name)): own for name, own in others.items()}
    return accuracy(regularised, values, noise)


def best_by_validation(best):
    """Of dropout and weight decay."""

    def outcome(arm):
        right = 0.9 if regularised(arm)[1] == best else 0.8
        return {'validation_accuracy': right}

    return only(lambda arm: arm.decides, outcome)


def test_loss(none, batch_norm, rise, noise=0.02):
    """The epoch of the least test loss, and how far it rises then, as a share."""

    def outcome(arm):
        where = none if arm.placement == 'none' else batch_norm
        where *= np.exp(noise * wiggle(arm.seed, regularised(arm)))
        final = 1 + rise + 0.1 * noise * wiggle(arm.seed)

        def loss(at):
            epoch = at * 50 / at[-1]
            slope = (final - 1) / (50 - where)
            later = 1 + slope * (epoch - where)
            return 0.3 * np.where(epoch < round(where), 2 - epoch / where, later)

        return {'test_loss': loss}

    return only(lambda arm: arm.decides and arm.images == FEW, outcome)


EQUAL_GROUPS = {'groups_of_2': 0.9, 'groups_of_8': 0.9, 'groups_of_32': 0.9}
DROPOUT = best_by_validation('dropout 20')
# Better in the test, but not by validation.
OTHERS = {'decay': 0.96, 'dropout_50': 0.96}
REGULARISATION = {
    'S6': [
        (CONFIRMED, at_equal_loss(few=0.01, many=0.01)),
        (CONFIRMED, at_equal_loss(few=0.005, many=0.005)),
        (REFUTED, at_equal_loss(few=-0.01, many=-0.01)),
        (REFUTED, at_equal_loss(few=0.0, many=0.01)),
        (REFUTED, at_equal_loss(few=0.01, many=0.0)),
        (UNDECIDED, at_equal_loss(few=0.01, many=0.003)),
        (UNDECIDED, at_equal_loss(few=(0.01, 0, 0), many=0.01)),
        (UNDECIDED, at_equal_loss(few=0.01, many=(0, 0.01, 0))),
        (UNDECIDED, at_equal_loss(few=0.01, many=(0, 0, 0.01))),
        (UNDECIDED, at_equal_loss(few=0.01, many=0.01, noise=0.03)),
    ],
    'S30': [
        (CONFIRMED, of_few(**EQUAL_GROUPS | {'groups_of_8': 0.92}, batch_norm=0.9)),
        (REFUTED, of_few(**EQUAL_GROUPS, batch_norm=0.92)),
        (REFUTED, of_few(**EQUAL_GROUPS, batch_norm=0.9)),
        (UNDECIDED, of_few(**EQUAL_GROUPS | {'groups_of_2': 0.902}, batch_norm=0.9)),
    ],
    'S41': [
        (CONFIRMED, test_loss(none=10, batch_norm=20, rise=0.12)),
        (REFUTED, test_loss(none=20, batch_norm=10, rise=0.5)),
        (REFUTED, test_loss(none=10, batch_norm=20, rise=0.09)),
        (UNDECIDED, test_loss(none=10, batch_norm=10, rise=0.5, noise=0.2)),
        (UNDECIDED, test_loss(none=10, batch_norm=20, rise=0.1)),
    ],
    'S59': [
        (CONFIRMED, DROPOUT, of_few(batch_norm=0.90, dropout_20=0.92)),
        (REFUTED, DROPOUT, of_few(**OTHERS, batch_norm=0.92, dropout_20=0.90)),
        (UNDECIDED, DROPOUT, of_few(**OTHERS, batch_norm=0.92, dropout_20=0.92)),
    ],
    'M8': [
        (
            CONFIRMED,
            DROPOUT,
            of_few(**OTHERS, none=0.90, batch_norm=0.92, dropout_20=0.92),
        ),
        (CONFIRMED, DROPOUT, of_few(none=0.90, batch_norm=0.92, dropout_20=0.916)),
        (CONFIRMED, DROPOUT, of_few(none=0.90, batch_norm=0.92, dropout_20=0.924)),
        (REFUTED, DROPOUT, of_few(none=0.90, batch_norm=0.92, dropout_20=0.926)),
        (REFUTED, DROPOUT, of_few(none=0.92, batch_norm=0.92, dropout_20=0.92)),
        (UNDECIDED, DROPOUT, of_few(none=0.90, batch_norm=0.92, dropout_20=0.91)),
        (UNDECIDED, DROPOUT, of_few(none=0.90, batch_norm=0.92, dropout_20=0.925)),
        (UNDECIDED, DROPOUT, of_few(none=0.90, batch_norm=0.92, dropout_20=0.915)),
        (UNDECIDED, DROPOUT, of_few(none=0.917, batch_norm=0.92, dropout_20=0.92)),
    ],
}


def left_out(arm):
    """What the CIFAR-10 network does without, or which of the dense ones it is."""
    if arm.data == 'mnist':
        return arm.placement, arm.activation, arm.layers, arm.batch_size
    if arm.placement == 'none':
        return 'batch norm'
    if not arm.dropout_percent:
        return 'dropout'
    if not arm.weight_decay:
        return 'decay'
    return 'all' if arm.fields['optimizer.momentum'] else 'momentum'


def without(noise=0.0005, **values):
    named = {name.replace('_', ' '): own for name, own in values.items()}
    return accuracy(left_out, named, noise)


def gains(convolutional, *dense, noise=0.0005):
    """Test accuracy with batch norm - without it, in five networks."""
    nets = ('relu', 3, 100), ('sigmoid', 3, 100), ('relu', 1, 100), ('relu', 3, 4)
    values = {'batch norm': 0.9, 'all': 0.9 + convolutional}
    values |= {('none', *net): 0.9 for net in nets}
    pairs = zip(nets, dense, strict=True)
    values |= {('before', *net): 0.9 + gain for net, gain in pairs}
    return accuracy(left_out, values, noise)


CIFAR_CNN = {
    'S2': [
        (CONFIRMED, without(batch_norm=0.6, dropout=0.7, decay=0.7, momentum=0.605)),
        (REFUTED, without(batch_norm=0.7, dropout=0.6, decay=0.6, momentum=0.6)),
        (REFUTED, without(batch_norm=0.6, dropout=0.7, decay=0.7, momentum=0.55)),
        (REFUTED, without(batch_norm=0.6, dropout=0.55, decay=0.7, momentum=0.7)),
        (REFUTED, without(batch_norm=0.6, dropout=0.7, decay=0.55, momentum=0.7)),
        (UNDECIDED, without(batch_norm=0.6, dropout=0.7, decay=0.7, momentum=0.6)),
    ],
    'S21': [
        (CONFIRMED, without(all=0.65, batch_norm=0.60)),
        (REFUTED, without(all=0.60, batch_norm=0.65)),
        (REFUTED, without(all=0.60, batch_norm=0.60)),
        (UNDECIDED, without(all=0.61, batch_norm=0.60)),
        (UNDECIDED, without(all=0.65, batch_norm=0.60, noise=0.05)),
    ],
    'S23': [
        (CONFIRMED, gains(0.02, 0.02, 0.02, 0.02, -0.02)),
        (CONFIRMED, gains(-0.02, 0.02, 0.02, 0.02, 0.02)),
        (REFUTED, gains(0.02, 0.02, -0.02, -0.02, -0.02)),
        (REFUTED, gains(-0.02, 0.001, 0.001, 0.02, 0.02, noise=0.001)),
        (UNDECIDED, gains(0.02, 0.02, 0.02, -0.02, -0.02)),
        (UNDECIDED, gains(0.02, 0.02, 0.02, 0.0, 0.0)),
        (UNDECIDED, gains(0.02, 0.02, *[0.0015] * 3, noise=0.0013)),
        (UNDECIDED, gains(0.003, 0.003, 0.003, 0.003, 0.003, noise=0.003)),
    ],
}

EFFECTS = REGULARISATION | CIFAR_CNN
