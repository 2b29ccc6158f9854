"""Which trick of training is the hardest to replace, and does batch norm always help?

Shows: six 3 x 3 convolutions of 8, 8, 16, 16, 32 and 32 channels on 45 000 images of
CIFAR-10, z-scored, relu, batches of 64, 600 steps, less than an epoch. All of batch
norm before the activation, dropout of 10 %, weight decay of 5e-4 and momentum of 0.9;
and each of them left out. Four learning rates with one seed for 250 steps; then five
other seeds, each arm at its own best rate by validation. Four more cells, without and
with batch norm, on 54 000 images of MNIST, layers of 100 units, plain SGD, batches of
100 and 500 steps: three relu layers, three sigmoid layers, one relu layer, and three
relu layers with batches of 4 and 2000 steps; six rates with two seeds, then ten others.
Settles: S2 S21 S23.
Takes: about twelve minutes on two CPU cores. Needs CIFAR-10 and MNIST as TFDS
prepares them.
Expect: in so short a training the convolutional network loses 12 points without batch
norm, 6 without momentum and 1 without the others; the dense nets gain 1 to 3 points by
it, but with batches of 4 they lose 3.
Command: python -m bnjax.claims run S2
"""

from bnjax import config
from bnjax.results import accuracy
from bnjax.verdict import CONFIRMED, REFUTED, UNDECIDED, Verdict, above, every

REDUCED = (
    'L1 and averaged weights, which document 000 names too, are not in the sweep '
    'program. Less than an epoch, a narrow network, one tuning seed and five others.'
)
NONE, BEFORE = 'none', 'before'
ALL = 'nothing'
WITHOUT = {
    ALL: {},
    'batch norm': {'model.placement': NONE},
    'dropout': {'model.dropout_percent': 0},
    'weight decay': {'optimizer.weight_decay': 0.0},
    'momentum': {'optimizer.momentum': 0.0},
}
RATES = {
    **dict.fromkeys(WITHOUT, (0.01, 0.03, 0.1, 0.3)),
    'batch norm': (0.003, 0.01, 0.03, 0.1),
    'momentum': (0.1, 0.3, 1.0, 3.0),
}
TUNING, FINAL = 250, 600
CELLS = {
    '3 relu layers': {},
    '3 sigmoid layers': {'model.activation': 'sigmoid'},
    '1 relu layer': {'model.features': (100,)},
    '3 relu layers, batches of 4': {'batch_size': 4, 'steps': 2000},
}
CELL_RATES = 0.01, 0.03, 0.1, 0.3, 1.0, 3.0
TINY_RATES = 0.001, 0.003, 0.01, 0.03, 0.1, 0.3
POINT, NOTHING = 0.01, 0.003  # of accuracy
MANY, MOST = 4, 3  # of five cells


def get_config(arg=None):
    fields = config.defaults()
    fields.seed = int(arg or 0)
    return fields


def arm(without):
    """The convolutional network with everything but one."""
    return {
        'data.name': 'cifar10',
        'data.preprocess': 'zscore',
        'model.name': 'cnn',
        'model.features': (8, 16, 32),
        'model.placement': BEFORE,
        'model.dropout_percent': 10,
        'optimizer.weight_decay': 5e-4,
        'optimizer.momentum': 0.9,
        'batch_size': 64,
    } | WITHOUT[without]


def cell(name, placement):
    """A fully connected network of ``CELLS``."""
    return {
        'data.name': 'mnist',
        'model.features': (100,) * 3,
        'model.activation': 'relu',
        'model.placement': placement,
        'optimizer.momentum': 0.0,
        'batch_size': 100,
        'steps': 500,
    } | CELLS[name]


def sweep(add, fields):
    for without in WITHOUT:
        for rate in RATES[without]:
            own = {'optimizer.learning_rate': rate, 'seed': fields.seed}
            add(**arm(without), **own, steps=TUNING)
    for name in CELLS:
        rates = TINY_RATES if 'batch_size' in CELLS[name] else CELL_RATES
        for placement in (NONE, BEFORE):
            for rate in rates:
                for seed in range(fields.seed, fields.seed + 2):
                    own = {'optimizer.learning_rate': rate, 'seed': seed}
                    add(**cell(name, placement), **own)


def refine(add, results):
    first = base(results) + 10
    for without in WITHOUT:
        rate = results.where(**arm(without), steps=TUNING).best()
        for seed in range(first, first + 5):
            own = {'optimizer.learning_rate': rate, 'seed': seed, 'steps': FINAL}
            add(**arm(without), **own)
    for name in CELLS:
        for placement in (NONE, BEFORE):
            tuning = range(base(results), base(results) + 2)
            rate = results.where(**cell(name, placement), seed=tuning).best()
            for seed in range(first, first + 10):
                own = {'optimizer.learning_rate': rate, 'seed': seed}
                add(**cell(name, placement), **own)


def base(results):
    return min(results.values_of('seed'))


def final(results, without):
    return results.where(**arm(without), steps=FINAL)


def verdict(results):
    gains = list(gain_by_cell(results).values())
    return [hardest_to_replace(results), more_accurate(results), universal(gains)]


def more_accurate(results):
    gain = final(results, ALL).difference(final(results, 'batch norm'), accuracy)
    effect = (
        'test accuracy of a CIFAR-10 network with dropout, weight decay and momentum, '
        'batch norm - none, each at its best rate'
    )
    return Verdict('S21', above(gain, POINT), effect, gain, (POINT,))


def hardest_to_replace(results):
    """What is lost without batch norm, minus what is lost without another."""
    costs = [
        final(results, without).difference(
            final(results, 'batch norm'), accuracy, cells=3
        )
        for without in ('dropout', 'weight decay', 'momentum')
    ]
    effect = (
        'test accuracy of a CIFAR-10 network without one of dropout, weight decay and '
        'momentum - without batch norm, smallest of the three (Bonferroni)'
    )
    found = every([above(cost, 0.0) for cost in costs])
    return Verdict('S2', found, effect, min(costs, key=lambda c: c.low), (0.0,))


def gain_by_cell(results):
    """Test accuracy with batch norm - without, the CIFAR-10 network first."""
    first, cells = base(results) + 10, 1 + len(CELLS)
    seeds = range(first, first + 10)
    whole, none = final(results, ALL), final(results, 'batch norm')
    gains = {'6 convolutions': whole.difference(none, accuracy, cells)}
    for name in CELLS:
        none, before = (
            results.where(**cell(name, placement), seed=seeds)
            for placement in (NONE, BEFORE)
        )
        gains[name] = before.difference(none, accuracy, cells)
    return gains


def universal(gains):
    """Gained in four of five cells, or next to nothing gained in three of them."""
    helps = sum(gain.low > 0 for gain in gains)
    fails = sum(gain.high < NOTHING for gain in gains)
    found = CONFIRMED if helps >= MANY else REFUTED if fails >= MOST else UNDECIDED
    effect = (
        'test accuracy, batch norm - none, second smallest of five networks '
        '(Bonferroni); with three of them below the second bound it is not universal'
    )
    second = sorted(gains, key=lambda gain: gain.low)[1]
    return Verdict('S23', found, effect, second, (0.0, NOTHING))


def tables(results):
    """Accuracy without each of the tricks, and the gain by batch norm of each cell."""
    left_out = []
    for without in WITHOUT:
        own = final(results, without)
        rate = own.values_of('optimizer.learning_rate')[0]
        left_out.append([without, f'{rate:g}', points(own.mean(accuracy))])
    gains = [[name, points(gain)] for name, gain in gain_by_cell(results).items()]
    return [
        {
            'title': 'Test accuracy of the CIFAR-10 network without one trick',
            'caption': 'Percent with the 95 % interval over five seeds.',
            'head': ['left out', 'learning rate', 'test accuracy'],
            'rows': left_out,
        },
        {
            'title': 'What batch norm adds to the test accuracy',
            'caption': 'Points, batch norm - none, each at its best rate; intervals '
            'hold together with 95 %.',
            'head': ['network', 'gain'],
            'rows': gains,
        },
    ]


def points(mean):
    low, high = 100 * mean.low, 100 * mean.high
    return f'{100 * mean.mean:.2f} [{low:.2f}, {high:.2f}]'
